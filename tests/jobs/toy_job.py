"""The toy curation as a job, so that each command that looks into a run can be called on one, in this process."""

import contextlib
import dataclasses
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from jobs import _curate, _curations, _main, audit, decide, diff, explain, replay_failure, retry, revoke, rows, status
from jobs._curate import CurateConfig
from pipeline.curate import guard
from pipeline.curate.export import ExportConfig
from pipeline.curate.guard import GuardConfig
from pipeline.curate.run import Curation
from pipeline.curate.stage import Leave
from pipeline.curate.work import start
from pipeline.log import setup
from pipeline.records import CLIP, INPUT
from pipeline.storage import Store
from tests.curate import toy


@dataclass(frozen=True, kw_only=True)
class Toy(CurateConfig):
    sources: tuple[str, ...] = ("list=https://example.org/a",)
    export: ExportConfig = dataclasses.field(default_factory=lambda: ExportConfig(shard_rows=5, webdataset=True))
    back: str = ""
    short: toy.DropShort = dataclasses.field(default_factory=toy.DropShort)


def curation(config: Toy) -> Curation:
    return dataclasses.replace(toy.curation(config.back, config.short.min_s), export=config.export)


@contextlib.contextmanager
def as_job(make: Callable[[Toy], Curation] = curation) -> Iterator[None]:
    """`toy` is a job like others, and commands work on the Ray that is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_curations.JOBS, "toy", (Toy, make))
        for job in (_curate, retry, revoke, decide):
            patch.setattr(job, "ray_session", lambda config, verbose: contextlib.nullcontext())
        yield


@dataclass(frozen=True)
class Ended:
    """What a command said and how it ended."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def ended(command: Callable[[], None]) -> Ended:
    """A command as its process would end, without the end of this process."""
    out, err = io.StringIO(), io.StringIO()
    root, level = logging.getLogger(), logging.getLogger().level
    handlers = root.handlers[:]
    root.handlers[:] = []  # `setup` closes those that it finds
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        setup()
        try:
            command()
            code = 0
        except BaseException as error:  # noqa: BLE001 - each becomes a status
            code = _main._status(error, False)
    root.handlers[:] = handlers
    root.setLevel(level)
    return Ended(code, out.getvalue(), err.getvalue())


def job(store: Store, config: Toy) -> Ended:
    """The run's own job again."""
    return ended(lambda: _curate.curate(dataclasses.replace(config, run_dir=store.url), _curations.JOBS["toy"][1]))


def call(name: str, store: Store, **options: object) -> Ended:
    """A command that looks into a run."""
    module, schema = {
        "status": (status, status.Status),
        "audit": (audit, audit.AuditRun),
        "rows": (rows, rows.Rows),
        "explain": (explain, explain.Explain),
        "retry": (retry, retry.Retry),
        "revoke": (revoke, revoke.Revoke),
        "decide": (decide, decide.Decide),
        "replay_failure": (replay_failure, replay_failure.ReplayFailure),
        "diff": (diff, diff.Diff),
    }[name]
    if name == "diff":
        return ended(lambda: module.main(schema(a=store.url, **options)))
    return ended(lambda: module.main(schema(run_dir=store.url, **options)))


def made(folder: Path, run_dir: str | None = None) -> tuple[Store, Toy]:
    """A finished run that has one of everything: a retried round, a revocation, a row in quarantine."""
    config = Toy(run_dir=run_dir or f"{folder}/run", back=f"{folder}/back")
    store = Store(config.run_dir)
    assert (e := job(store, config)).status == 0, e
    Path(config.back).touch()
    assert (e := call("retry", store)).status == 0, e
    assert (e := call("revoke", store, key=(toy.listing("a")[14]["key"],))).status == 0, e
    row = start(pa.Table.from_pylist(toy.listing("a")[2:3], schema=INPUT), CLIP, unit="episode")
    work = guard.Work(stage=toy.Cut(), schema=CLIP, limits=GuardConfig())
    guard._quarantine(store, work, row, Leave("failed", "timeout"))
    return store, config
