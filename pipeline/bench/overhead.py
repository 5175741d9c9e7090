"""What waves cost: the same work as waves and as one plain Ray Data pass, in turn. Needs Ray.

The work is waiting, so the figure says what waves cost beside work, not how they share a CPU with it.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.bench.report import Bench, Line, medians, rounded
from pipeline.chaos.example import Cut
from pipeline.curate import waves
from pipeline.curate.journal import Journal
from pipeline.curate.through import through
from pipeline.curate.work import start
from pipeline.records import CLIP, INPUT, key_of
from pipeline.storage import Store

if TYPE_CHECKING:
    from ray.data import Dataset

_PAUSE_S = 0.25  # of work on each input
_SPLITS = 4  # of a wave, for each CPU: with fewer the last one is waited for


@dataclass(frozen=True, kw_only=True)
class Overhead(Bench):
    """Waves beside one plain Ray Data pass over the same inputs."""

    wave_s: float = 60.0
    """Seconds of work in one wave; there are two."""
    rounds: int = 3
    """Number of times that both are run, in turn; medians come last."""

    @property
    def ray_cpus(self) -> int:
        """Whatever there is."""
        return 1


def measure(config: Overhead) -> Iterator[Line]:
    """Seconds of both sides and the overhead of each round, then their medians."""
    import ray

    cpus = int(ray.cluster_resources()["CPU"])
    wave_rows = max(_SPLITS * cpus, round(config.wave_s * cpus / _PAUSE_S))
    cut = waves.WaveConfig(wave_rows=wave_rows, split_rows=-(-wave_rows // (_SPLITS * cpus)))
    # Two waves: a single one would have none to follow, and no gap between them.
    inputs = _inputs(2 * wave_rows)
    rounds = []
    for number in range(config.rounds):
        with tempfile.TemporaryDirectory() as folder:
            waves_s = _as_waves(f"{folder}/waves", inputs, cut)
            plain_s = _as_one_pass(f"{folder}/plain", inputs, cut.split_rows)
        times = {"waves_s": waves_s, "plain_s": plain_s, "overhead": waves_s / plain_s - 1}
        rounds.append(times)
        yield {"round": number, **rounded(times)}
    yield {"round": "median", **medians(rounds)}


def _as_waves(folder: str, inputs: pa.Table, cut: waves.WaveConfig) -> float:
    began_s = time.monotonic()
    waves.run(Journal(Store(folder)), inputs, waves.Step(name="waves", dag=_work, config=cut))
    return time.monotonic() - began_s


def _as_one_pass(folder: str, inputs: pa.Table, split_rows: int) -> float:
    import ray

    began_s = time.monotonic()
    # Cut as waves are cut, so that both sides have equal tasks.
    splits = [inputs.slice(i, split_rows).combine_chunks() for i in range(0, inputs.num_rows, split_rows)]
    _work(ray.data.from_arrow(splits)).write_parquet(folder)
    return time.monotonic() - began_s


def _work(dataset: "Dataset") -> "Dataset":
    return through(dataset, Cut(pause_s=_PAUSE_S), schema=CLIP)


def _inputs(count: int) -> pa.Table:
    rows = [{"key": key_of(str(i)), "order": i, "url": f"https://example.org/{i}"} for i in range(count)]
    return start(pa.Table.from_pylist(rows, schema=INPUT), CLIP, unit="episode")
