"""The stages that fetch: pictures, and episodes with their transcripts.

They cost network time, little CPU, and one batch of bodies in memory (`batch_rows` x `max_bytes` at worst). Every
row of a batch is fetched at the same time; one that cannot be had leaves alone. So does one whose URL was already cut:
it fails as `signed_url_not_kept`, and no host is asked for what it would only refuse.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.curate.fetch import keepers
from pipeline.curate.fetch.address import shown
from pipeline.curate.fetch.charset import REPLACEMENT, codec_of, declared, decode, encoding
from pipeline.curate.fetch.http import Client, FetchConfig
from pipeline.curate.fetch.response import HttpLeave, Response
from pipeline.curate.fetch.rows import DETAIL_CHARS, without_secrets
from pipeline.curate.fetch.tracks import UNTIMED, Track, column, from_column
from pipeline.curate.fetch.unpack import TooLargeError, unpack
from pipeline.curate.stage import Batch, Leave, Resources, Row, failure, left
from pipeline.curate.text.transcripts import read_transcript
from pipeline.log import clean
from pipeline.media.sniff import what
from pipeline.redact import is_redacted, redacted_text

TRANSCRIPT_MAX_BYTES = 8 * 2**20


@dataclass(frozen=True, kw_only=True)
class Fetch(Batch):
    """Fetch `url` into the column `into`; fills http_status, size_bytes and sha256 (of the body)."""

    config: FetchConfig = FetchConfig()
    into: Literal["image", "audio"] = "image"
    batch_rows: ClassVar[int] = 64
    resources: ClassVar[Resources] = Resources(cpus=0.5)

    def batch(self, rows: list[Row]) -> list[Row]:
        """The rows with their bodies, in order; the reasons to leave are those of `Client.get`."""
        return asyncio.run(_each(self.config, rows, self._fetch))

    def answer(self, question: bytes, run_dir: str | None) -> bytes:
        """What the keepers of the hosts answer."""
        return keepers.answer(question, run_dir)

    async def _fetch(self, client: Client, row: Row) -> Row:
        _refuse_cut(row["url"])
        return row | _media(await client.get(row["url"]), self.into)


@dataclass(frozen=True, kw_only=True)
class FetchEpisode(Batch):
    """Fetch `transcript_url` into `transcript`, then `url` into `audio`; fills http_status, size_bytes and sha256.

    The transcript comes first: it is small, and without one the audio is not wanted. All that are offered are tried in
    order until one can be read; `detail` tells of those before it. An episode without one is dropped as
    `transcript_missing`, with none that has times as `transcript_untimed`; a transcript that cannot be had leaves under
    the fetcher's reason with `transcript_` before it, one that cannot be read as failed `transcript_unreadable`.
    """

    config: FetchConfig = FetchConfig(max_bytes=256 * 2**20, timeout_s=600.0)
    batch_rows: ClassVar[int] = 4
    resources: ClassVar[Resources] = Resources(cpus=0.5)

    def batch(self, rows: list[Row]) -> list[Row]:
        """The rows with transcript and audio, in order."""
        return asyncio.run(_each(self.config, rows, self._fetch))

    def answer(self, question: bytes, run_dir: str | None) -> bytes:
        """What the keepers of the hosts answer."""
        return keepers.answer(question, run_dir)

    async def _fetch(self, client: Client, row: Row) -> Row:
        offered = [Track(url=row["transcript_url"] or "", type=row["transcript_type"] or "")]
        offered = [track for track in offered if track.url] + from_column(row["more_transcripts"])
        if not offered:
            raise Leave("dropped", "transcript_missing", detail="the source names no transcript")
        timed = [track for track in offered if track.type != UNTIMED]
        if not timed:
            raise Leave("dropped", "transcript_untimed", detail="the source names only pages, which carry no times")
        whole = [track for track in timed if not is_redacted(track.url)]
        if is_redacted(row["url"]) or not whole:
            _refuse_cut(row["url"], timed[0].url)
        failures: list[Leave] = []
        for track in whole:
            try:
                row = row | await _transcript(client, track)
                # All that it offers stay known by their URLs: each may be taken back.
                row["more_transcripts"] = column((other for other in offered if other is not track), row["url"])
                break
            except Leave as leave:
                failures.append(leave)
        else:
            raise _none_of(failures)
        if failures:
            row = row | {"detail": clean(redacted_text(_told(failures)), DETAIL_CHARS)}
        try:
            return row | _media(await client.get(row["url"]), "audio")
        except Leave as leave:  # the transcript was had: keep it with the verdict
            return _left(row, leave)


async def _transcript(client: Client, track: Track) -> Row:
    """The columns of a transcript that can be read."""
    try:
        response = await client.get(track.url, max_bytes=TRANSCRIPT_MAX_BYTES)
        body = unpack(response.body, TRANSCRIPT_MAX_BYTES).body
    except Leave as leave:
        reason = f"transcript_{leave.reason}"
        raise Leave(leave.state, reason, retryable=leave.retryable, detail=leave.detail) from leave
    except TooLargeError as error:
        raise Leave("failed", "transcript_too_large", detail=f"{shown(track.url)} is a {error}") from error
    try:
        text = decode_text(body, response.headers)
        read_transcript(text)
    except Leave as leave:
        kind = what(body)
        if kind == "text" and track.type == "txt":
            raise Leave("dropped", "transcript_untimed", detail=f"{shown(track.url)} is text without times") from leave
        raise Leave(leave.state, leave.reason, detail=f"{shown(track.url)} is {leave.detail}") from leave
    named = track.type or media_type(response.headers)
    return {"transcript": text, "transcript_url": track.url, "transcript_type": named}


def _none_of(failures: list[Leave]) -> Leave:
    """Several transcripts that could not be had as one way to leave: the first that another try may help, else the
    first that is an error, else the first; the detail tells of all."""
    chosen = min(failures, key=lambda leave: (not leave.retryable, leave.state == "dropped"))
    if len(failures) == 1:
        return chosen
    return Leave(chosen.state, chosen.reason, retryable=chosen.retryable, detail=_told(failures))


def _told(failures: list[Leave]) -> str:
    return "; ".join(f"{leave.reason} {leave.detail}" for leave in failures)


def media_type(headers: Mapping[str, str]) -> str | None:
    """The bare media type of a `Content-Type` header, in lower case; None if it says nothing."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower() or None


