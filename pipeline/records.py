"""The Arrow schema of every table that crosses a job boundary.

Media are encoded bytes, text is text, anything ragged is JSON; so every block of every run has the same types, and a
column in which all values are missing is still typed. Keys come from content or URL, never from counters.
"""

import hashlib

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.redact import redacted_text

STATES = ("kept", "dropped", "failed", "unknown", "deferred")
"""Where an input can end. `failed` is an error, `unknown` a score that could not be computed, `deferred` a host that
asked us to wait; `dropped` is a verdict of a rule about good input."""

LEDGER = "ledger.json"
"""Where a finished curation run says where every row ended."""
CONFIG = "config.json"
"""The resolved options that a run was last worked on with."""
INPUTS = "inputs.json"
"""The manifest of a run's inputs."""
EXPORT = "export/manifest.json"
"""The manifest of what a run exported."""
CARD = "export/README.md"
PAYLOAD = ("audio", "image", "transcript", "text", "caption", "extra")
"""Columns that hold what was published: media and words. They lie apart from the scores, and go when a row is
revoked."""
CONTENT = ("sha256", "pixel_sha256")
"""Columns by which two rows are known to hold the same thing."""
WEB_TEXT = ("url", "page_url", "transcript_url", "more_transcripts", "source", "license", "detail")
"""Columns that the web wrote and that may hold a URL with a secret in it."""

# What every row of curation carries. `unit` says what is counted, `input_key` is the input that the row came from, and
# `order` that input's place in the plan: it settles ties and the order of export, never identity.
_ROW = [
    ("key", pa.string()),
    ("input_key", pa.string()),
    ("unit", pa.string()),
    ("order", pa.int64()),
    ("url", pa.string()),
    ("page_url", pa.string()),
    ("license", pa.string()),
    ("source", pa.string()),
    ("extra", pa.string()),
    ("state", pa.string()),
    ("reason", pa.string()),
    ("retryable", pa.bool_()),
    ("detail", pa.string()),
    ("http_status", pa.int32()),
    ("size_bytes", pa.int64()),
    ("sha256", pa.string()),
]

