"""How every command starts: options, one clear line for what the user can mend, a Ray session of its own.

    python -m jobs.NAME [config.toml] [--section.key value ...]      or      triptych NAME ...
"""
import contextlib
import logging
import os
import runpy
import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline import config as configs
from pipeline.log import cause_of, logger, setup
from pipeline.storage import Store

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """Where the work runs."""

    address: str | None = None
    """A running cluster (`auto`, or host:port); without one, and without RAY_ADDRESS, the job starts Ray on this machine."""
    cpus: int | None = None
    """CPUs of the local Ray; all of this machine's by default. Ignored on a running cluster."""
    object_store_mb: int = 512
    """Shared memory of the local Ray for rows in flight. Ignored on a running cluster."""


def run(schema: type[T], main: Callable[[T], None]) -> None:
    """Load the config, do the work; bad input is one line and status 2, a failure of ours a traceback and status 1."""
    config = configs.load(schema, prog=f"python -m {sys.modules['__main__'].__spec__.name}")
    verbose = bool(getattr(config, "verbose", False))
    setup(verbose)
    try:
        main(config)
    except KeyboardInterrupt:
        logger.error("stopped; run the same command again to go on")
        raise SystemExit(130) from None
    except Exception as error:
        cause = cause_of(error)
        if verbose or not isinstance(cause, ValueError | OSError):
            raise
        configs.fail(" ".join(str(cause).split()) or type(cause).__name__)


def open_run(url: str, config: object) -> Store:
    """The run's folder, with the resolved config in it; ValueError if nothing can be written there."""
    store = Store(url)
    store.check_writable()
    note(store, config)
    return store


def note(store: Store, config: object) -> None:
    """Write the resolved config into the run's folder, unless it is there."""
    data = configs.dumps(config)
    if not (store.exists("config.json") and store.read("config.json") == data):
        store.write("config.json", data)


@contextlib.contextmanager
def ray_session(config: RayConfig, *, verbose: bool, min_cpus: int = 1) -> Iterator[None]:
    """Connect to the cluster that was named, or start Ray here, reachable from this machine only and by a token of its own."""
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = config.address or os.environ.get("RAY_ADDRESS")
    options: dict[str, object] = {"address": address} if address else _local(config, min_cpus)
    import ray
    import ray.data

    for name in () if verbose else ("ray.data", "ray.train"):  # they come with handlers of their own
        logging.getLogger(name).setLevel(logging.CRITICAL)
    ray.init(log_to_driver=verbose, logging_level="INFO" if verbose else "ERROR", configure_logging=verbose, **options)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = verbose
    context.enable_operator_progress_bars = verbose
    context.raise_original_map_exception = True  # so that a user's mistake can be told in one line
    try:
        yield
    finally:
        ray.shutdown()


def _local(config: RayConfig, min_cpus: int) -> dict[str, object]:
    # A token of this process alone, in the environment: Ray would otherwise leave one readable by all in the home folder.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    cpus = max(config.cpus or os.cpu_count() or 1, min_cpus)
    return {"address": "local", "num_cpus": cpus, "include_dashboard": False, "_node_ip_address": "127.0.0.1",
            "object_store_memory": config.object_store_mb << 20}


def cli() -> None:
    """`triptych NAME …` is `python -m jobs.NAME …`."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        given = f"no job {sys.argv[1]!r}; " if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else ""
        configs.fail(f"{given}usage: triptych NAME [config.toml] [--option value ...], NAME one of {', '.join(names)}")
    name = sys.argv.pop(1)
    sys.argv[0] = f"triptych {name}"
    runpy.run_module(f"jobs.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    cli()
