"""The door of a run: listings become inputs, each line of them once, and are counted.

Listings are read by a stage, within the limits of stages. The manifest of the inputs says of each listing how many rows
it gave, so the books begin at its lines. A listing that could not be read is known by its rows, all of which failed or
were put off; when it is read later, its new rows stand for those. What a listing names anew becomes inputs of a further
round. Rows of files stay; what could not be read within a listing (`listing_cut`, `list_line_unreadable`) goes once a
new reading does not say it again. So refreshing twice is refreshing once.
"""

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.curate import plan, waves
from pipeline.curate.guard import Guard
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import InputsManifest, ListingRows
from pipeline.curate.stage import Stage
from pipeline.curate.through import tables, through
from pipeline.log import clean, logger
from pipeline.records import INPUT, INPUTS, key_of
from pipeline.redact import is_redacted, redacted_text

if TYPE_CHECKING:
    from ray.data import Dataset

_ROOM = 1 << 40  # places in the order for the rows of one listing
_UNREAD_WITHIN = ("listing_cut", "list_line_unreadable")
"""Reasons of rows that are of no file, but of a place in a listing that was read otherwise."""
_SAID = ("source", "state", "reason", "detail")


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """Inputs that a run has not had yet, and the keys of those that they stand for."""

    rows: pa.Table
    replaces: tuple[str, ...]


def read(discover: Stage, sources: Sequence[str], guard: Guard | None) -> list[pa.Table]:
    """What each source names now, as tables of INPUT in its own order. Needs Ray.

    ValueError for a source whose secret was not kept.
    """
    import ray

    if cut := [source for source in sources if is_redacted(source)]:
        raise ValueError(f"{shown(cut[0])} was saved without the secret in it; name it again with --sources")
    asked = [
        {"key": key_of(source), "url": shown(source), "source": source, "order": i * _ROOM}
        for i, source in enumerate(sources)
    ]
    dataset: Dataset = ray.data.from_arrow([pa.Table.from_pylist([row], schema=INPUT) for row in asked])
    blocks = tables(through(dataset, discover, schema=INPUT, guard=guard))
    rows = pa.concat_tables([INPUT.empty_table(), *(block.cast(INPUT) for block in blocks)]).sort_by("order")
    counts = Counter(pc.divide(rows["order"], _ROOM).to_pylist())
    listings, start = [], 0
    for i, source in enumerate(sources):
        part = rows.slice(start, counts[i])
        start += counts[i]
        listings.append(_set(part, "source", pa.repeat(redacted_text(source), part.num_rows)))
    return listings


def numbered(listings: Sequence[pa.Table]) -> pa.Table:
    """The rows of all listings as the inputs of a run. One that was listed before is an input too, and leaves as a
    duplicate."""
    return _numbered(pa.concat_tables(listings), (), Counter(), 0)


def counted(sources: Sequence[str], listings: Sequence[pa.Table]) -> list[ListingRows]:
    """What the manifest of the inputs says of the listings."""
    pairs = zip(sources, listings, strict=True)
    return [ListingRows(source=redacted_text(source), rows=table.num_rows) for source, table in pairs]


def refuse_unread(sources: Sequence[str], listings: Sequence[pa.Table]) -> None:
    """ValueError, in one line, if nothing that the listings name can be worked on: nothing may be committed then."""
    if not all(map(_is_unread, listings)):
        return
    first = listings[0].slice(0, 1).to_pylist()
    why = f"{first[0]['reason']}, {first[0]['detail']}" if first else "it names nothing"
    more = f" (and {len(sources) - 1} more)" if sources[1:] else ""
    raise ValueError(
        f"no listing could be read: {shown(sources[0])}{more}: {clean(why)}; nothing was committed: mend it, or name "
        "another with --sources"
    )


def fresh(
    journal: Journal, discover: Stage, sources: Sequence[str], guard: Guard | None, *, every: bool
) -> Fresh | None:
    """What the listings name by now and the run has not had: those that could not be read before, or `every` one.

    None if there is nothing new. Needs Ray.
    """
    unread = _unread(journal)
    if not every:  # retrying names no sources, so what was cut from them is lost
        sources = [source for source in sources if redacted_text(source) in unread and not is_redacted(source)]
    had = dict(zip(sources, read(discover, sources, guard), strict=True)) if sources else {}
    read_now = {source: table for source, table in had.items() if not _is_unread(table)}
    for source in had.keys() - read_now.keys():
        reasons = sorted(set(had[source]["reason"].to_pylist()))
        logger.warning("%s could not be read: %s", shown(source), ", ".join(reasons) or "it names nothing")
    if not read_now:
        return None
    replaces = [key for source in read_now for key in unread.get(redacted_text(source), ())]
    rows = pa.concat_tables(list(read_now.values()))
    inputs = every_input(journal, ("key", "order", *_SAID))
    assert inputs is not None
    if every:
        replaces += _mended(inputs, rows, read_now, replaces)
    known = set(inputs["key"].to_pylist()) - set(replaces)
    seen: Counter[str] = Counter() if every else _occurrences(known, rows["key"].to_pylist())
    rows = _numbered(rows, known, seen, pc.max(inputs["order"]).as_py() + 1)
    return Fresh(rows=rows, replaces=tuple(replaces)) if rows.num_rows or replaces else None


