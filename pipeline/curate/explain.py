"""Where one row came from and where it went: URL, bytes, span, every score and verdict, shard and offset."""
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.curate import decide, export, revoke, waves
from pipeline.storage import File, Store, manifest, read_json, read_table

_PLAIN = ("key", "input_key", "unit", "order", "state", "reason", "retryable", "detail", "url", "page_url", "source",
          "license", "http_status", "size_bytes", "sha256", "start_s", "end_s")


def explain(store: Store, key: str, rules: tuple[decide.Rules, ...], verdicts: str) -> list[str]:
    """Lines that tell the story of a row, named by its key or the beginning of it; ValueError if there is no such row."""
    table = decide.verdicts(store, verdicts)
    table = table.filter(pc.starts_with(table["key"], key))
    if table.num_rows != 1:
        some = ", ".join(table["key"].to_pylist()[:3])
        raise ValueError(f"{table.num_rows} rows of {store.url} have a key that begins with {key!r}{': ' if some else ''}{some}")
    verdict = table.to_pylist()[0]
    file = next(file for file in waves.files(store) if file.path == verdict["file"])
    row = read_table(store, file).slice(verdict["row"], 1).to_pylist()[0]
    lines = [f"key       {row['key']}", *_origin(store, row)]
    scores = {k: v for k, v in row.items() if k not in (*_PLAIN, *revoke.PAYLOAD) and v is not None}
    lines += [f"score     {name} = {value}" for name, value in scores.items()]
    lines += _verdicts(row, next((rule.filters for rule in rules if rule.unit == row["unit"]), ()))
    end = f"{verdict['state']} {verdict['reason'] or ''}".strip() + (f" ({verdict['detail']})" if verdict["detail"] else "")
    lines += [f"stored    {file.path}, row {verdict['row']}, sha256 of the file {file.sha256}", f"verdict   {end}"]
    return lines + _exported(store, row["key"])


def _origin(store: Store, row: dict[str, Any]) -> list[str]:
    inputs = waves.read_inputs(store)
    assert inputs is not None
    listed = inputs.filter(pc.equal(inputs["key"], row["input_key"])).to_pylist()[0]
    lines = [f"listed    by {listed['source']} in place {listed['order']}", f"url       {row['url']}"]
    lines += [f"page      {row['page_url']}"] if row["page_url"] else []
    lines += [f"license   {row['license'] or 'not declared'}"]
    if row["input_key"] != row["key"]:
        lines.append(f"part of   {row['input_key']}" + _span(row))
    digest = row["sha256"] or _parent_sha256(store, row["input_key"])
    return [*lines, f"bytes     sha256 {digest}" if digest else "bytes     none were had"]


def _span(row: dict[str, Any]) -> str:
    if row.get("start_s") is None:
        return ""
    end = f" to {row['end_s']:.3f} s" if row.get("end_s") is not None else ""
    return f", from {row['start_s']:.3f} s{end}"


def _parent_sha256(store: Store, key: str) -> str | None:
    for found in reversed(waves.every_manifest(store)):
        for file in found["files"]:
            with store.open(file.path) as source:
                table = pq.read_table(source, columns=["key", "sha256"])
            hit = table.filter(pc.equal(table["key"], key))
            if hit.num_rows:
                return hit["sha256"][0].as_py()
    return None


def _verdicts(row: dict[str, Any], filters: tuple[Any, ...]) -> list[str]:
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


def _exported(store: Store, key: str) -> list[str]:
    exported = manifest(store, export.MANIFEST)
    if exported is None:
        return ["exported  nothing yet"]
    index = read_table(store, File(**read_json(store, export.MANIFEST)["index"]))
    spots = index.filter(pc.equal(index["key"], key)).to_pylist()
    if not spots:
        return ["exported  no"]
    tar = f"; {spots[0]['tar']} at byte {spots[0]['tar_offset']}" if spots[0]["tar"] else ""
    return [f"exported  {spots[0]['shard']}, row {spots[0]['row']}{tar}"]
