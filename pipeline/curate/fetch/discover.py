"""From a listing (a URL list, a feed, a page) to rows that say what to fetch. A listing never fails silently."""
from dataclasses import dataclass, field
from typing import Literal, get_args

from pipeline.curate.fetch.address import canonical
from pipeline.curate.fetch.feeds import read_feed
from pipeline.curate.fetch.http import FetchConfig, fetch_one
from pipeline.curate.fetch.lists import read_list
from pipeline.curate.fetch.pages import read_page
from pipeline.curate.fetch.rows import listing_row
from pipeline.curate.fetch.video import VideoPageConfig, read_video_page
from pipeline.curate.stage import Leave, Row, failure

Kind = Literal["list", "feed", "page", "video_page"]


@dataclass(frozen=True, kw_only=True)
class DiscoverConfig:
    """How to read listings; `fetch.max_bytes` bounds one listing."""

    fetch: FetchConfig = field(default_factory=lambda: FetchConfig(max_bytes=64 * 2**20))
    video: VideoPageConfig = field(default_factory=VideoPageConfig)


def discover(url: str, kind: Kind, config: DiscoverConfig) -> list[Row]:
    """`INPUT` rows of the files that a listing names, in its order, each key once.

    A listing that cannot be read, names nothing, or opts out is one row that left, so the list is never empty. An
    unknown `kind` is a ValueError.
    """
    if kind not in ("list", "feed", "page", "video_page"):
        raise ValueError(f"kind of listing is {kind!r}, but must be one of list, feed, page, video_page")
    try:
        url = canonical(url)
        if kind == "video_page":
            rows = read_video_page(url, config.fetch, config.video)
        else:
            response = fetch_one(url, config.fetch)
            if kind == "list":
                rows = read_list(response.body, response.url)
            elif kind == "feed":
                rows = read_feed(response.body, response.url)
            else:
                rows = read_page(response.body, response.url, response.headers)
    except Leave as leave:
        return [listing_row(url, leave)]
    except Exception as error:  # a listing from the web may break any parser; it must not break the run
        return [listing_row(url, failure(error))]
    return list({row["key"]: row for row in reversed(rows)}.values())[::-1]


def split_source(source: str) -> tuple[str, Kind]:
    """KIND=URL -> (URL, KIND); ValueError if it is none."""
    kind, _, url = source.partition("=")
    if kind not in get_args(Kind) or not url:
        raise ValueError(f"{source!r} is no source; write KIND=URL with KIND one of {', '.join(get_args(Kind))}")
    return url, kind
