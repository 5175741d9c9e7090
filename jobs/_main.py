"""How every command starts and ends: options, one clear line for what the user can mend, the folder of its run.

python -m jobs.NAME [config.toml] [--section.key value ...]      or      triptych NAME ...
"""

import ast
import atexit
import contextlib
import difflib
import importlib.metadata
import os
import runpy
import select
import sys
import threading
import tomllib
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TextIO, TypeVar

from pipeline import config as configs
from pipeline import signals
from pipeline.log import cause_of, clean, reason_of, say, setup
from pipeline.storage import Store

T = TypeVar("T")

_FILES = (".toml", ".json")
_ERROR_LIMIT = 2000  # characters: the longest of our own errors is a third of it
_BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell sees it from programs that SIGPIPE ends


def run(schema: type[T], main: Callable[[T], None], *positional: str) -> None:
    """Load the config, do the work, and end the process; bad input, or training that diverged, is one line and status
    2, a signal one line and 128 + its number, a failure of ours a traceback and status 1.

    The first words of the command line may stand for the options `positional`.
    """
    # First of all: from here on a signal is one line and its status.
    signals.install()
    setup()
    config = configs.load(schema, named(sys.argv[1:], positional), prog=_prog())
    verbose = bool(getattr(config, "verbose", False))
    setup(verbose)
    try:
        try:
            signals.work()
            main(config)
            status = 0
        except BaseException as error:  # noqa: BLE001 - each becomes a status
            signals.rest()
            status = _status(error, verbose)
        signals.rest()
    except signals.Stopped:  # it came on the way out
        status = signals.status() or 1
    _leave(signals.status() or status)


def named(argv: Sequence[str], options: Sequence[str]) -> list[str]:
    """The words of a command line whose first ones stand for `options`: `RUN KEY` is `--run-dir RUN --key KEY`."""
    rest, words = list(argv), []
    for option in options:
        if not rest or rest[0].startswith("-") or rest[0].endswith(_FILES):
            break
        words += [f"--{option}", rest.pop(0)]
    file = rest[:1] if rest and rest[0].endswith(_FILES) else []  # a config file comes before all options
    return [*file, *words, *rest[len(file) :]]


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
    setup()
    names = _jobs()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h"):
        say("usage: triptych NAME [config.toml] [--option value ...]; triptych NAME --help lists its options")
        with contextlib.suppress(BrokenPipeError):  # `triptych | head`
            for job in names:
                say(f"  {job:<17} {_summary(job)}")
        raise SystemExit(_flush(0))
    if name == "--version":
        say(f"triptych {_version()}")
        return
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        configs.fail(
            f"no command {name!r}; " + (f"did you mean {near[0]}?" if near else f"use one of {', '.join(names)}")
        )
    # The job sees just the words that it would see under its own name.
    del sys.argv[1]
    runpy.run_module(f"jobs.{name}", run_name="__main__", alter_sys=True)


def _jobs() -> list[str]:
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def _summary(job: str) -> str:
    """The first line of a job's docstring, without the second that its imports would take."""
    source = (Path(__file__).parent / f"{job}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def _version() -> str:
    try:
        return importlib.metadata.version("triptych")
    except importlib.metadata.PackageNotFoundError:
        project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
        return str(project["project"]["version"])


def _prog() -> str:
    spec = sys.modules["__main__"].__spec__
    assert spec is not None, "a job is run by its module's name"
    name = spec.name
    called = {os.path.basename(word) for word in sys.orig_argv[:2]}
    return f"triptych {name.removeprefix('jobs.')}" if "triptych" in called else f"python -m {name}"


def _status(error: BaseException, verbose: bool) -> int:
    """The status that an error ends with, once the user was told of it."""
    if signals.status() is not None:  # whatever came of that
        return signals.status() or 1
    if isinstance(error, SystemExit):
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, KeyboardInterrupt):
        signals.say("stopped by SIGINT")
        return 130
    cause = cause_of(error)
    if isinstance(cause, BrokenPipeError) and _is_unread(sys.stdout):
        return _BROKEN_PIPE
    if verbose or not isinstance(cause, ValueError | OSError | FloatingPointError | MemoryError):
        traceback.print_exception(error)
        return 1
    print(f"error: {clean(reason_of(cause), _ERROR_LIMIT)}", file=sys.stderr)
    return 2


def _leave(status: int) -> NoReturn:
    """End the process as Python does, but for one thing: while C++ takes its globals down, threads that still run
    (Ray's, pyarrow's) abort the process now and then, after all was done well."""
    status = _flush(status)
    stopped = signals.status() is not None
    if not stopped:  # else nobody waits for them
        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    status = _flush(status)
    if stopped:
        signals.end()
    os._exit(status)


def _flush(status: int) -> int:
    """Write out what was printed; if nobody reads it any more, as in `triptych rows ... | head`, end as other programs
    do."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # Python flushes again
            status = status or (_BROKEN_PIPE if isinstance(error, BrokenPipeError) else 1)
    return status


def _is_unread(stream: TextIO) -> bool:
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


if __name__ == "__main__":
    cli()
