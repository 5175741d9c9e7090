"""Where one row came from and where it went: URL, bytes, span, words, every score and verdict, shard and offset."""

import pyarrow.compute as pc

from pipeline.curate import decide, export, listings, revoke, waves
from pipeline.curate.journal import Journal
from pipeline.curate.stage import Filter, Row
from pipeline.log import clean
from pipeline.records import INPUTS, PAYLOAD
from pipeline.redact import redacted_text
from pipeline.storage import CorruptFileError, read_table

_PLAIN = (
    "key",
    "input_key",
    "unit",
    "order",
    "state",
    "reason",
    "retryable",
    "detail",
    "url",
    "page_url",
    "source",
    "license",
    "http_status",
    "size_bytes",
    "sha256",
    "start_s",
    "end_s",
)
_WORDS = ("caption", "text", "transcript")
_SHOWN = 20
"""Rows of one URL that are explained; an episode has hundreds of clips."""


def matching(journal: Journal, name: str, verdicts: str) -> list[Row]:
    """The verdicts on the row with this key or a key that begins with it, or on the rows that were had from this URL.

    ValueError if there is none, or if several keys begin so. Of a URL the inputs come before what was cut from them.
    """
    table = decide.verdicts(journal, verdicts)
    if "/" in name:
        named = revoke.Revocation(kind="url", value=name)
        rows = [row for row in table.to_pylist() if named.matches({"url": row["url"]})]
        if not rows:
            raise ValueError(
                f"no row of {journal.store.url} was had from {clean(redacted_text(name))}; jobs.rows lists them"
            )
        return sorted(rows, key=lambda row: row["key"] != row["input_key"])[:_SHOWN]
    table = table.filter(pc.starts_with(table["key"], name))
    if table.num_rows != 1:
        keys = ", ".join(table["key"].to_pylist()[:3])
        raise ValueError(
            f"{table.num_rows} rows of {journal.store.url} have a key that begins with {name!r}"
            + (f": {keys}" if keys else "")
        )
    return table.to_pylist()


def explain(journal: Journal, verdict: Row, rules: tuple[decide.Rules, ...]) -> list[str]:
    """Lines that tell the story of a row; what the web wrote is in them as it is."""
    part = next((part for part in waves.parts(journal) if part.scores.path == verdict["file"]), None)
    if part is None:
        raise CorruptFileError(f"{journal.store.url}/{verdict['file']} is named by no wave any more; run the job again")
    row = waves.read_part(journal.store, part).slice(verdict["row"], 1).to_pylist()[0]
    lines = [f"key       {row['key']}", *_origin(journal, row)]
    lines += [f"{name:<9} {clean(value)}" for name in _WORDS if (value := row.get(name))]
    scores = {k: v for k, v in row.items() if k not in (*_PLAIN, *PAYLOAD) and v is not None}
    lines += [f"score     {name} = {value}" for name, value in scores.items()]
    lines += _verdicts(row, next((rule.filters for rule in rules if rule.unit == row["unit"]), ()))
    end = decide.ending(verdict) + (f" ({verdict['detail']})" if verdict["detail"] else "")
    lines += [
        f"stored    {part.scores.path}, row {verdict['row']}, sha256 of the file {part.scores.sha256}",
        f"verdict   {end}",
    ]
    return [*lines, _exported(journal, row["key"])]


def _origin(journal: Journal, row: Row) -> list[str]:
    inputs = listings.every_input(journal, ("key", "source", "order"))
    if inputs is None:
        raise CorruptFileError(f"{journal.store.url}/{INPUTS} is missing; see jobs.status")
    listed = inputs.filter(pc.equal(inputs["key"], row["input_key"])).to_pylist()[0]
    lines = [f"listed    by {listed['source']} in place {listed['order']}", f"url       {row['url']}"]
    lines += [f"page      {row['page_url']}"] if row["page_url"] else []
    lines += [f"license   {clean(row['license'] or 'not declared')}"]
    if row["input_key"] != row["key"]:
        lines.append(f"part of   {row['input_key']}" + _span(row))
    digest = row["sha256"] or _parent_sha256(journal, row["input_key"])
    return [*lines, f"bytes     sha256 {digest}" if digest else "bytes     none were had"]


def _span(row: Row) -> str:
    if row.get("start_s") is None:
        return ""
    end = f" to {row['end_s']:.3f} s" if row.get("end_s") is not None else ""
    return f", from {row['start_s']:.3f} s{end}"


def _parent_sha256(journal: Journal, key: str) -> str | None:
    for part in reversed(waves.parts(journal)):
        table = read_table(journal.store, part.scores, ["key", "sha256"])
        hit = table.filter(pc.equal(table["key"], key))
        if hit.num_rows:
            return hit["sha256"][0].as_py()
    return None


def _verdicts(row: Row, filters: tuple[Filter, ...]) -> list[str]:
    if row["state"] is not None:
        return ["rules     not asked: it left before them"]
    lines = []
    for rule in filters:
        try:
            says = rule.reason(row) or "passes"
        except Exception as error:  # noqa: BLE001 - shown as it is
            says = f"cannot say: {error}"
        lines.append(f"rule      {rule!r}: {says}")
    return lines


def _exported(journal: Journal, key: str) -> str:
    index = export.read_index(journal)
    if index is None:
        return "exported  nothing yet"
    places = index.filter(pc.equal(index["key"], key)).to_pylist()
    if not places:
        return "exported  no"
    tar = f"; {places[0]['tar']} at byte {places[0]['tar_offset']}" if places[0]["tar"] else ""
    return f"exported  {places[0]['shard']}, row {places[0]['row']}{tar}"
