"""A complete answer of a host, how it is read, and how a URL leaves that gave none."""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from pipeline.curate.fetch.address import shown
from pipeline.curate.stage import Leave, State
from pipeline.log import clean
from pipeline.redact import redacted_text

if TYPE_CHECKING:
    import aiohttp


@dataclass(frozen=True, kw_only=True)
class Response:
    """A complete answer: `url` after redirects, `body` inflated."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpLeave(Leave):
    """A URL that could not be had; `http_status` if there was an answer, `wait_s` if another attempt may help, and
    `pause_s` if the host wants nobody to ask it for so long."""

    def __init__(
        self,
        state: State,
        reason: str,
        url: str,
        problem: str = "",
        *,
        retryable: bool = False,
        http_status: int | None = None,
        wait_s: float | None = None,
        pause_s: float | None = None,
    ) -> None:
        problem = clean(redacted_text(problem))  # it may quote a server's header, and cookies
        super().__init__(state, reason, retryable=retryable, detail=f"{shown(url)} {problem}".strip())
        self.http_status, self.wait_s, self.pause_s = http_status, wait_s, pause_s


def retry_after_s(value: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3: seconds or a date); None if it says nothing."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def is_whole(answer: "aiohttp.ClientResponse", may_be_empty: bool) -> bool:
    """True for a success whose body is the whole file (RFC 9110, 15.3): 206 too, if its range is all there is. Rules
    may be empty (204), a picture may not."""
    if answer.status != 206:
        return answer.status in (200, 203) or (may_be_empty and 200 <= answer.status < 300)
    whole = re.fullmatch(r"bytes 0-(\d+)/(\d+)", answer.headers.get("Content-Range", "").strip())
    return whole is not None and int(whole[1]) + 1 == int(whole[2])


async def read_body(url: str, answer: "aiohttp.ClientResponse", max_bytes: int, cut: bool) -> bytes:
    """The body, inflated; one longer than `max_bytes` is `cut` there or leaves as too_large."""
    status = answer.status
    too_large = HttpLeave("failed", "too_large", url, f"more than {max_bytes} bytes", http_status=status)
    if (answer.content_length or 0) > max_bytes and not cut:
        raise too_large
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip", "deflate"):
        raise HttpLeave("failed", "bad_encoding", url, f"Content-Encoding {encoding!r}", http_status=status)
    inflate = None if encoding in ("identity", "") else _Inflate()
    sent = 0
    body = bytearray()
    async for chunk in answer.content.iter_chunked(65536):
        sent += len(chunk)
        try:
            body += chunk if inflate is None else inflate.some(chunk, max_bytes + 1 - len(body))
        except zlib.error as error:
            raise HttpLeave("failed", "bad_encoding", url, str(error), http_status=status) from error
        if max(sent, len(body)) > max_bytes:
            if cut:
                return bytes(body[:max_bytes])
            raise too_large
    if inflate is not None and sent and not inflate.complete:
        raise HttpLeave("failed", "bad_encoding", url, f"{encoding} stream breaks off", http_status=status)
    return bytes(body)


class _Inflate:
    """gzip (of any number of members) or zlib, told by the header, never inflated beyond what is asked for."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(47)

    def some(self, data: bytes, limit: int) -> bytes:
        """At most `limit` bytes; where there are more, exactly `limit`, and the rest is lost."""
        inflated = self._zlib.decompress(data, limit)
        while self._zlib.eof and self._zlib.unused_data and len(inflated) < limit:
            rest = self._zlib.unused_data
            self._zlib = zlib.decompressobj(47)
            inflated += self._zlib.decompress(rest, limit - len(inflated))
        return inflated

    @property
    def complete(self) -> bool:
        """True if the stream ended where a member ends."""
        return self._zlib.eof
