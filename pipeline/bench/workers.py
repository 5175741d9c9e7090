"""The same exported bytes from several numbers of workers: the sha256 of every file, compared."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.bench.command import must_run
from pipeline.bench.report import Bench, Line
from pipeline.chaos.verify import examine
from pipeline.storage import Store


@dataclass(frozen=True, kw_only=True)
class Workers(Bench):
    """One run for each number of workers."""

    numbers: tuple[int, ...] = (1, 2, 4)
    """CPUs of the local Ray, one number for each run."""


def measure(config: Workers, command: str) -> Iterator[Line]:
    """One line; `{cpus}` in the command is the number of workers. ValueError if a run fails."""
    with tempfile.TemporaryDirectory() as folder:
        exports = []
        for cpus in config.numbers:
            url = f"{folder}/{cpus}"
            # A Ray of its own for each number, whatever this shell is connected to.
            must_run(command.replace("{cpus}", str(cpus)), url, {"RAY_ADDRESS": ""})
            exports.append(examine(Store(url)).exported)
    yield {"workers": config.numbers, "files": len(exports[0]), "all_equal": len(set(exports)) == 1}
