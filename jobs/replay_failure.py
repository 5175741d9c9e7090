"""Run a quarantined row again, alone, in a process of its own, and tell what it does.

python -m jobs.replay_failure RUN KEY
python -m jobs.replay_failure --run-dir RUN --key KEY --timeout-s 3600
"""

from dataclasses import dataclass

from jobs._main import run
from pipeline.curate import guard
from pipeline.log import say
from pipeline.storage import Store


@dataclass(frozen=True, kw_only=True)
class ReplayFailure:
    """Replay a row that killed or hung the process it was worked on in."""

    run_dir: str
    """Folder of the run, any fsspec URL."""
    key: str | None = None
    """Key of the row; without one, the keys in quarantine are listed."""
    timeout_s: float | None = None
    """Seconds to wait; those of the run by default."""
    memory_mb: int | None = None
    """Address space to allow, in MiB; that of the run by default."""


def main(config: ReplayFailure) -> None:
    """Replay; status 1 if the row still fails."""
    store = Store(config.run_dir)
    if config.key is None:
        for name in store.list("quarantine", guard.NAMES):
            say(name.removeprefix("quarantine/").removesuffix(".parquet"))
        return
    found = guard.replay(store, config.key, timeout_s=config.timeout_s, memory_mb=config.memory_mb)
    say(f"stage     {found.stage}")
    say(f"it was    {found.was}")
    if found.reason is not None:
        say(f"it is     {found.reason} ({found.detail})")
        raise SystemExit(1)
    # It ends its process no more; its stage may refuse it all the same.
    failed = [row for row in found.rows if row["state"] == "failed"]
    say(f"it is     {len(found.rows)} rows" + "".join(f"; failed {row['reason']}: {row['detail']}" for row in failed))
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    run(ReplayFailure, main, "run-dir", "key")
