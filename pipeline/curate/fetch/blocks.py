"""Blocks of feeds: `podcast:block` (Podcast namespace, block.md) and its forebears `itunes:block`, `googleplay:block`.

Whose name a block bears decides: a `no` for us by name is leave, a `yes` for us by name or for all is a refusal.
"""

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.curate.fetch.robots import AGENT

# A tag ends at the next `<` at the latest, so that time is linear whatever is left open.
_TAG = re.compile(
    r"<(/?)(?:(item|entry)\b|(?:[\w.-]+:)?block\b([^<>]*)>\s*(?:<!\[CDATA\[\s*)?([^<\]]{0,20}))", re.IGNORECASE
)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_ID = re.compile(r"""\bid\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'/>]+))""", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block: the platform it is for, if it names one, and what it says."""

    id: str | None
    value: str


def is_blocked(blocks: Iterable[Block]) -> bool:
    """Whether the blocks of a feed, or of an item, keep us away (block.md, steps 1 to 3)."""
    blocks = list(blocks)
    own = [block for block in blocks if (block.id or "").strip().lower() == AGENT]
    if any(_said(block) == "no" for block in own):
        return False
    return any(_said(block) in ("yes", "true") for block in blocks if block in own or not (block.id or "").strip())


def blocks_of(text: str) -> tuple[list[Block], list[list[Block]]]:
    """Blocks of a feed that is no XML: those of all of it, and those of each item."""
    of_all: list[Block] = []
    of_items: list[list[Block]] = []
    where = of_all
    for tag in _TAG.finditer(_COMMENT.sub("", text)):
        end, item, attributes, value = tag.groups()
        if item:
            where = of_all if end else []
            if not end:
                of_items.append(where)
        elif not end:
            name = _ID.search(attributes)
            named = html.unescape(next(filter(None, name.groups()), "")) if name else None
            where.append(Block(id=named, value=html.unescape(value)))
    return of_all, of_items


def _said(block: Block) -> str:
    return block.value.strip().lower()
