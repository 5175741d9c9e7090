"""Spoken episodes for the demo: espeak-ng's voice, cut at known samples, and what a publisher would send with it.

Guarantees: the same bytes on every run of one machine. The synthesiser keeps state between sentences and draws random
numbers, so all scripts are read in one fixed order by a fresh child process with a fixed seed; a crash of the C library
costs that child only. Costs about 3 s for ten minutes of speech.
"""

import ctypes
import functools
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from pipeline.demo import texts

SAMPLE_RATE = 22_050
"""Hz; what espeak-ng synthesises at."""

LEAD_S = 0.4  # silence before the first sentence and after the last
PAUSE_S = 0.45  # between two sentences, on top of what the voice itself leaves

Format = Literal["mp3", "opus", "wav"]

_CODECS: dict[Format, tuple[str, str, int, dict[str, str]]] = {  # container, codec, sample rate (Hz), fastest setting
    "mp3": ("mp3", "libmp3lame", SAMPLE_RATE, {"compression_level": "7"}),
    "opus": ("ogg", "libopus", 24_000, {"compression_level": "0"}),
    "wav": ("wav", "pcm_s16le", SAMPLE_RATE, {}),
}


@dataclass(frozen=True, kw_only=True)
class Cue:
    """A sentence and when it is said."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A script as it was read: `pcm` is mono int16 (samples,) at `SAMPLE_RATE`."""

    script: texts.Script
    pcm: NDArray[np.int16]
    cues: tuple[Cue, ...]

    @property
    def duration_s(self) -> float:
        """Length of the audio."""
        return len(self.pcm) / SAMPLE_RATE


@functools.cache
def episodes() -> dict[str, Episode]:
    """Every script of `texts`, read aloud, by name; RuntimeError with espeak-ng's own words if the voice fails."""
    # -P: a folder called pipeline where the user happens to be is not ours
    command = [sys.executable, "-P", "-c", "from pipeline.demo import speech; speech.read_all()"]
    root = str(Path(__file__).resolve().parents[2])
    child = subprocess.run(
        command,
        capture_output=True,
        # A hang of the C library ends as an error; reading takes 3 s.
        timeout=120,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))},
    )
    if child.returncode:
        message = child.stderr.decode(errors="replace").strip()
        raise RuntimeError(f"espeak-ng ended with status {child.returncode}: {message}")
    spoken = np.load(io.BytesIO(child.stdout), allow_pickle=False)
    return {
        script.name: _join(script, [spoken[f"{script.name}/{i}"] for i in range(len(script.sentences))])
        for script in texts.SCRIPTS
    }


def encode(pcm: NDArray[np.int16], kind: Format) -> bytes:
    """Mono int16 at `SAMPLE_RATE` as an MP3 (with the Xing/Info header that tells its length), Ogg Opus or WAV file."""
    container_name, codec, rate_hz, options = _CODECS[kind]
    file = io.BytesIO()
    # bitexact keeps random stream serials and build names out of the file
    with av.open(file, "w", format=container_name, container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="mono", options=options)
        assert isinstance(stream, AudioStream), codec
        if kind != "wav":
            stream.bit_rate = 32_000
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.time_base = Fraction(1, SAMPLE_RATE)
        frame.pts = 0
        container.mux(stream.encode(frame))  # PyAV resamples and cuts to the codec's frames
        container.mux(stream.encode(None))
    return file.getvalue()


def read_all() -> None:
    """Body of the child process: write every sentence of every script to stdout, as an .npz of int16 arrays."""
    voice = _Voice()
    spoken = {
        f"{script.name}/{i}": voice.say(sentence, script)
        for script in texts.SCRIPTS
        for i, sentence in enumerate(script.sentences)
    }
    file = io.BytesIO()  # an archive is written with seeks, which a pipe has not
    np.savez(file, allow_pickle=False, **spoken)
    sys.stdout.buffer.write(file.getvalue())


def _join(script: texts.Script, sentences: list[NDArray[np.int16]]) -> Episode:
    """One waveform with pauses; a cue spans exactly the samples of its sentence."""
    lead = _silence(LEAD_S)
    pause = _silence(PAUSE_S)
    parts = [lead]
    cues = []
    start = len(lead)
    for text, samples in zip(script.sentences, sentences, strict=True):
        end = start + len(samples)
        cues.append(Cue(start_s=start / SAMPLE_RATE, end_s=end / SAMPLE_RATE, text=text))
        parts += [samples, pause]
        start = end + len(pause)
    return Episode(script=script, pcm=np.concatenate([*parts, lead]), cues=tuple(cues))


def _silence(seconds: float) -> NDArray[np.int16]:
    return np.zeros(round(seconds * SAMPLE_RATE), np.int16)


_QUIET = 64  # of 32,768, or -54 dB: below it the voice fades out, and a cue would be longer than its sentence
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class _Voice:
    """The espeak-ng library (speak_lib.h); its state belongs to the process, so one process makes one of these."""

    AUDIO_OUTPUT_SYNCHRONOUS = 2
    POS_CHARACTER = 1
    CHARS_UTF8 = 1
    RATE = 1
    PITCH = 3

    def __init__(self) -> None:
        import espeakng_loader  # only the child needs it

        self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
        data = os.fsencode(espeakng_loader.get_data_path())
        rate_hz = self._lib.espeak_Initialize(self.AUDIO_OUTPUT_SYNCHRONOUS, 0, data, 0)
        if rate_hz != SAMPLE_RATE:
            raise RuntimeError(f"espeak_Initialize returned {rate_hz} where {SAMPLE_RATE} Hz was expected")
        self._chunks: list[NDArray[np.int16]] = []
        self._callback = _CALLBACK(self._take)  # kept, or ctypes frees it while C holds it
        self._lib.espeak_SetSynthCallback(self._callback)
        # Any seed, and always this one.
        self._lib.espeak_ng_SetRandSeed(1)

    def _take(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: int) -> int:
        if samples and count > 0:
            # A copy: C writes the next chunk into the same buffer.
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, sentence: str, script: texts.Script) -> NDArray[np.int16]:
        """A sentence as int16 (samples,) without the silence around it."""
        self._chunks.clear()
        # Anew for each sentence: a script has its own voice, speed and pitch.
        if self._lib.espeak_SetVoiceByName(script.voice.encode()):
            raise RuntimeError(f"espeak-ng has no voice {script.voice!r}")
        self._lib.espeak_SetParameter(self.RATE, script.speed_wpm, 0)
        self._lib.espeak_SetParameter(self.PITCH, script.pitch, 0)
        text = sentence.encode() + b"\0"
        size = ctypes.c_size_t(len(text))
        status = self._lib.espeak_Synth(text, size, 0, self.POS_CHARACTER, 0, self.CHARS_UTF8, None, None)
        self._lib.espeak_Synchronize()
        if status or not self._chunks:
            raise RuntimeError(f"espeak_Synth returned {status} for {sentence!r}")
        pcm = np.concatenate(self._chunks)
        loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > _QUIET)
        return pcm[loud[0] : loud[-1] + 1]
