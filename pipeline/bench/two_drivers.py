"""Two drivers on one run: who is refused, in which words; and whether a holder that was killed is succeeded."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.bench.command import last_line, run, words
from pipeline.bench.report import Bench, Line
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import Ledger
from pipeline.records import LEDGER
from pipeline.storage import Store

_BEGIN_LIMIT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class TwoDrivers(Bench):
    """A second driver beside the first, and one after its death."""


def measure(config: TwoDrivers, command: str) -> Iterator[Line]:
    """One line. ValueError if the first driver does not take the run within two minutes."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"{folder}/run"
        quiet = subprocess.DEVNULL
        first = subprocess.Popen(words(command, url), stdout=quiet, stderr=quiet, start_new_session=True)
        try:
            _wait_for_lease(Store(url))
            second = run(command, url)
            is_held = first.poll() is None
        finally:
            with contextlib.suppress(ProcessLookupError):
                # It gets no chance to give the run back: its lease has to be found dead.
                os.killpg(first.pid, signal.SIGKILL)
            first.wait()
        third = run(command, url)
        # Once more: nothing is left to do, which is no error.
        again = run(command, url)
        yield {
            "first_still_held_it": is_held,
            "second_status": second.returncode,
            "second_said": last_line(second.stderr),
            "names_the_holder": f"process {first.pid} on " in second.stderr,
            "after_sigkill_status": third.returncode,
            "books_balance": third.returncode == 0 and _balances(Store(url)),
            "again_status": again.returncode,
        }


def _wait_for_lease(store: Store) -> None:
    end_s = time.monotonic() + _BEGIN_LIMIT_S
    while not store.list("lease"):
        if time.monotonic() > end_s:
            raise ValueError(f"the first driver holds nothing after {_BEGIN_LIMIT_S:.0f} s")
        time.sleep(0.05)


def _balances(store: Store) -> bool:
    ledger = Journal(store).find(LEDGER, Ledger)
    return ledger is not None and bool(ledger.steps) and all(book.balances() for book in ledger.steps.values())
