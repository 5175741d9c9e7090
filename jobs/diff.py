"""Name each sample in which two curation runs differ, and why; status 1 if they do.

python -m jobs.diff RUN_A RUN_B
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass

from jobs._main import run
from pipeline.curate import diff
from pipeline.curate.journal import Journal
from pipeline.log import clean, say
from pipeline.storage import Store


@dataclass(frozen=True, kw_only=True)
class Diff:
    """Compare two finished curation runs."""

    a: str
    """Folder of the one run."""
    b: str
    """Folder of the other."""
    limit: int = 100
    """Samples to print; all are counted."""
    json_lines: bool = False
    """Print each sample as one JSON object, without a limit, and nothing else."""


def main(config: Diff) -> None:
    """Print the plans' differences, the samples, and the sums."""
    a, b = Journal(Store(config.a)), Journal(Store(config.b))
    total: Counter[str] = Counter()
    if not config.json_lines:
        for line in diff.plans(a, b) or ["the same"]:
            say(f"plan      {line}")
    for change in diff.rows(a, b):
        total[f"{change.unit} {change.why}"] += 1
        if config.json_lines:
            print(json.dumps(asdict(change)))
        elif sum(total.values()) <= config.limit:
            what = f"{change.why}: {clean(change.before)} -> {clean(change.after)}"
            say(f"{change.unit:<9} {change.key}  {what}  {clean(change.url)}")
    if not config.json_lines:
        say(", ".join(f"{number} {what}" for what, number in sorted(total.items())) or "no sample differs")
    if total:
        raise SystemExit(1)


if __name__ == "__main__":
    run(Diff, main, "a", "b")
