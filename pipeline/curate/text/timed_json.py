"""Transcripts in JSON: of podcasts and players, and of recognisers, which are known by what only they write.

Podcast namespace: https://podcastindex.org/namespace/1.0, transcripts. A segment without times or words is skipped and
counted. What a recogniser wrote is read all the same, and said to be a machine's.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from pipeline.curate.text.cues import Open, Transcript, clock, closed, unreadable

_LISTS = """segments transcripts transcription transcript captions cues utterances subtitles chunks
    words""".split()
_STARTS = ("startTime", "start", "start_time", "begin", "from", "startMs", "start_ms", "offset")
_ENDS = ("endTime", "end", "end_time", "to", "endMs", "end_ms")
_LENGTHS = ("duration", "dur")
_TEXTS = ("body", "text", "transcript", "content", "word")
# Keys of a segment that only a recogniser writes: Whisper and its kin, AssemblyAI.
_OF_WHISPER = frozenset({"avg_logprob", "no_speech_prob", "compression_ratio", "seek", "tokens", "confidence", "word"})
# Keys of a file that we know and do not read.
_NAMED: tuple[tuple[str, frozenset[str]], ...] = (
    ("Rev JSON", frozenset({"monologues"})),
    ("Azure Speech JSON", frozenset({"recognizedPhrases"})),
    ("Azure Speech JSON", frozenset({"combinedRecognizedPhrases"})),
    ("AssemblyAI JSON", frozenset({"audio_url", "words"})),
    ("AssemblyAI JSON", frozenset({"acoustic_model", "words"})),
    ("Vosk JSON", frozenset({"result", "text"})),
    ("JSON Feed", frozenset({"version", "items"})),
    ("error message in JSON", frozenset({"error"})),
)
_SLOWEST_CHARS_PER_S = 0.1
Entry = Mapping[str, object]


def read(text: str) -> Transcript:
    """The cues of a JSON transcript. Leaves as failed `transcript_unreadable`, with the name of the format if known."""
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data" or (parsed := _of_lines(text)) is None:
            raise unreadable(f"JSON that is broken in line {error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise unreadable("JSON that is nested too deep") from error
    except ValueError as error:
        raise unreadable("JSON with a number that is too long") from error
    for form, is_machine, reader in _READERS:
        segments = reader(parsed)
        if segments is not None:
            cues = [cue for cue in segments if cue is not None]
            return Transcript(
                form=form,
                cues=closed(cues),
                skipped=len(segments) - len(cues),
                is_machine=is_machine or any(map(_is_recognised, _entries(parsed) or [])),
            )
    raise unreadable(f"{_name(parsed)}, which is not read")


def _of_lines(text: str) -> list[object] | None:
    """The values of a file with one a line; None if it is none."""
    try:
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError):
        return None


def _name(parsed: object) -> str:
    if isinstance(parsed, Mapping):
        for name, keys in _NAMED:
            if keys <= parsed.keys():
                return name
        results = parsed.get("results")
        if isinstance(results, list) and results and isinstance(results[0], Mapping) and "alternatives" in results[0]:
            return "Google, Watson or Speechmatics JSON"
    return "JSON without timed segments"


def _list(value: object) -> list[Entry] | None:
    """A list of objects; what else is in it counts as an empty one."""
    return [one if isinstance(one, Mapping) else {} for one in value] if isinstance(value, list) and value else None


def _at(value: object, *path: str | int) -> object:
    """What lies at a path of keys and places; None if nothing does."""
    for step in path:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, Mapping) else None
        else:
            value = value[step] if isinstance(value, list) and len(value) > step else None
    return value


def _first(entry: Entry, names: tuple[str, ...]) -> object:
    return next((entry[name] for name in names if entry.get(name) is not None), None)


def _ms(value: object) -> float | None:
    time_ms = clock(value)
    return None if time_ms is None else time_ms / 1000


def _open(start_s: float | None, end_s: float | None, text: object) -> Open | None:
    said = str(text) if isinstance(text, str | int | float) else ""
    return None if start_s is None else Open(start_s=start_s, end_s=end_s, text=said)


def _entries(parsed: object) -> list[Entry] | None:
    lists = [parsed, *(parsed.get(name) for name in _LISTS)] if isinstance(parsed, Mapping) else [parsed]
    return next((entries for entries in map(_list, lists) if entries is not None), None)


def _segments(parsed: object) -> list[Open | None] | None:
    """A list of segments, or an object with one: times in seconds or as a clock shows them."""
    entries = _entries(parsed)
    if entries is None or not any(
        _first(_parted(one), _STARTS) is not None and _first(one, _TEXTS) is not None for one in entries
    ):
        return None
    return _in_seconds([_segment(_parted(entry)) for entry in entries])


def _parted(entry: Entry) -> Entry:
    """A segment whose two times are one list, as transformers write it."""
    span = entry.get("timestamp")
    is_span = isinstance(span, list) and len(span) == 2
    return {**entry, "start": span[0], "end": span[1]} if is_span and isinstance(span, list) else entry


def _in_seconds(cues: list[Open | None]) -> list[Open | None]:
    """The cues of a file that counts in milliseconds, unsaid: nobody speaks a word in a minute."""
    timed = [(cue.end_s - cue.start_s, len(cue.text)) for cue in cues if cue is not None and cue.end_s is not None]
    spent_s, chars = sum(length for length, _ in timed), sum(count for _, count in timed)
    if not chars or chars >= _SLOWEST_CHARS_PER_S * spent_s:
        return cues
    return [
        cue and replace(cue, start_s=cue.start_s / 1000, end_s=None if cue.end_s is None else cue.end_s / 1000)
        for cue in cues
    ]


def _segment(entry: Entry) -> Open | None:
    start_s, end_s, length_s = (clock(_first(entry, names)) for names in (_STARTS, _ENDS, _LENGTHS))
    if end_s is None and _first(entry, _ENDS) is not None:
        return None  # an end that is no time is not one that is missing
    if end_s is None and length_s is not None and start_s is not None:
        end_s = start_s + length_s
    return _open(start_s, end_s, _first(entry, _TEXTS))


def _is_recognised(entry: Entry) -> bool:
    scores = _at(entry.get("words"), 0)
    return (
        bool(_OF_WHISPER & entry.keys())
        or isinstance(entry.get("timestamp"), list)
        or (isinstance(scores, Mapping) and bool({"score", "probability"} & scores.keys()))
    )


def _whisper_cpp(parsed: object) -> list[Open | None] | None:
    entries = _list(_at(parsed, "transcription"))
    if entries is None or "offsets" not in entries[0]:
        return None
    return [_open(_ms(_at(one, "offsets", "from")), _ms(_at(one, "offsets", "to")), one.get("text")) for one in entries]


def _aws(parsed: object) -> list[Open | None] | None:
    """Words, each with the mark that follows it: marks have no times."""
    entries = _list(_at(parsed, "results", "items"))
    if entries is None or "alternatives" not in entries[0]:
        return None
    words: list[Open | None] = []
    for entry in entries:
        said = str(_at(entry, "alternatives", 0, "content") or "")
        last = words[-1] if words else None
        if entry.get("type") == "punctuation" and last is not None:
            words[-1] = Open(start_s=last.start_s, end_s=last.end_s, text=last.text + said)
        else:
            words.append(_open(clock(entry.get("start_time")), clock(entry.get("end_time")), said))
    return words


def _deepgram(parsed: object) -> list[Open | None] | None:
    entries = _list(_at(parsed, "results", "channels", 0, "alternatives", 0, "words"))
    if entries is None:
        return None
    texts = ("punctuated_word", "word")
    return [_open(clock(one.get("start")), clock(one.get("end")), _first(one, texts)) for one in entries]


def _json3(parsed: object) -> list[Open | None] | None:
    """YouTube: events of pieces. A piece's own time becomes a tag, as in WebVTT."""
    entries = _list(_at(parsed, "events"))
    if entries is None or not any("tStartMs" in entry for entry in entries):
        return None
    return [cue for entry in entries if "segs" in entry for cue in _event(entry)]


def _event(entry: Entry) -> Iterator[Open | None]:
    start_s, length_s = _ms(entry.get("tStartMs")), _ms(entry.get("dDurationMs"))
    pieces = []
    for piece in _list(entry.get("segs")) or []:
        offset_s = _ms(piece.get("tOffsetMs"))
        is_timed = offset_s is not None and start_s is not None and offset_s > 0
        pieces.append((word_time((start_s or 0) + (offset_s or 0)) if is_timed else "") + str(piece.get("utf8") or ""))
    said = "".join(pieces)
    if said.strip():
        yield _open(start_s, None if start_s is None or length_s is None else start_s + length_s, said)


def word_time(time_s: float) -> str:
    """The time of a word as WebVTT writes it within a cue."""
    ms = round(time_s * 1000)
    return f"<{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}>"


# Name, whether only a recogniser writes it, and the reader; None from one that is not meant.
_READERS: tuple[tuple[str, bool, Callable[[object], list[Open | None] | None]], ...] = (
    ("whisper.cpp JSON", True, _whisper_cpp),
    ("AWS Transcribe JSON", True, _aws),
    ("Deepgram JSON", True, _deepgram),
    ("YouTube json3", False, _json3),
    ("JSON", False, _segments),
)
