"""How every command starts: options, one clear line for what the user can mend, the folder of its run.

    python -m jobs.NAME [config.toml] [--section.key value ...]      or      triptych NAME ...
"""
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pipeline import config as configs
from pipeline.log import cause_of, logger, setup
from pipeline.storage import Store

T = TypeVar("T")


def run(schema: type[T], main: Callable[[T], None]) -> None:
    """Load the config, do the work; bad input, or training that diverged, is one line and status 2, a failure of ours a
    traceback and status 1."""
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
        if verbose or not isinstance(cause, ValueError | OSError | FloatingPointError):
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