INPUT = pa.schema(
    [
        ("key", pa.string()),
        ("order", pa.int64()),
        ("url", pa.string()),
        ("page_url", pa.string()),
        ("source", pa.string()),
        ("text", pa.string()),
        ("language", pa.string()),
        ("license", pa.string()),
        ("transcript_url", pa.string()),
        ("transcript_type", pa.string()),
        ("more_transcripts", pa.string()),
        ("transcript_kind", pa.string()),
        ("expected_bytes", pa.int64()),
        ("extra", pa.string()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("retryable", pa.bool_()),
        ("detail", pa.string()),
    ]
)
"""What a source found: one file to fetch and what the page or feed said of it. `text` is an image's caption;
`language` and `expected_bytes` are what the publisher declared; `transcript_kind` is manual, auto, translated or
unknown; `more_transcripts` are further ones, a line each of type and URL, tried where that one cannot be read; `extra`
is a JSON object of the columns of a list that no other takes. A row with a `state` is a listing (page, feed, list) that
could not be read, a line of one, or a picture that is passed over."""

IMAGE = pa.schema(
    [
        *_ROW,
        ("caption", pa.string()),
        ("image", pa.large_binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("aspect_ratio", pa.float64()),
        ("entropy_bits", pa.float64()),
        ("caption_chars", pa.int32()),
        ("caption_words", pa.int32()),
        ("caption_is_filename", pa.bool_()),
        ("pixel_sha256", pa.string()),
        ("orientation", pa.int32()),
        ("num_frames", pa.int32()),
        ("color_profile", pa.string()),
    ]
)
"""One picture and its caption, with every score that a filter reads; `image` is PNG."""

CLIP = pa.schema(
    [
        *_ROW,
        ("audio", pa.large_binary()),
        ("text", pa.string()),
        ("language", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("sample_rate", pa.int32()),
        ("speech_ratio", pa.float64()),
        ("rms_db", pa.float64()),
        ("clipped_ratio", pa.float64()),
        ("chars_per_s", pa.float64()),
        ("transcript", pa.large_string()),
        ("transcript_url", pa.string()),
        ("transcript_type", pa.string()),
        ("more_transcripts", pa.string()),
        ("transcript_kind", pa.string()),
        ("text_language", pa.string()),
        ("text_language_prob", pa.float64()),
        ("lower_ratio", pa.float64()),
        ("upper_ratio", pa.float64()),
        ("punctuation_per_100_words", pa.float64()),
        ("rolling_ratio", pa.float64()),
        ("word_timed_ratio", pa.float64()),
        ("num_cues", pa.int32()),
        ("num_words", pa.int32()),
    ]
)
"""An episode (`unit` episode: transcript and its scores, no audio) or a clip cut from one (`unit` clip: FLAC audio,
the words said in it, and the clip's own scores)."""

VERDICT = pa.schema(
    [
        ("key", pa.string()),
        ("input_key", pa.string()),
        ("unit", pa.string()),
        ("order", pa.int64()),
        ("url", pa.string()),
        ("license", pa.string()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("retryable", pa.bool_()),
        ("detail", pa.string()),
        ("size_bytes", pa.int64()),
        ("sha256", pa.string()),
        ("duration_s", pa.float64()),
        ("start_s", pa.float64()),
        ("file", pa.string()),
        ("row", pa.int64()),
    ]
)
"""Where each row ended, and where it lies (`file` of scores of a wave, `row` within it)."""

MEANING = {
    "key": "stable identity of the row, 32 hexadecimal digits",
    "url": "where the file was found; what looked like a secret in it reads REDACTED",
    "page_url": "the page, feed item or list that named it",
    "license": "as the source declared it; empty where it declared none",
    "sha256": "digest of the original file as it was fetched, not of the medium beside it",
    "extra": "further columns of the list that named it, as a JSON object; empty where it had none",
    "caption": "what its publisher wrote of the picture",
    "image": "the picture as it was decoded and resized, encoded as PNG",
    "width": "pixels of the original picture, not of the one beside it",
    "height": "pixels of the original picture, not of the one beside it",
    "orientation": "of the original, by EXIF, 1 to 8; the picture beside it has been turned",
    "num_frames": "frames or pages of the original, up to 10,000; the picture beside it is the first",
    "color_profile": "of the original: srgb, converted (to sRGB), unusable (left aside), or empty for none",
    "audio": "the clip, encoded as FLAC",
    "text": "the words said in the clip, from its publisher's transcript",
    "language": "as the publisher declared it",
    "start_s": "where the clip begins in its episode, in seconds",
    "end_s": "where the clip ends in its episode, in seconds",
    "duration_s": "length of the clip in seconds",
    "sample_rate": "samples a second of the clip",
}
"""What the columns of an export mean to who reads it."""

CODES = pa.schema(
    [
        ("key", pa.string()),
        ("view", pa.int32()),
        ("modality", pa.string()),
        ("text", pa.string()),
        ("codes", pa.list_(pa.int32())),
        ("shape", pa.list_(pa.int32())),
        ("tokenizer_sha256", pa.string()),
    ]
)
"""One sample as integers: `codes` in raster order, `shape` (h, w) or (t,), under the tokenizer named by its digest.
View 0 is of the sample as it is, others are of slightly changed copies."""


def plan_name(number: int) -> str:
    """The manifest of the plan of a round; 0 is the run itself."""
    return f"plans/{number:03d}.json" if number else "plan.json"


def wave_name(number: int, wave: int) -> str:
    """The manifest of a wave of a round."""
    return f"waves/{number:03d}-{wave:06d}.json"


def verdicts_name(name: str) -> str:
    """The manifest of the verdicts of this name."""
    return f"verdicts/{name}.json"


def fingerprint_name(number: int) -> str:
    """The record of a fingerprint that a run went on under."""
    return f"fingerprints/{number:03d}.json"


def revocation_name(number: int) -> str:
    """The record of a revocation."""
    return f"revocations/{number:06d}.json"


def quarantine_name(key: str) -> str:
    """The bundle of a row that killed or hung the process that worked on it."""
    return f"quarantine/{key}.parquet"


def key_of(*parts: str) -> str:
    """A stable 32-digit key from what identifies a row: URL and caption, or content digest and span."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def without_secrets(table: pa.Table) -> pa.Table:
    """The table with signatures, tokens and passwords cut out of the URLs in its columns of WEB_TEXT."""
    for name in WEB_TEXT:
        if name in table.column_names:
            cut = {text: redacted_text(text) for text in pc.unique(table[name]).to_pylist() if text}
            if any(old != new for old, new in cut.items()):
                field = table.schema.field(name)
                column = pa.array([cut.get(text, text) for text in table[name].to_pylist()], field.type)
                table = table.set_column(table.schema.get_field_index(name), field, column)
    return table
