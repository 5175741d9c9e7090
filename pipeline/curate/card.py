"""The dataset card of an export, in the form that Hugging Face reads: it depends on the export alone, not on the day.

It names the shards one by one: caches know a data set by them, so two corpora, or two versions of one, never meet
there. What the web wrote is text in it: no markup, no control characters, no more than a line's worth.
"""

import re
from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import digest
from pipeline.curate import decide, plan
from pipeline.curate.journal import Journal
from pipeline.log import clean
from pipeline.records import MEANING

_MOST = 20
_PLAIN = re.compile(r"(?!.*www)[A-Za-z0-9][A-Za-z0-9 .+-]*", re.IGNORECASE)
_CHARS = 80
_FEATURES = {"image": "image", "audio": "audio"}
_DTYPES = {"double": "float64", "float": "float32"}


@dataclass(frozen=True, kw_only=True)
class Described:
    """What the card is of."""

    unit: str
    verdicts: str
    columns: tuple[str, ...]
    shards: tuple[str, ...]
    has_tars: bool
    keys_sha256: str


def render(journal: Journal, export: Described, schema: pa.Schema, rows: pa.Table) -> str:
    """The card as Markdown; `rows` are the exported rows' verdicts, with `url` and `license`."""
    fingerprints = plan.fingerprints(journal)
    verdicts = decide.manifest_of(journal, export.verdicts)
    parts = [
        *_front_matter(export, schema),
        f"# {rows.num_rows} {export.unit} rows",
        "",
        f"Made by `{fingerprints[-1]['job'] if fingerprints else 'a curation'}`.",
        "",
        *_reading(export),
        "",
        "## Columns",
        "",
        "| column | type | what it is |",
        "|---|---|---|",
        *(f"| {name} | {schema.field(name).type} | {MEANING.get(name, '')} |" for name in export.columns),
        "",
        "## Licenses, as declared by the sources",
        "",
        *_table(_licenses(rows), "license"),
        "",
        "## Hosts",
        "",
        *_table(_hosts(rows), "host"),
        "",
        "## Rules",
        "",
        *_rules(() if verdicts is None else verdicts.rules),
        "",
        "## Identity",
        "",
        f"- verdicts: `{export.verdicts}`",
        f"- sha256 of the keys in order: `{export.keys_sha256}`",
        *(f"- code: `{digest(entries['code'])}`, inputs: `{entries['inputs']}`" for entries in fingerprints),
    ]
    return "\n".join(parts) + "\n"


def as_text(text: str) -> str:
    """Text of the web as Markdown that shows it and does nothing else: one line, no links, no markup, no HTML."""
    text = clean(" ".join(text.split()), _CHARS)
    return text if _PLAIN.fullmatch(text) else "".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in text)


def _front_matter(export: Described, schema: pa.Schema) -> list[str]:
    features = [
        line
        for name in export.columns
        for line in (f"  - name: {name}", f"    dtype: {_FEATURES.get(name) or _dtype(schema.field(name).type)}")
    ]
    return [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path:",
        *(f"    - {path.removeprefix('export/')}" for path in export.shards),
        "dataset_info:",
        "  features:",
        *features,
        "---",
    ]


def _dtype(kind: pa.DataType) -> str:
    return _DTYPES.get(str(kind), str(kind))


def _reading(export: Described) -> list[str]:
    tars = [
        'webdataset.WebDataset("FOLDER/webdataset/shard-….tar")',
        'datasets.load_dataset("webdataset", data_files="FOLDER/webdataset/*.tar")',
    ]
    lines = [
        'datasets.load_dataset("FOLDER")',
        'pandas.read_parquet("FOLDER/data")',
        'pyarrow.dataset.dataset("FOLDER/data")',
        "duckdb: from 'FOLDER/data/*.parquet'",
        *(tars if export.has_tars else []),
    ]
    return [
        "Each key is there once. `manifest.json` lists the files with their sizes and sha256; `_index-….arrow` says in "
        "which shard and row a key lies" + (", and where in a tar" if export.has_tars else "") + ".",
        "",
        "```",
        *lines,
        "```",
    ]


def _licenses(rows: pa.Table) -> Counter[str]:
    return Counter({value or "not declared": number for value, number in _counts(rows["license"])})


def _hosts(rows: pa.Table) -> Counter[str]:
    hosts: Counter[str] = Counter()
    for url, number in _counts(rows["url"]):
        hosts[_host(url or "")] += number
    return hosts


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "unknown"
    except ValueError:  # a bracket that is not closed
        return "unknown"


def _counts(column: pa.ChunkedArray) -> list[tuple[str | None, int]]:
    return [(entry["values"], entry["counts"]) for entry in pc.value_counts(column).to_pylist()]


def _table(counts: Counter[str], name: str) -> list[str]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(number for _, number in ranked[_MOST:])
    rows = [f"| {as_text(value)} | {number} |" for value, number in ranked[:_MOST]]
    return [f"| {name} | rows |", "|---|---|", *rows, *([f"| all others | {rest} |"] if rest else [])]


def _rules(rules: tuple[dict[str, object], ...]) -> list[str]:
    lines = []
    for rule in rules:
        for entry in decide.filters_of(rule):
            options = ", ".join(f"{k}={v}" for k, v in entry.items() if k != "rule")
            lines.append(f"- {rule['unit']}: {entry['rule']}" + (f" ({options})" if options else ""))
        if rule["unique_by"]:
            lines.append(f"- {rule['unit']}: one row for each {rule['unique_by']}")
    return lines or ["None."]
