"""Every kind of audio file that the public stumbled over, to the value that is right."""

import re

import numpy as np
import pytest

from pipeline.media.audio import decode_audio
from pipeline.media.error import MediaError
from tests.media.audio_kinds import RATE, Kind, kinds

KINDS = list(kinds())


def level(samples: np.ndarray) -> float:
    """Amplitude of a tone, in its middle."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return float(np.sqrt(2 * np.mean(np.square(middle))))


def pitch_hz(samples: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * RATE / len(samples))


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_a_kind(kind: Kind) -> None:
    data = kind.make()
    speaks = None if kind.language is None else lambda tag: tag == kind.language
    if kind.reason is None:
        wave = decode_audio(data, RATE, speaks=speaks)
        assert wave.duration_s == pytest.approx(kind.seconds, abs=0.15)
        assert abs(pitch_hz(wave.samples) - 440) < 3
        assert level(wave.samples) == pytest.approx(kind.level, rel=0.07)
        return
    with pytest.raises(MediaError) as caught:
        decode_audio(data, RATE, speaks=speaks)
    assert caught.value.reason == kind.reason and kind.words in caught.value.detail
    assert not re.search(r"0x|\\x|<|Errno|\berror\b|[0-9a-f]{8}|of 0\.00 s", caught.value.detail)
