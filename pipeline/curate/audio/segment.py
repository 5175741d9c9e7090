"""From an episode and its timed transcript to clips: a few seconds of sound with the words said in it.

A clip never cuts a cue: neighbouring cues are joined up to `max_s`, overlapping ones always, and the result is trimmed
to where somebody speaks. Every cue with words ends in exactly one clip. Cost: one decode and one pass of WebRTC's
voice detector, which tells silence from sound well and speech from music or noise badly: a gate, not a judge.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from pipeline.curate.stage import Leave, Row, Split, left
from pipeline.curate.text.cues import Cue
from pipeline.curate.text.labels import said
from pipeline.curate.text.transcripts import read_transcript
from pipeline.ranges import check_range
from pipeline.records import CLIP, key_of

if TYPE_CHECKING:
    from pipeline.media.audio import Waveform

# The longest of the frames that WebRTC's detector takes (10, 20, 30 ms), and the rates that it takes.
FRAME_S = 0.03
_VAD_RATES = (8000, 16000, 32000, 48000)
# A shade below the top of 16 bits (32767 / 32768): lossy codecs bend what was clipped.
_FULL_SCALE = 0.999
# Stands for silence, whose level has no logarithm. Below the rounding noise of 16 bits (-101 dB).
_FLOOR_DB = -120.0
_HOPELESS = 4  # times max_s: a clip that no threshold would let in, whose audio could fill the memory
# The transcripts too: who takes one back means the clips as well.
_FROM_EPISODE = (
    *("url", "page_url", "license", "source", "extra", "language", "input_key"),
    *("transcript_url", "more_transcripts"),
)


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of an episode and the words said in it."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, kw_only=True)
class CutClips(Split):
    """An episode (`audio` and `transcript`) becomes itself, without its audio, and a row of unit clip per clip.

    Leaves as failed with the reasons of `decode_episode` and `read_transcript`. A clip whose cues lie outside the audio
    is dropped as `clip_outside_audio`, one of more than four times `max_s` as `clip_too_long`.
    """

    sample_rate: int = 24_000  # of the clips, in Hz
    max_s: float = 15.0  # seconds: cues are joined while the clip stays shorter
    max_gap_s: float = 0.6  # seconds: a longer pause ends a clip; ours: pauses within a sentence are mostly shorter
    pad_s: float = 0.1  # seconds around speech: soft consonants begin before the detector hears them
    vad_mode: int = 2  # WebRTC's, from 0 to 3: 0 calls most sounds speech, 3 the fewest
    max_duration_s: float = 3 * 3600.0  # seconds: longer episodes are dropped
    batch_rows: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range(self, "vad_mode", low=0, high=3)
        check_range(self, "sample_rate", "max_s", "max_duration_s", above=0)

    def split(self, row: Row) -> Iterator[Row]:
        """The episode, then its clips in order of time."""
        from pipeline.curate.audio.decode import decode_episode  # PyAV: what only reads a config does without

        cues = read_transcript(row["transcript"])
        wave = decode_episode(row["audio"], self.sample_rate, self.max_duration_s, row.get("language"))
        speech = speech_frames(wave, self.vad_mode)
        yield (
            row
            | {"audio": None, "duration_s": wave.duration_s, "sample_rate": wave.sample_rate}
            | loudness(wave)
            | {"speech_ratio": _share(speech)}
        )
        spans = join_cues(cues, max_s=self.max_s, max_gap_s=self.max_gap_s)
        for n, span in enumerate(spans):
            # Padding ends halfway to the neighbours, so that no two clips share a sample.
            earliest_s = (spans[n - 1].end_s + span.start_s) / 2 if n else 0.0
            latest_s = (span.end_s + spans[n + 1].start_s) / 2 if n + 1 < len(spans) else math.inf
            yield self._clip(row, wave, speech, span, earliest_s, latest_s)

    def _clip(
        self, episode: Row, wave: "Waveform", speech: NDArray[np.bool_], span: Span, earliest_s: float, latest_s: float
    ) -> Row:
        clip: Row = dict.fromkeys(CLIP.names) | {name: episode[name] for name in _FROM_EPISODE}
        clip |= {"unit": "clip", "text": span.text, "sample_rate": wave.sample_rate}
        refusal = self._refusal(wave, span)
        if refusal is not None:
            return left(clip, refusal) | _times(episode, span.start_s, span.end_s)
        start_s = max(earliest_s, span.start_s - self.pad_s)
        end_s = min(latest_s, span.end_s + self.pad_s, wave.duration_s)
        start_s, end_s = trim(speech, start_s, end_s, self.pad_s)
        return (
            clip
            | _times(episode, start_s, end_s)
            | _sound(wave, start_s, end_s)
            | {
                "speech_ratio": _share(speech[_frames(start_s, end_s)]),
                "chars_per_s": len(span.text) / max(end_s - start_s, 1e-3),
            }
        )

    def _refusal(self, wave: "Waveform", span: Span) -> Leave | None:
        """Why a span becomes a row without audio, if it does."""
        if span.end_s > wave.duration_s + FRAME_S + self.pad_s:
            return Leave("dropped", "clip_outside_audio", detail=f"the episode ends at {wave.duration_s:.2f} s")
        if span.end_s - span.start_s > _HOPELESS * self.max_s:
            return Leave("dropped", "clip_too_long", detail="one cue, or cues that overlap; left without its audio")
        return None


def join_cues(cues: list[Cue], max_s: float, max_gap_s: float) -> list[Span]:
    """Neighbouring cues joined into spans of at most `max_s`, longer only where one cue is or where cues overlap.

    Cues without words (blank, or only a sound in brackets) are passed over and part their neighbours by their time.
    """
    spans: list[Span] = []
    for cue, text in zip(cues, said(cues), strict=True):
        if not text:
            continue
        last = spans[-1] if spans else None
        if last is not None:
            overlaps = cue.start_s < last.end_s
            fits = cue.end_s - last.start_s <= max_s and cue.start_s - last.end_s <= max_gap_s
            if overlaps or fits:
                end_s = max(last.end_s, cue.end_s)
                spans[-1] = Span(start_s=last.start_s, end_s=end_s, text=f"{last.text} {text}")
                continue
        spans.append(Span(start_s=cue.start_s, end_s=cue.end_s, text=text))
    return spans


def speech_frames(wave: "Waveform", mode: int) -> NDArray[np.bool_]:
    """For each frame of 30 ms whether WebRTC's detector hears a voice; the incomplete last frame is left out."""
    if wave.sample_rate not in _VAD_RATES:
        from pipeline.media.audio import resample  # PyAV, as above

        wave = resample(wave, 16_000)
    pcm = (np.clip(wave.samples, -1, 1) * 32767).astype("<i2").tobytes()
    step = round(wave.sample_rate * FRAME_S) * 2  # bytes of a frame
    detector = webrtcvad.Vad(mode)
    starts = range(0, len(pcm) - step + 1, step)
    return np.array([detector.is_speech(pcm[start : start + step], wave.sample_rate) for start in starts], bool)


