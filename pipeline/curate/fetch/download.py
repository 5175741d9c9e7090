"""The stages that fetch: pictures, and episodes with their transcripts.

They cost network time, little CPU, and one batch of bodies in memory (`batch_rows` x `max_bytes` at worst). Every
row of a batch is fetched at the same time; one that cannot be had leaves alone. So does one whose URL was already cut:
it fails as `signed_url_not_kept`, and no host is asked for what it would only refuse.
"""

import asyncio
import codecs
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.curate.fetch import keepers
from pipeline.curate.fetch.http import Client, FetchConfig
from pipeline.curate.fetch.response import HttpLeave, Response
from pipeline.curate.fetch.rows import without_secrets
from pipeline.curate.stage import Batch, Leave, Resources, Row, failure, left
from pipeline.redact import is_redacted

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

    The transcript comes first: it is small, and without one the audio is not wanted. An episode without a
    `transcript_url` is dropped as `transcript_missing`; a transcript that cannot be had leaves under the fetcher's
    reason with `transcript_` before it, one that is no text as failed `transcript_unreadable`.
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
        if not row["transcript_url"]:
            raise Leave("dropped", "transcript_missing", detail="the source names no timed transcript")
        _refuse_cut(row["url"], row["transcript_url"])
        try:
            response = await client.get(row["transcript_url"], max_bytes=TRANSCRIPT_MAX_BYTES)
        except Leave as leave:
            raise Leave(
                leave.state, f"transcript_{leave.reason}", retryable=leave.retryable, detail=leave.detail
            ) from leave
        text = decode_text(response.body, response.headers)
        row = row | {"transcript": text, "transcript_type": row["transcript_type"] or media_type(response.headers)}
        try:
            return row | _media(await client.get(row["url"]), "audio")
        except Leave as leave:  # the transcript was had: keep it with the verdict
            return _left(row, leave)


def media_type(headers: Mapping[str, str]) -> str | None:
    """The bare media type of a `Content-Type` header, in lower case; None if it says nothing."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower() or None


def decode_text(body: bytes, headers: Mapping[str, str]) -> str:
    """Text from the web: byte order mark, then UTF-8, then the charset that the header declares.

    UTF-8 before the header, because servers declare a default charset for files that they never looked at, and text
    in another encoding is almost never valid UTF-8. Leaves as failed `transcript_unreadable` if nothing fits.
    """
    declared = re.search(r"charset=[\"']?([\w-]+)", headers.get("Content-Type", ""), re.IGNORECASE)
    marked = next((name for mark, name in _MARKS if body.startswith(mark)), None)
    for name in (marked,) if marked else ("utf-8", declared.group(1) if declared else None):
        try:
            if name is not None:
                return body.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
    raise Leave("failed", "transcript_unreadable", detail="neither UTF-8 nor in the encoding that it declares")


_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


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