def decode_text(body: bytes, headers: Mapping[str, str]) -> str:
    """Text from the web, as `charset` reads it. Leaves as failed `transcript_unreadable` what is no text, and what is
    in an encoding that nothing tells: wrong letters would be taught as right ones."""
    charset = declared(headers.get("Content-Type", ""))
    codec, text, kind = encoding(body, charset), decode(body, charset), what(body)
    is_guessed = codec == "cp1252" and codec_of(charset) is None and not _is_western(text)
    if is_guessed or "\0" in text or text.count(REPLACEMENT) > len(text) // 100:
        told = "text in an encoding that it does not declare" if kind in _TEXTS else kind
        raise Leave("failed", "transcript_unreadable", detail=told)
    return text


def _is_western(text: str) -> bool:
    """True if the letters beyond ASCII are few, and letters or marks of Western Europe's languages."""
    beyond = [char for char in text if ord(char) > 127]
    known = sum(char.isalpha() or char in _MARKS for char in beyond)
    return 6 * len(beyond) <= len(text) and known >= 0.98 * len(beyond)


_TEXTS = ("text", "WebVTT", "JSON", "XML")
_MARKS = frozenset(
    "\u2018\u2019\u201c\u201d\u201e\u2013\u2014\u2026\u20ac\xab\xbb\xbf\xa1\xb0\xa3\xa0\u2022\xa9\xae\u2122\xbd\xbc\xb2\xa7\xb4"
)


def _refuse_cut(*urls: str) -> None:
    if any(map(is_redacted, urls)):
        raise Leave(
            "failed",
            "signed_url_not_kept",
            detail="its URL held a secret, which is kept only until the row is settled; "
            "read the listing again in a new run",
        )


def _media(response: Response, into: str) -> Row:
    body = response.body
    return {
        into: body,
        "http_status": response.status,
        "size_bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }


def _left(row: Row, error: Exception) -> Row:
    status = error.http_status if isinstance(error, HttpLeave) else None
    return left(row, without_secrets(failure(error))) | {"http_status": status}


async def _each(config: FetchConfig, rows: list[Row], fetch: Callable[[Client, Row], Awaitable[Row]]) -> list[Row]:
    async with Client(config) as client:
        results = await asyncio.gather(*(fetch(client, row) for row in rows), return_exceptions=True)
    fetched = []
    for row, result in zip(rows, results, strict=True):
        if isinstance(result, Exception):
            result = _left(row, result)
        elif isinstance(result, BaseException):
            raise result
        fetched.append(result)
    return fetched
