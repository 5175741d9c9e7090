"""What publishers said about machines taking their work: robots.txt, `X-Robots-Tag`, TDM reservations, page meta tags.

Pure functions on what a server sent. The fetcher asks them before it reads a body. Signals follow RFC 9309
(robots.txt), the robots meta/header vocabulary that search engines document plus `noai`, `noimageai` and `noml`, and
the W3C TDM Reservation Protocol's header and meta tag. A signal that names another crawler does not concern us.
"""

import re
from collections.abc import Iterable

from protego import Protego

AGENT = "triptych"
"""The product token that publishers address us by, in robots.txt and in `X-Robots-Tag`."""

ROBOTS_MAX_BYTES = 512 * 1024
"""RFC 9309, 2.5: at least 500 KiB of a robots.txt must be read; what follows may be ignored."""

_OPT_OUT = {"noai": "noai", "noimageai": "noimageai", "noml": "noml", "none": "robots_tag_none"}
# Directives that take a value after a colon; every other `word:` starts the scope of a user agent.
_VALUED = re.compile(r"unavailable_after|max-[a-z-]+")
_AGENT_TOKEN = re.compile(r"\*|[a-z_][a-z0-9_./-]*\*?")


def robots_rules(body: bytes) -> Protego:
    """Parse a robots.txt; bytes that are not UTF-8 spoil only their own lines."""
    return Protego.parse(body[:ROBOTS_MAX_BYTES].decode("utf-8-sig", "replace"))


def robots_reason(rules: Protego | None, url: str) -> str | None:
    """`robots_disallowed` if the rules (None: the host has none) forbid us this URL."""
    return None if rules is None or rules.can_fetch(url, AGENT) else "robots_disallowed"


def header_reason(headers: Iterable[tuple[str, str]]) -> str | None:
    """The reason code of the first opt-out among response headers, or None.

    Codes: noai, noimageai, noml, robots_tag_none, tdm_reserved.
    """
    for name, value in headers:
        name = name.lower()
        if name == "x-robots-tag":
            reason = _tag_reason(value)
        elif name == "tdm-reservation" and value.strip() == "1":
            reason = "tdm_reserved"
        else:
            reason = None
        if reason is not None:
            return reason
    return None


def meta_reason(tags: Iterable[tuple[str, str]]) -> str | None:
    """The same for a page's `<meta name= content=>` pairs: name `robots` or ours, or `tdm-reservation`."""
    for name, content in tags:
        name = name.strip().lower()
        if name in ("robots", AGENT):
            reason = _tag_reason(content)
            if reason is not None:
                return reason
        if name == "tdm-reservation" and content.strip() == "1":
            return "tdm_reserved"
    return None


def _tag_reason(value: str) -> str | None:
    """One `X-Robots-Tag` value: comma-separated directives; `agent:` before one scopes it and all that follow it.

    A date in `unavailable_after` holds colons and may hold a comma; neither its pieces nor the values of other
    directives are mistaken for an agent, so they hide nothing that follows.
    """
    ours = True
    for piece in value.lower().split(","):
        piece = piece.strip()
        head, colon, rest = piece.partition(":")
        head = head.strip()
        if colon and not _VALUED.fullmatch(head) and _AGENT_TOKEN.fullmatch(head):
            ours = head in ("*", AGENT) or head.startswith(f"{AGENT}/")
            piece = rest.strip()
        if ours and piece in _OPT_OUT:
            return _OPT_OUT[piece]
    return None
