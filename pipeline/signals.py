"""How a command ends when it is told to: SIGINT (Ctrl-C) and SIGTERM (`kill`, a scheduler that wants the machine back).

Guarantees, from `install` on and whatever the process is doing: one line on stderr, status 128 + the signal's number,
no traceback. While it works, the first signal raises `Stopped` in the main thread, so that all is left in order. It
ends at once outside of work (imports, the start of Ray, the way out), at a second signal, and `_PATIENCE_S` after the
first; then its children end with it, and what it holds is released if that takes no longer than `_RELEASE_S`. Signals
that were ignored when the process began stay so. Cost: two threads that sleep.
"""

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

QUIET = "TRIPTYCH_QUIET_STOP"
"""Set in the environment of a command that another one runs: only that one says that it was stopped."""

_POKE = signal.SIGURG  # to the main thread; whoever has no handler for it does not notice it
_PATIENCE_S = 20.0  # less than the 30 s that Kubernetes grants between SIGTERM and SIGKILL
_RELEASE_S = 3.0  # a lease on S3 takes tenths of a second
_HOOK_S = 0.05  # by then the main thread has left the hook that told of what was dropped
_SAME_S = 0.2  # `timeout` signals a process and then its group, a shell the group of which we signal a part again


class Stopped(KeyboardInterrupt):
    """The process was told to end; Ray lets a KeyboardInterrupt through, and no other exception of a handler."""


class _State:
    def __init__(self) -> None:
        self.installed = False
        self.working = False
        self.signals: set[signal.Signals] = set()
        self.first: int | None = None
        self.at_s = -_SAME_S
        self.poked: int = signal.SIGTERM
        self.lost = False
        self.releases: list[Callable[[], object]] = []
        self.told: queue.SimpleQueue[int] = queue.SimpleQueue()  # a handler may put where another lock would not let it


_now = _State()


def install() -> None:
    """Take both signals over, in a main thread, once; `work` has to follow.

    They stay blocked for good, here and in all threads and children that are not forked by Python code, and a thread
    waits for them: while Ray starts, its core puts a handler in place that aborts the process, and when it ends the
    default one.
    """
    if _now.installed or threading.current_thread() is not threading.main_thread():
        return
    _now.signals = {
        number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN
    }
    _now.installed = bool(_now.signals)
    if _now.installed:
        signal.pthread_sigmask(signal.SIG_BLOCK, _now.signals)
        signal.signal(_POKE, _poked)
        os.register_at_fork(after_in_child=_forget)
        for target in (_take, _wait):
            threading.Thread(target=target, name=f"signals{target.__name__}", daemon=True).start()


def work() -> None:
    """From here on the first signal raises `Stopped` in the main thread."""
    if _now.installed:
        for number in _now.signals:
            signal.signal(number, _handle)
        _now.working = True


def rest() -> None:
    """From here on a signal ends the process at once."""
    _now.working = False


@contextlib.contextmanager
def resting() -> Iterator[None]:
    """`rest` for the block that starts Ray: no exception may interrupt it."""
    if not _now.working:
        yield
        return
    rest()
    try:
        yield
    finally:
        work()


@contextlib.contextmanager
def releasing(release: Callable[[], object]) -> Iterator[None]:
    """If the process is ended at once within the block, call `release` before, from another thread."""
    _now.releases.append(release)
    try:
        yield
    finally:
        _now.releases.remove(release)


def status() -> int | None:
    """The status to end with after a signal; None while there was none."""
    return None if _now.first is None else 128 + _now.first


def heard() -> None:
    """A handler in place of ours has taken a signal: the same one, told twice, is no second one."""
    _now.at_s = time.monotonic()


def told(number: int) -> None:
    """A signal was answered and the user told of it: what comes next is a second one."""
    if _now.installed and _now.first is None:
        _now.first, _now.at_s = number, time.monotonic()
        sys.unraisablehook = _unraisable
        _now.told.put(number)


def say(text: str) -> None:
    """Print the one line, past all buffers and locks; it is the last on stderr: what threads whose ground is taken
    away, and Ray's core, have to say of it is of no use."""
    with contextlib.suppress(OSError):
        if not os.environ.get(QUIET):
            clear = "\r\x1b[2K" if os.isatty(2) else ""  # over a line of progress
            os.write(2, f"{clear}{text}; run the same command again to go on\n".encode())
        if _now.installed:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def end() -> NoReturn:
    """End the process at once, and its children."""
    try:
        threads = [threading.Thread(target=_quietly, args=(release,), daemon=True) for release in _now.releases]
        for thread in threads:
            thread.start()
        until_s = time.monotonic() + _RELEASE_S
        for thread in threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        import psutil  # not before it is needed: `install` comes before everything

        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    finally:
        os._exit(status() or 1)


def _quietly(release: Callable[[], object]) -> None:
    with contextlib.suppress(Exception):
        release()


def _poke() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, _POKE)  # unlike a flag, it ends a call that waits


def _poked(number: int, frame: FrameType | None) -> None:
    handler = signal.getsignal(_now.poked)  # of training, perhaps
    (handler if callable(handler) and not _now.lost else _handle)(_now.poked, frame)


def _handle(number: int, frame: FrameType | None) -> None:
    if _now.lost:
        _now.lost = False
        raise Stopped
    if _now.first is not None or time.monotonic() - _now.at_s < _SAME_S:
        return
    told(number)
    say(_words(number))
    raise Stopped


def _take() -> None:
    """Waits for the signals."""
    while True:
        number = signal.sigwait(_now.signals)
        if _now.working and _now.first is None:
            _now.poked = number
            _poke()
        elif time.monotonic() - _now.at_s >= _SAME_S:
            if _now.first is None:
                _now.first = number
                say(_words(number))
            end()


def _wait() -> None:
    """Waits for the first signal, and then no longer than it must; raises again what Python dropped."""
    _now.told.get()
    end_s = time.monotonic() + _PATIENCE_S
    while (left_s := end_s - time.monotonic()) > 0:
        with contextlib.suppress(queue.Empty):
            _now.told.get(timeout=left_s)
            time.sleep(_HOOK_S)
            _poke()
    end()


def _words(number: int) -> str:
    return f"stopped by {signal.Signals(number).name}"


def _unraisable(args: "sys.UnraisableHookArgs") -> None:
    """`Stopped` was raised where Python must drop it, as in a `__del__`: it is raised again, but not in this hook,
    which would drop it for good."""
    if isinstance(args.exc_value, Stopped):
        _now.lost = True
        _now.told.put(signal.SIGTERM)


def _forget() -> None:
    """A forked child, such as Ray's processes before they become themselves, ends as any process does."""
    if _now.installed:
        for number in _now.signals:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _now.signals)
        _now.installed = _now.working = False
