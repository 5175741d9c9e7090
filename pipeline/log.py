"""What a person sees while work runs: one logger, one progress line; and JSONL metrics for machines.

Guarantees: nothing that a user passes as a secret is printed (URLs lose user info and query strings in `clean_url`);
whatever a message, a progress line or `say` carries from the web, no control, format or bidi character of it reaches
the terminal; a terminal without Unicode gets escapes; a progress line costs at most one write every 100 ms on a
terminal and one every 10 s elsewhere.
"""

import io
import json
import logging
import re
import sys
import time
from typing import IO, TypeVar
from urllib.parse import urlsplit, urlunsplit

T = TypeVar("T")

logger = logging.getLogger("triptych")

_RAY_ADVICE = re.compile(
    r"(\\n|\s|['\"],)*\s*['\"]?Failed to [^\n]{1,200}? after \d+/\d+ attempts \(total backoff.*", re.DOTALL
)


class _SafeFormatter(logging.Formatter):
    """Escapes what is not printable: of our messages all, of tracebacks and of others' messages all but line ends."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The message alone."""
        text = super().formatMessage(record)
        return _escape(text) if record.name == logger.name else text

    def format(self, record: logging.LogRecord) -> str:
        """The message, and the traceback if there is one."""
        return "\n".join(map(_escape, super().format(record).split("\n")))


def setup(verbose: bool = False) -> None:
    """Send our messages to stderr; `verbose` lets Ray's and DeepSpeed's own messages through as well."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a locale of ASCII is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_SafeFormatter("%(message)s" if not verbose else "%(asctime)s %(name)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO if verbose else logging.ERROR, force=True)
    logger.setLevel(logging.INFO)


def say(text: str = "", *, limit: int = 2000) -> None:
    """Print one line of a command's answer: to stdout, made safe as `clean` does it."""
    print(clean(text, limit))


def clean(text: str, limit: int = 300) -> str:
    """Web text made safe for one line: control, format and bidi characters and line ends escaped, length bounded."""
    text = _escape(text[: limit + 1])  # no more: a caption may have megabytes
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _escape(text: str) -> str:
    # Not printable are the categories C (control, format, surrogate, private, unassigned) and Z but for the space.
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    )


def clean_url(url: str) -> str:
    """A URL without user info, query and fragment: signed URLs are secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket that is not closed
        return clean(url.partition("?")[0].partition("#")[0].rpartition("@")[2])
    return clean(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")))


def cause_of(error: BaseException) -> BaseException:
    """What a Ray task raised: Ray wraps it once for each layer that it passes. Any other error is its own cause."""
    while isinstance(inner := getattr(error, "cause", None), BaseException):
        error = inner
    return error


def reason_of(error: BaseException) -> str:
    """What an error says, in one line, without the advice about its own settings that Ray Data appends."""
    return " ".join(_RAY_ADVICE.sub("", str(error)).removeprefix("('").split()) or type(error).__name__


class Progress:
    """One line of progress: done/total, rate, time left, and a short note.

    >>> with Progress("tokenize", total=100, unit="images") as progress:
    ...     progress.advance(10, note="wave 1")
    """

    def __init__(self, name: str, total: float | None, unit: str, file: IO[str] | None = None) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0.0
        self._file = file or sys.stderr
        self._tty = self._file.isatty()
        self._start = self._shown = time.monotonic()
        self._first = 0.0
        self._note = ""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc: object) -> None:
        self._show(end=True)

    def start_at(self, done: float) -> None:
        """Work found done already: it counts as progress, not as speed."""
        self.done = self._first = done

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Count `amount` more units as done."""
        self.set(self.done + amount, note)

    def set(self, done: float, note: str = "") -> None:
        """Say how many units are done in all."""
        self.done, self._note = done, note or self._note
        if time.monotonic() - self._shown >= (0.1 if self._tty else 10.0):
            self._show()

    def _show(self, end: bool = False) -> None:
        now = time.monotonic()
        self._shown, elapsed = now, max(now - self._start, 1e-9)
        rate = (self.done - self._first) / elapsed
        total = f"/{self.total:g}" if self.total is not None else ""
        if end:
            left = f"in {_duration(elapsed)}"
        elif self.total is not None and rate > 0:
            left = f"{_duration((self.total - self.done) / rate)} left"
        else:
            left = ""
        parts = [f"{self.name:<15} {self.done:g}{total} {self.unit}", f"{rate:.3g} {self.unit}/s", left, self._note]
        line = _escape("  ".join(part for part in parts if part))
        if self._tty:
            self._file.write(f"\r\x1b[2K{line}" + ("\n" if end else ""))
        else:
            self._file.write(line + "\n")
        self._file.flush()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"


class JsonLines:
    """Metrics as one JSON object a line, flushed at every line so that a kill loses none that was written."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, **values: object) -> None:
        """Append one record."""
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()
