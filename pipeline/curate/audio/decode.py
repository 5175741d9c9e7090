"""The audio of an episode as samples, or the reason why its row leaves."""

from pipeline.curate.stage import Leave, State
from pipeline.curate.text.language import primary
from pipeline.media.audio import Waveform, decode_audio
from pipeline.media.error import MediaError


def decode_episode(data: bytes, sample_rate: int, max_duration_s: float, language: str | None = None) -> Waveform:
    """Mono at `sample_rate`, of the track in this language if there is one; leaves as dropped `audio_too_long`, or as
    failed under any other reason of `decode_audio`: a rule of ours was broken, or the bytes are."""
    spoken = primary(language or "")
    try:
        return decode_audio(data, sample_rate, max_duration_s, lambda tag: primary(tag) == spoken)
    except MediaError as error:
        state: State = "dropped" if error.reason == "audio_too_long" else "failed"
        raise Leave(state, error.reason, detail=error.detail) from error
