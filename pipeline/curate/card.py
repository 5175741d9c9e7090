"""The dataset card of an export, in the form that Hugging Face reads: it depends on the export alone, not on the day."""
from collections import Counter
from typing import Any

import pyarrow as pa

from pipeline.curate import plan
from pipeline.storage import Store, manifest

_MOST = 20


def render(store: Store, wanted: dict[str, Any], schema: pa.Schema, facts: dict[str, Any]) -> str:
    """The card as Markdown; `facts` is the export's manifest."""
    licenses, hosts = _sum(facts["shards"], "licenses"), _sum(facts["shards"], "hosts")
    made = plan.fingerprints(store)
    decided = manifest(store, f"verdicts/{wanted['verdicts']}.json") or {}
    parts = [
        "---", "configs:", "- config_name: default", "  data_files: shard-*.parquet", "---",
        f"# {facts['rows']} {wanted['unit']} rows",
        "", f"Made by `{made[-1]['job'] if made else 'a curation'}`. Readers: the files that count are those in "
        "`manifest.json`, each with its size and sha256; `index` says in which shard, and where in it, a key lies.",
        "", "## Columns", "", "| column | type |", "|---|---|",
        *(f"| {name} | {schema.field(name).type} |" for name in wanted["columns"]),
        "", "## Licenses, as declared by the sources", "", *_table(licenses, "license"),
        "", "## Hosts", "", *_table(hosts, "host"),
        "", "## Rules", "", *_rules(decided.get("rules", [])),
        "", "## Identity", "", f"- verdicts: `{wanted['verdicts']}`", f"- sha256 of the keys in order: `{facts['keys_sha256']}`",
        *(f"- code: `{found['code']}`, inputs: `{found['inputs']}`" for found in made),
    ]
    return "\n".join(parts) + "\n"


def _sum(shards: list[dict[str, Any]], name: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for shard in shards:
        total.update(shard[name])
    return total


def _table(counts: Counter[str], name: str) -> list[str]:
    if not counts:
        return ["Not exported."]
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(number for _, number in ranked[_MOST:])
    rows = [f"| {value.replace('|', ' ')} | {number} |" for value, number in ranked[:_MOST]]
    return [f"| {name} | rows |", "|---|---|", *rows, *([f"| all others | {rest} |"] if rest else [])]


def _rules(rules: list[dict[str, Any]]) -> list[str]:
    lines = []
    for rule in rules:
        for entry in rule["filters"]:
            options = ", ".join(f"{k}={v}" for k, v in entry.items() if k != "rule")
            lines.append(f"- {rule['unit']}: {entry['rule']}" + (f" ({options})" if options else ""))
        if rule["unique_by"]:
            lines.append(f"- {rule['unit']}: one row for each {rule['unique_by']}")
    return lines or ["None."]