def _mended(inputs: pa.Table, rows: pa.Table, sources: Iterable[str], known: Container[str]) -> list[str]:
    """Keys, but for `known` ones, of what could not be read within these listings before, and is not said again, or in
    other words."""
    named = set(map(redacted_text, sources))
    said = {tuple(row.values()) for row in _numbered(rows, (), Counter(), 0).select(["key", *_SAID]).to_pylist()}
    before = inputs.select(["key", *_SAID]).filter(pc.is_in(inputs["reason"], pa.array(_UNREAD_WITHIN))).to_pylist()
    new = [row["key"] for row in before if row["source"] in named and tuple(row.values()) not in said]
    return [key for key in new if key not in known]


def every_input(journal: Journal, columns: Sequence[str] = ("key", "order")) -> pa.Table | None:
    """These columns of every input that stands: of the run's first reading of its listings and of later ones; null
    where a later one does not know them."""
    first = waves.read_inputs(journal, list(columns))
    if first is None:
        return None
    first = first.select(list(columns))
    standing = first
    for number in plan.of_new_inputs(journal):
        gone = pc.is_in(standing["key"], pa.array(plan.replaced(journal, number) or (), pa.string()))
        standing = pa.concat_tables(
            [standing.filter(pc.invert(gone)), _with(plan.round_rows(journal, number), first.schema)]
        )
    return standing


def started(journal: Journal, first: pa.Table) -> pa.Table:
    """Every input as the rows that the stages start from: `first` are those of the first reading."""
    later = (plan.round_rows(journal, number) for number in plan.of_new_inputs(journal))
    return pa.concat_tables([first, *(rows.cast(first.schema) for rows in later)])


def shown(source: str) -> str:
    """A source as a message may show it."""
    return clean(redacted_text(source))


def _unread(journal: Journal) -> dict[str, list[str]]:
    """Source -> the keys of its rows, for each listing that has not been read yet."""
    manifest = journal.find(INPUTS, InputsManifest)
    inputs = waves.read_inputs(journal, ["key", "state"])
    assert manifest is not None and inputs is not None
    replaced = {key for number in plan.of_new_inputs(journal) for key in plan.replaced(journal, number) or ()}
    unread: dict[str, list[str]] = {}
    start = 0
    for listing in manifest.listings:
        rows = inputs.slice(start, listing.rows)
        start += listing.rows
        keys = rows["key"].to_pylist()
        if _is_unread(rows) and not replaced & set(keys):
            unread.setdefault(listing.source, []).extend(keys)
    return unread


def _is_unread(rows: pa.Table) -> bool:
    """True if nothing in a listing can be worked on for want of reading it: no row waits, and no rule let one go."""
    return set(pc.unique(rows["state"]).to_pylist()) <= {"failed", "deferred"}


def _occurrences(known: Container[str], keys: Iterable[str]) -> Counter[str]:
    """How often each of these keys was listed already."""
    seen: Counter[str] = Counter()
    for key in set(keys):
        while _nth(key, seen[key]) in known:
            seen[key] += 1
    return seen


def _nth(key: str, before: int) -> str:
    """The key of an input that was listed so many times `before`."""
    return key_of(key, str(before)) if before else key


def _numbered(rows: pa.Table, known: Container[str], seen: Counter[str], start: int) -> pa.Table:
    """Rows under keys of their own, in their order from `start`, without those that are `known`; a duplicate that has
    not left leaves."""
    keys, places, again = [], [], []
    for place, key in enumerate(rows["key"].to_pylist()):
        name = _nth(key, seen[key])
        if name not in known:
            keys.append(name)
            places.append(place)
            again.append(seen[key] > 0)
        seen[key] += 1
    rows = rows.take(pa.array(places, pa.int64()))
    leaves = pc.and_(pa.array(again, pa.bool_()), pc.is_null(rows["state"]))
    rows = _set(rows, "key", pa.array(keys, pa.string()))
    rows = _set(rows, "order", pa.array(range(start, start + len(keys)), pa.int64()))
    rows = _set(rows, "state", pc.if_else(leaves, "dropped", rows["state"]))
    return _set(rows, "reason", pc.if_else(leaves, "duplicate_url", rows["reason"]))


def _with(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with the columns of a schema, null where they lack one."""
    blank = pa.nulls(rows.num_rows)
    columns = [rows[name] if name in rows.column_names else blank for name in schema.names]
    return pa.table([column.cast(schema.field(i).type) for i, column in enumerate(columns)], schema)


def _set(table: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field, column.cast(field.type))