def trim(speech: NDArray[np.bool_], start_s: float, end_s: float, pad_s: float) -> tuple[float, float]:
    """A span narrowed to its speech, with `pad_s` kept around it; unchanged where nobody speaks."""
    frames = _frames(start_s, end_s)
    voiced = np.flatnonzero(speech[frames])
    if not len(voiced):
        return start_s, end_s
    first_s = (frames.start + voiced[0]) * FRAME_S
    last_s = (frames.start + voiced[-1] + 1) * FRAME_S
    return max(start_s, first_s - pad_s), min(end_s, last_s + pad_s)


def loudness(wave: "Waveform") -> Row:
    """rms_db (decibels below full scale, at least -120) and clipped_ratio (share of samples at full scale)."""
    if not len(wave.samples):
        return {"rms_db": _FLOOR_DB, "clipped_ratio": 0.0}
    rms = math.sqrt(float(np.mean(np.square(wave.samples, dtype=np.float64))))
    return {
        "rms_db": max(_FLOOR_DB, 20 * math.log10(max(rms, 1e-12))),
        "clipped_ratio": float(np.mean(np.abs(wave.samples) >= _FULL_SCALE)),
    }


def _frames(start_s: float, end_s: float) -> slice:
    """The frames of the detector that a stretch touches."""
    return slice(int(start_s / FRAME_S), math.ceil(end_s / FRAME_S))


def _share(speech: NDArray[np.bool_]) -> float:
    return float(speech.mean()) if len(speech) else 0.0


def _sound(wave: "Waveform", start_s: float, end_s: float) -> Row:
    """The stretch as FLAC, with its digest and its loudness."""
    from pipeline.media.audio import encode_flac

    rate = wave.sample_rate
    stretch = replace(wave, samples=wave.samples[round(start_s * rate) : round(end_s * rate)])
    flac = encode_flac(stretch)
    digest = hashlib.sha256(flac).hexdigest()
    return loudness(stretch) | {"audio": flac, "size_bytes": len(flac), "sha256": digest}


def _times(episode: Row, start_s: float, end_s: float) -> Row:
    start_ms = round(start_s * 1000)
    end_ms = round(end_s * 1000)
    return {
        "key": key_of(episode["key"], episode["sha256"], f"{start_ms}-{end_ms}"),
        "start_s": start_ms / 1000,
        "end_s": end_ms / 1000,
        "duration_s": (end_ms - start_ms) / 1000,
    }
