"""From a listing (a URL list, a feed, a page) to rows that say what to fetch. A listing never fails silently.

It is a stage, so that what a stranger sent is read within the limits that stages have.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, get_args

from pipeline.curate.fetch import charset, keepers, local
from pipeline.curate.fetch.address import canonical
from pipeline.curate.fetch.columns import ListConfig
from pipeline.curate.fetch.feeds import MAX_BYTES as FEED_BYTES
from pipeline.curate.fetch.http import FetchConfig, fetch_one
from pipeline.curate.fetch.lists import read_list
from pipeline.curate.fetch.paged import read_pages
from pipeline.curate.fetch.pages import read_page
from pipeline.curate.fetch.rows import listing_row
from pipeline.curate.fetch.unpack import TooLargeError
from pipeline.curate.stage import Leave, Row, Split, failure
from pipeline.ranges import check_range

Kind = Literal["list", "feed", "page", "video_page"]

# Parsers of pages and feeds hold a tree in memory and meet hostile input.
_MAX_BYTES = {"feed": FEED_BYTES, "page": 8 * 2**20, "video_page": 4 * 2**20}


@dataclass(frozen=True, kw_only=True)
class DiscoverConfig:
    """How to read listings; `fetch.max_bytes` bounds one, and further feeds (32 MiB) and pages (8, video 4); of a list
    `lists.max_bytes` does."""

    fetch: FetchConfig = field(default_factory=lambda: FetchConfig(max_bytes=64 * 2**20))
    extractors: tuple[str, ...] = ("generic", "html5")
    """Regexes of the names of yt-dlp's extractors that may run; further ones, such as youtube, are yours to allow."""
    lists: ListConfig = field(default_factory=ListConfig)
    max_pages: int = 50
    """Pages of a feed that are read at most; a row says where more follow."""

    def __post_init__(self) -> None:
        check_range(self, "max_pages", low=1)


@dataclass(frozen=True, kw_only=True)
class Discover(Split):
    """A listing, whose `source` is KIND=URL, becomes a row per file that it names.

    `order` of the listing is the first of its rows'.
    """

    config: DiscoverConfig = field(default_factory=DiscoverConfig)
    batch_rows: ClassVar[int] = 1

    def answer(self, question: bytes, run_dir: str | None) -> bytes:
        """What the keepers of the hosts answer."""
        return keepers.answer(question, run_dir)

    def split(self, row: Row) -> Iterator[Row]:
        """`INPUT` rows in the listing's order."""
        for place, found in enumerate(discover(*split_source(row["source"]), self.config)):
            yield found | {"order": row["order"] + place}


def discover(url: str, kind: Kind, config: DiscoverConfig) -> list[Row]:
    """`INPUT` rows of the files that a listing names, in its order; what it names twice is there twice.

    A listing that cannot be read, names nothing, or opts out is one row that left, so the list is never empty. A list
    may be a path or a folder of lists. An unknown `kind` is a ValueError.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind of listing is {kind!r}, but must be one of {', '.join(get_args(Kind))}")
    if kind == "list" and not local.is_web(url):
        return _local(url, config.lists)
    try:
        url = canonical(url)
        return _web(url, kind, config)
    except Leave as leave:
        return [listing_row(url, leave)]
    except Exception as error:  # noqa: BLE001 - a listing from the web may break any parser; it must not break the run
        return [listing_row(url, failure(error))]


def _web(url: str, kind: Kind, config: DiscoverConfig) -> list[Row]:
    limit = config.lists.max_bytes if kind == "list" else min(config.fetch.max_bytes, _MAX_BYTES[kind])
    fetch = replace(config.fetch, max_bytes=limit)
    if kind == "video_page":
        from pipeline.curate.fetch.video import read_video_page  # yt-dlp, which only such pages need

        return read_video_page(url, fetch, config.extractors)
    if kind == "feed":
        return read_pages(url, lambda page: fetch_one(page, fetch), config.max_pages)
    response = fetch_one(url, fetch)
    if kind == "page":
        return read_page(response.body, response.url, response.headers)
    declared = charset.declared(response.headers.get("Content-Type", ""))
    return read_list(response.body, response.url, config.lists, charset=declared)


def _local(path: str, config: ListConfig) -> list[Row]:
    try:
        names = local.files(path)
    except ValueError as error:
        return [listing_row(path, Leave("failed", "list_missing", detail=str(error)))]
    return [row for name in names for row in _file(name, config)]


def _file(path: str, config: ListConfig) -> list[Row]:
    try:
        return read_list(local.read(path, config.max_bytes), path, config, is_web=False)
    except Leave as leave:
        return [listing_row(path, leave)]
    except TooLargeError as error:
        return [listing_row(path, Leave("failed", "too_large", detail=f"{path} is a {error}"))]
    except Exception as error:  # noqa: BLE001 - as above
        return [listing_row(path, failure(error))]


def split_source(source: str) -> tuple[str, Kind]:
    """KIND=URL -> (URL, KIND); ValueError if it is none."""
    name, _, url = source.partition("=")
    kinds: tuple[Kind, ...] = get_args(Kind)
    kind = next((kind for kind in kinds if kind == name), None)
    if kind is None or not url:
        raise ValueError(f"sources holds {source!r}; write KIND=URL with KIND one of {', '.join(kinds)}")
    return url, kind


def check_sources(sources: Iterable[str]) -> None:
    """ValueError, in one line, for a list by path that is not there, and if there are no sources at all."""
    sources = tuple(sources)
    if not sources:
        raise ValueError("there is no listing to read; name some with --sources KIND=URL")
    for url, kind in map(split_source, sources):
        if local.is_web(url):
            continue
        if kind != "list":
            raise ValueError(f"{kind}={url} is no URL of the web; only a list may be named by a path")
        local.files(url)
