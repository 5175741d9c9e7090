"""A robots.txt as lines, and those that concern us: RFC 9309, with what Google's reader forgives.

Guarantees: time is linear, bytes in any encoding spoil nothing but their own line, and a line that this does not know
ends no group (2.2.4). Rules are matched with paths by protego, which is given our group alone.
"""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from protego import Protego

Line = tuple[str, str]
"""A field's name in lower case, and its value."""

AGENT = "triptych"
"""The product token that publishers address us by, in robots.txt and in `X-Robots-Tag`."""

DOCUMENT_MAX_BYTES = 512 * 1024
"""RFC 9309, 2.5: at least 500 KiB of a robots.txt must be read; what follows may be ignored."""

USAGES = ("content-usage", "content-signal")
_USER_AGENT = ("user-agent", "useragent", "user agent")
# With the misspellings that Google's reader and protego know.
_DISALLOW = ("disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw")
_DELAYS = ("crawl-delay", "crawl delay", "request-rate", "request rate")
_OF_TWO_WORDS = ("user", "crawl", "request")
_ESCAPED = re.compile(rb"[^\t\n\r\x20-\x7e]")


def our_lines(body: bytes) -> list[Line]:
    """Rules, usages and delays of the groups that are ours: those that name us, or those for all if none does.

    2.2.1: whole product tokens are compared, without the version that may follow. Usages of no group are for all.
    """
    by_agent: dict[str, list[Line]] = {"": []}
    agents = {""}
    in_header = False
    for name, value in _lines(body):
        if name in _USER_AGENT:
            named = {_token(part) for part in value.split(",")}
            agents = agents | named if in_header else named
            in_header = True
            for agent in named:
                by_agent.setdefault(agent, [])
        elif name in ("allow", *_DISALLOW, *USAGES, *_DELAYS):
            in_header = in_header and name in _DELAYS  # they are no part of the protocol
            for agent in agents:
                by_agent[agent].append((name, value))
    of_all = [line for line in by_agent[""] if line[0] in USAGES]
    return of_all + by_agent.get(AGENT, by_agent.get("*", []))


def rules(lines: Iterable[Line]) -> Protego:
    """What answers for our lines whether we may have a URL, and how often."""
    written = [
        f"{name}: {_as_path(value) if name in _DISALLOW else value}" for name, value in lines if name not in USAGES
    ]
    return Protego.parse("\n".join(["User-agent: *", *written]))


def _lines(body: bytes) -> Iterator[Line]:
    for line in re.split(r"\r\n|\r|\n", _text(body)):
        line = line.partition("#")[0].strip()
        name, colon, value = line.partition(":")
        words = name.lower().split()
        if not colon or (len(words) > 1 and words[0] not in _OF_TWO_WORDS):  # a forgotten colon
            name, value = (*line.split(None, 1), "", "")[:2]
            words = [name.lower()]
        yield " ".join(words), value.strip()


def _text(body: bytes) -> str:
    """ASCII: other bytes are percent-encoded, as 2.2.2 wants them compared, whatever their encoding is."""
    if len(body) >= DOCUMENT_MAX_BYTES:  # the last line may be cut, and say more than it did
        body = body[:DOCUMENT_MAX_BYTES]
        body = body[: max(body.rfind(b"\n"), body.rfind(b"\r")) + 1]
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        body = body.decode("utf-16", "replace").encode("utf-8", "replace")
    elif b"\0" in body[:2]:
        body = body.decode("utf-16-le" if body[1:2] == b"\0" else "utf-16-be", "replace").encode("utf-8", "replace")
    body = body.removeprefix(b"\xef\xbb\xbf")
    return _ESCAPED.sub(lambda byte: b"%%%02X" % byte[0][0], body).decode("ascii")


def _token(value: str) -> str:
    token = re.match(r"\*|[A-Za-z_-]*", value.strip())
    return (token[0].lower() if token else "") or "?"


def _as_path(value: str) -> str:
    """A path that is refused, though written as a URL or without its first slash."""
    if re.match("https?://", value, re.IGNORECASE):
        parts = urlsplit(value)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return value if value[:1] in ("/", "*", "", "$") else f"/{value}"
