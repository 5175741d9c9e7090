"""Feeds in pages (RFC 5005): every page is fetched as any URL is, by the same rules of consent and politeness.

Guarantees: a publisher's block on any page holds for all of them; pages that lead in a circle, or bring nothing new,
end the reading; where it ends before the feed does, a row says so (`listing_cut`).
"""

from collections.abc import Callable

from pipeline.curate.fetch.address import shown
from pipeline.curate.fetch.feeds import empty, read_page
from pipeline.curate.fetch.response import Response
from pipeline.curate.fetch.rows import listing_row
from pipeline.curate.stage import Leave, Row, State, left
from pipeline.records import key_of

_MAX_BYTES = 128 * 2**20  # of all pages


def read_pages(url: str, fetch: Callable[[str], Response], max_pages: int) -> list[Row]:
    """`INPUT` rows of the feed at `url` and of the pages that follow it.

    Raises Leave as `read_page` does for the first page; failed `listing_empty` if no page names a file.
    """
    rows: list[Row] = []
    seen: set[str] = set()
    keys: set[str] = set()
    is_blocked, size_bytes = False, 0
    next_url: str | None = url
    cut: Leave | None = None
    while next_url and next_url not in seen:
        if seen and (len(seen) >= max_pages or size_bytes > _MAX_BYTES or is_blocked):
            cut = Leave("failed", "listing_cut", detail=f"{len(seen)} pages were read; more follow: {shown(next_url)}")
            break
        seen.add(next_url)
        try:
            response = fetch(next_url)
            page = read_page(response.body, response.url)
        except Leave as leave:
            if len(seen) == 1:
                raise
            # Nothing to try again by itself: the feed is what is read again, by --refresh.
            state: State = "dropped" if leave.state == "dropped" else "failed"
            cut = Leave(state, "listing_cut", detail=f"page {len(seen)}: {leave.reason} {leave.detail}")
            break
        seen.add(response.url)
        size_bytes += len(response.body)
        is_blocked |= page.is_blocked
        fresh = {row["key"] for row in page.rows} - keys
        if keys and page.rows and not fresh:
            break  # the host does not know pages, and gives the same for each
        keys |= fresh
        rows += page.rows
        next_url = page.next_url
    if is_blocked:
        blocked = Leave("dropped", "podcast_block", detail=shown(url))
        rows = [left(row, blocked) if row["state"] is None else row for row in rows]
        cut = None  # its publisher asks us to leave it
    if cut is not None:
        rows.append(listing_row(url, cut) | {"key": key_of(url, "cut")})
    if not rows:
        raise empty(url)
    return rows
