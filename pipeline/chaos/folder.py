"""What a command left in a folder, compared with what an undisturbed one leaves: every file by its digest.

What cannot be equal is listed here with the reason. Curation runs in the folder, whose waves are named at random, are
read back row by row instead.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.chaos.verify import Findings, examine
from pipeline.storage import Store

UNEQUAL = {
    r"lease/.*": "who held the run, when and how often",
    r"metrics\.jsonl|tensorboard/.*": "seconds of each step; a resume is a further line",
    r"ray/.*": "Ray Train's own record of its attempts",
    r"checkpoints/.*": "named at random, and at which steps depends on when it was stopped; `model/` is compared",
    r"(rows|waves|verdicts)/.*": "named by each attempt at random, or name such files; read back row by row",
    r"meter\.json|report\.(json|html)": "wall time and memory of the demo",
}
"""Forms of names, within a folder of any depth -> why these files differ between two undisturbed runs."""
_UNEQUAL = re.compile(rf"(.*/)?({'|'.join(UNEQUAL)})")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Of a folder."""

    files: dict[str, str]
    """Name -> sha256."""
    runs: dict[str, Findings]
    """Folder of a curation run -> its rows, what it exported, and bytes that nothing names."""

    def differences(self, other: "Contents") -> list[str]:
        """Names of files and runs that are not the same in both."""
        files = {name for name, _ in self.files.items() ^ other.files.items()}
        names = self.runs.keys() | other.runs.keys()
        return sorted(files) + sorted(name for name in names if self.runs.get(name) != other.runs.get(name))


def contents(folder: Path) -> Contents:
    """Read the folder; one that is not there is empty."""
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
    files = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names if not _UNEQUAL.fullmatch(name)
    }
    # A ledger marks the folder of a curation run, at any depth.
    ledgers = [folder / name for name in names if Path(name).name == "ledger.json"]
    return Contents(files=files, runs={str(path.parent): examine(Store(str(path.parent))) for path in ledgers})
