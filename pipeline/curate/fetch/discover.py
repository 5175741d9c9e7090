"""From a listing (a URL list, a feed, a page) to rows that say what to fetch. A listing never fails silently."""

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from pipeline.curate.fetch.address import canonical
from pipeline.curate.fetch.feeds import read_feed
from pipeline.curate.fetch.http import FetchConfig, fetch_one
from pipeline.curate.fetch.lists import read_list
from pipeline.curate.fetch.pages import read_page
from pipeline.curate.fetch.rows import listing_row
from pipeline.curate.stage import Leave, Row, failure

Kind = Literal["list", "feed", "page", "video_page"]

# Parsers of pages and feeds hold a tree in memory and meet hostile input; lists are read line by line.
_MAX_BYTES = {"list": 1 << 40, "feed": 32 * 2**20, "page": 8 * 2**20, "video_page": 4 * 2**20}


@dataclass(frozen=True, kw_only=True)
class DiscoverConfig:
    """How to read listings; `fetch.max_bytes` bounds one listing, and further feeds (32 MiB) and pages (8, video 4)."""

    fetch: FetchConfig = field(default_factory=lambda: FetchConfig(max_bytes=64 * 2**20))
    extractors: tuple[str, ...] = ("generic", "html5")
    """Regexes of the names of yt-dlp's extractors that may run; further ones, such as youtube, are yours to allow."""


def discover(url: str, kind: Kind, config: DiscoverConfig) -> list[Row]:
    """`INPUT` rows of the files that a listing names, in its order; what it names twice is there twice.

    A listing that cannot be read, names nothing, or opts out is one row that left, so the list is never empty. An
    unknown `kind` is a ValueError.
    """
    if kind not in _MAX_BYTES:
        raise ValueError(f"kind of listing is {kind!r}, but must be one of {', '.join(_MAX_BYTES)}")
    fetch = replace(config.fetch, max_bytes=min(config.fetch.max_bytes, _MAX_BYTES[kind]))
    try:
        url = canonical(url)
        if kind == "video_page":
            from pipeline.curate.fetch.video import read_video_page  # yt-dlp, which only such pages need

            rows = read_video_page(url, fetch, config.extractors)
        else:
            response = fetch_one(url, fetch)
            if kind == "list":
                rows = read_list(response.body, response.url)
            elif kind == "feed":
                rows = read_feed(response.body, response.url)
            else:
                rows = read_page(response.body, response.url, response.headers)
    except Leave as leave:
        return [listing_row(url, leave)]
    except Exception as error:  # noqa: BLE001 - a listing from the web may break any parser; it must not break the run
        return [listing_row(url, failure(error))]
    return rows


def split_source(source: str) -> tuple[str, Kind]:
    """KIND=URL -> (URL, KIND); ValueError if it is none."""
    name, _, url = source.partition("=")
    kinds: tuple[Kind, ...] = get_args(Kind)
    kind = next((kind for kind in kinds if kind == name), None)
    if kind is None or not url:
        raise ValueError(f"sources holds {source!r}; write KIND=URL with KIND one of {', '.join(kinds)}")
    return url, kind
