"""What a benchmark prints: the machine first, then one JSON object a measurement; and the same in a file.

Needs nothing but Python, so that it runs where there is only torch.
"""

import contextlib
import itertools
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

Line = Mapping[str, object]
"""One measurement: JSON values by name. Lines of one kind have the same names."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every benchmark takes."""

    out: str | None = None
    """Keep the result in this file, .json or .md."""
    verbose: bool = False
    """Show all that Ray says, and the whole of an error."""

    def __post_init__(self) -> None:
        if self.out is None:
            return
        path = Path(self.out)
        if path.suffix not in (".json", ".md") or any(folder.is_file() for folder in path.parents):
            raise ValueError(f"--out {path} must end in .json or .md, and no folder of it may be a file")

    @property
    def ray_cpus(self) -> int:
        """CPUs that it needs of a Ray that runs; 0: it needs no Ray."""
        return 0


def machine() -> dict[str, object]:
    """Hardware, versions and date: what a figure means nothing without."""
    facts: dict[str, object] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "gpu": _gpu(),
        "python": platform.python_version(),
    }
    for name in ("torch", "ray", "deepspeed", "pyarrow", "s3fs"):
        with contextlib.suppress(PackageNotFoundError):
            facts[name] = version(name)
    return facts


def _gpu() -> str:
    import torch  # a second, which no command pays that measures nothing

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def rounded(line: Mapping[str, float]) -> dict[str, float]:
    """The same numbers with four decimals."""
    return {name: round(value, 4) for name, value in line.items()}


def digits(value: float) -> float:
    """The number with four digits that count, so that none becomes 0 on a slow machine."""
    return float(f"{value:.4g}")


def medians(lines: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of lines with the same names, the median of each number, with four decimals."""
    return rounded({name: median(line[name] for line in lines) for name in lines[0]})


def publish(command: str, lines: Iterable[Line], out: str | None) -> None:
    """Print the machine, then each line as it comes; keep them in `out`."""
    head = {"command": command} | machine()
    print(json.dumps(head), flush=True)
    kept: list[Line] = []
    for line in lines:
        print(json.dumps(line), flush=True)
        kept.append(line)
        if out:  # after each line: what follows may fail
            _write(Path(out), head, kept)


def _write(path: Path, head: Line, lines: list[Line]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    is_table = path.suffix == ".md"
    path.write_text(document(head, lines) if is_table else json.dumps({**head, "lines": lines}, indent=2))


def document(head: Line, lines: Iterable[Line]) -> str:
    """A result as Markdown: one table for each run of lines with the same names."""
    machine_facts = ", ".join(f"{name} {value}" for name, value in head.items() if name != "command")
    parts = [f"# `{head['command']}`", machine_facts]
    # A mapping as a tuple is its names: a table ends where they change.
    for names, group in itertools.groupby(lines, key=tuple):
        rows = [names, ["---"] * len(names), *(line.values() for line in group)]
        parts.append("\n".join(f"| {' | '.join(map(str, row))} |" for row in rows))
    return "\n\n".join(parts) + "\n"
