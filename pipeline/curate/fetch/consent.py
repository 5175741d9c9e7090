"""What publishers said about machines taking their work, for a whole origin, for one answer, and for one page.

Pure functions on what a server sent; the fetcher asks them before it reads a body. Signals follow `Content-Usage`
(draft-ietf-aipref-attach, -vocab) and `Content-Signal` (contentsignals.org) as lines of robots.txt (`robots`) and as
headers, the TDM Reservation Protocol (W3C community group, 2024) as file, header and meta tag, ai.txt (Spawning), and
the robots meta and header vocabulary that search engines document plus `noai`, `noimageai` and `noml`. A signal that
names another crawler does not concern us. In doubt a signal counts: what two lines say differently is refused.
`docs/consent.md` holds the cases, each with its source.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from protego import Protego

from pipeline.curate.fetch.address import canonical
from pipeline.curate.fetch.robots import AGENT, USAGES, Line, our_lines, rules

T = TypeVar("T")

_OPT_OUT = {"noai": "noai", "noimageai": "noimageai", "noml": "noml", "none": "robots_tag_none"}
# Directives that take a value after a colon; every other `word:` starts the scope of a user agent.
_VALUED = re.compile(r"unavailable_after|max-[a-z-]+")
_ORIGIN = re.compile(r"https?://[^/]*", re.IGNORECASE)  # where a path was asked for
_AGENT_TOKEN = re.compile(r"\*|[a-z_][a-z0-9_./-]*\*?")
# A member of a structured dictionary (RFC 9651, 3.2): a comma within a string ends none, an open string is the rest.
_MEMBER = re.compile(r"""(?:[^,"]|"(?:[^"\\]|\\.)*(?:"|\\?$))+""", re.DOTALL)
# What we do, from the narrowest name to the widest that holds for it where no narrower one is said
# (draft-ietf-aipref-vocab: training generative models is training, and training is automated use).
_OUR_USES = ("train-genai", "genai", "train-ai", "ai", "tdm", "bots", "all")


@dataclass(frozen=True)
class _Usage:
    """One `Content-Usage` or `Content-Signal` line: the paths it is about, the code of its refusal, if it refuses."""

    pattern: str
    code: str
    is_refusal: bool


@dataclass(frozen=True)
class Origin:
    """What an origin says about all that it serves."""

    robots: Protego | None
    usage: tuple[_Usage, ...] = ()
    ai_txt: Protego | None = None
    tdm: tuple[tuple[str, bool], ...] = ()

    def reason(self, url: str) -> str | None:
        """`robots_disallowed`, `content_usage`, `content_signal` or `ai_txt_disallowed` if we may not have this URL."""
        for one in _spellings(url):
            if self.robots is not None and not self.robots.can_fetch(one, AGENT):
                return "robots_disallowed"
            # ai.txt is about types of media, whose endings are written in either case.
            if self.ai_txt is not None and not all(
                self.ai_txt.can_fetch(any_case, AGENT) for any_case in (one, one.lower())
            ):
                return "ai_txt_disallowed"
            for code in ("content_usage", "content_signal"):
                closest = _closest([(line.pattern, line.is_refusal) for line in self.usage if line.code == code], one)
                if any(closest):
                    return code
        return None

    def is_reserved(self, url: str) -> bool:
        """True if tdmrep.json reserves this URL, which a header of the answer may overrule.

        The protocol takes the first rule that matches, and refers to robots.txt, which takes the longest: either one.
        """
        for one in _spellings(url):
            path = _path(one)
            first = [is_reserved for pattern, is_reserved in self.tdm if _matches(unquote(pattern), path)][:1]
            if any(first) or any(_closest(self.tdm, one)):
                return True
        return False

    @property
    def crawl_delay_s(self) -> float:
        """Seconds between two requests that robots.txt asks for, by delay or by rate; 0 if it does not."""
        if self.robots is None:
            return 0.0
        rate = self.robots.request_rate(AGENT)
        return max(self.robots.crawl_delay(AGENT) or 0.0, rate.seconds / rate.requests if rate else 0.0)


def _spellings(url: str) -> set[str]:
    """The URL as it is asked for, and as a server may resolve it (RFC 3986, 5.2.4): `/open/../closed` is `/closed`."""
    return {url, canonical(url)}


def origin_of(robots: bytes | None, ai_txt: bytes | None = None, tdmrep: bytes | None = None) -> Origin:
    """What three documents say, each None where there is none; bytes that are not UTF-8 spoil only their own lines."""
    ours = None if robots is None else our_lines(robots)
    return Origin(
        robots=None if ours is None else rules(ours),
        usage=tuple(_usages(ours or ())),
        ai_txt=_ai_txt(ai_txt),
        tdm=tuple(_reservations(tdmrep)),
    )


def _usages(lines: Iterable[Line]) -> Iterator[_Usage]:
    """(draft-ietf-aipref-attach, 3.3: a path, if there is one, begins with `/` and ends with the first blank)"""
    for name, value in lines:
        if name in USAGES:
            path, preferences = (*value.split(None, 1), "")[:2] if value.startswith("/") else ("/", value)
            code = name.replace("-", "_")
            yield _Usage(path, code, refuses(preferences))


def refuses(preferences: str) -> bool:
    """True if a `Content-Usage` or `Content-Signal` value does not want what we do; of two words the stricter holds."""
    said: dict[str, bool] = {}
    for piece in _MEMBER.findall(preferences.lower()):
        name, equals, value = piece.partition(";")[0].partition("=")
        answer = value.strip().strip('"')
        if equals and answer in ("n", "no", "y", "yes", "?0", "?1"):
            said[name.strip()] = said.get(name.strip(), False) or answer in ("n", "no", "?0")
    if said.get("ai-train"):
        return True
    return next((said[name] for name in _OUR_USES if name in said), False)


def _ai_txt(body: bytes | None) -> Protego | None:
    """Rules of an ai.txt; None for a page that stands in for one. Its paths may begin with a `*` alone."""
    if body is None or body.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        return None
    lines = [(name, value if value[:1] in ("/", "") else f"/*{value.lstrip('*')}") for name, value in our_lines(body)]
    return rules(lines + [(name, value.lower()) for name, value in lines if name != "allow"])


def _reservations(body: bytes | None) -> Iterator[tuple[str, bool]]:
    """(pattern of paths, whether they are reserved) of a tdmrep.json; what is none of its form is passed over."""
    try:
        entries = json.loads(body) if body else []
    except (ValueError, RecursionError):
        return
    for entry in entries if isinstance(entries, list) else [entries]:
        if not isinstance(entry, dict):
            continue
        said = entry.get("location", "/")
        for location in said if isinstance(said, list) else [said]:
            if isinstance(location, str):
                yield _ORIGIN.sub("", location) or "/", str(entry.get("tdm-reservation")) in ("1", "1.0", "True")


def _closest(rules: "Iterable[tuple[str, T]]", url: str) -> "list[T]":
    """What the longest patterns that match the path say, as RFC 9309, 2.2.2 chooses among rules."""
    path = _path(url)
    matching = [(len(pattern), said) for pattern, said in rules if _matches(unquote(pattern), path)]
    longest = max((length for length, _ in matching), default=0)
    return [said for length, said in matching if length == longest]


def _path(url: str) -> str:
    parts = urlsplit(url)
    return unquote(parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _matches(pattern: str, path: str) -> bool:
    """RFC 9309, 2.2.3: `*` is any string, `$` at the end is the end. Linear: no pattern of a stranger is a regex."""
    pieces = ("/" + pattern.removeprefix("/")).removesuffix("$").split("*")
    if not path.startswith(pieces[0]):
        return False
    place = len(pieces[0])
    for piece in pieces[1:]:
        place = path.find(piece, place)
        if place < 0:
            return False
        place += len(piece)
    return not pattern.endswith("$") or place == len(path) or (len(pieces) > 1 and path.endswith(pieces[-1]))


def header_reason(headers: Iterable[tuple[str, str]], is_reserved: bool = False) -> str | None:
    """The reason code of the first opt-out among response headers, or None.

    Codes: noai, noimageai, noml, robots_tag_none, unavailable_after, tdm_reserved, content_usage, content_signal.
    `is_reserved`: what tdmrep.json says of the URL, where no header says otherwise.
    """
    said: dict[str, list[str]] = {}
    for name, value in headers:
        said.setdefault(name.lower(), []).append(value)
    for value in said.get("x-robots-tag", []):
        if reason := _tag_reason(value):
            return reason
    reservations = [one.strip(' \t"') for value in said.get("tdm-reservation", []) for one in value.split(",")]
    if "1" in reservations or (is_reserved and "0" not in reservations):
        return "tdm_reserved"
    for name in ("content-usage", "content-signal"):
        if refuses(",".join(said.get(name, []))):
            return name.replace("-", "_")
    return None


def meta_reason(tags: Iterable[tuple[str, str]]) -> str | None:
    """The same for a page's `<meta name= content=>` pairs: name `robots` or ours, or `tdm-reservation`."""
    for name, content in tags:
        name = name.strip().lower()
        if name in ("robots", "x-robots-tag", AGENT):
            reason = _tag_reason(content)
            if reason is not None:
                return reason
        if name == "tdm-reservation" and "1" in (one.strip() for one in content.split(",")):
            return "tdm_reserved"
        if name in ("content-usage", "content-signal") and refuses(content):
            return name.replace("-", "_")
    return None


def _tag_reason(value: str) -> str | None:
    """One `X-Robots-Tag` value: comma-separated directives; `agent:` before one scopes it and all that follow it.

    A date in `unavailable_after` holds colons and may hold a comma; neither its pieces nor the values of other
    directives are mistaken for an agent, so they hide nothing that follows.
    """
    ours = True
    pieces = re.split("[,;]", value.lower())
    for number, piece in enumerate(pieces):
        piece = piece.strip()
        head, colon, rest = piece.partition(":")
        head = head.strip()
        if colon and not _VALUED.fullmatch(head) and _AGENT_TOKEN.fullmatch(head):
            ours = head in ("*", AGENT) or head.startswith(f"{AGENT}/")
            piece = rest.strip()
        words = piece.split() if ":" not in piece else ()
        if ours and (said := next((_OPT_OUT[word] for word in words if word in _OPT_OUT), None)):
            return said
        if ours and piece.startswith("unavailable_after"):
            date = piece.partition(":")[2].strip()
            # A weekday before the date brings a comma of its own.
            if any(_is_past(text) for text in (date, ",".join([date, *pieces[number + 1 : number + 2]]))):
                return "unavailable_after"
    return None


def _is_past(text: str) -> bool:
    """True for a date (RFC 822, RFC 850 or ISO 8601), with a time or without, behind us; False for no date."""
    for date in (text.strip().upper(), f"{text.strip().upper()} 00:00:00"):
        for parse in (parsedate_to_datetime, datetime.fromisoformat):
            try:
                when = parse(date)
            except (ValueError, TypeError, OverflowError, IndexError):
                continue
            return (when if when.tzinfo else when.replace(tzinfo=UTC)) < datetime.now(UTC)
    return False
