"""What a run has committed is read once: counted at the store, for each thing that is done to a run."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.chaos import example
from pipeline.curate import audit, decide, waves
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import Ledger
from pipeline.lease import hold
from pipeline.manifest import sealed
from pipeline.records import INPUTS, LEDGER, verdicts_name
from pipeline.storage import CorruptFileError, Store
from tests.curate.finished import ledger


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Name -> how often it was read by this process, but for the lease, which others write."""
    counted: Counter[str] = Counter()
    read = Store.read

    def counting(store: Store, name: str) -> bytes:
        if name.endswith(".json") and not name.startswith("lease/"):
            counted[name] += 1
        return read(store, name)

    monkeypatch.setattr(Store, "read", counting)
    yield counted


def do(store: Store, step: example.Step) -> None:
    """A step as its command does it."""
    toy = example.curation(step=step)
    if example.is_done(store, toy, step):
        return
    with hold(store) as lease:
        journal = Journal(store)
        audit.check(journal)
        example.do(journal, toy, step, lease)


def test_each_manifest_is_read_once_a_command(tmp_path: Path, local_ray: None, reads: Counter[str]) -> None:
    store = Store(str(tmp_path / "run"))
    for step, least in (("first", 0), ("first", 9), ("retry", 9), ("decide", 12), ("run", 12), ("revoke", 13)):
        before = Journal(store).find(LEDGER, Ledger)
        verdicts = before.verdicts if before else ""
        reads.clear()
        do(store, step)
        often = {name: n for name, n in reads.items() if n > 1}
        # Whether a run is finished is asked before it is held; what tells that it is not is read again under the lease.
        unheld = {LEDGER, "export/manifest.json", verdicts_name(verdicts)} if step in ("decide", "run") else set()
        assert not often.keys() - unheld and max(reads.values(), default=0) <= 2, (step, often)
        assert sum(n > 0 for n in reads.values()) >= least, (step, reads)
    reads.clear()
    assert audit.is_done(store, example.curation()) and max(reads.values()) == 1


def test_a_run_that_was_killed_reads_once_what_is_there(
    tmp_path: Path, local_ray: None, reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path / "run"))
    monkeypatch.setattr(waves.plan, "keys_digest", _until(waves.plan.keys_digest, 6))
    with pytest.raises(KeyboardInterrupt):
        do(store, "run")
    monkeypatch.undo()
    assert 0 < len(waves.committed(Journal(store))) < 3
    do(store, "run")
    assert audit.is_done(store, example.curation())


def _until(function, calls: int):
    """Raises at a later call."""
    left = iter(range(calls))

    def call(*args: object) -> object:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return function(*args)

    return call


def test_what_is_committed_is_known_without_reading_it(tmp_path: Path, reads: Counter[str]) -> None:
    store = Store(str(tmp_path))
    journal = Journal(store)
    assert journal.find(LEDGER, Ledger) is None
    assert journal.create(LEDGER, ledger("0" * 12)) and not journal.create(LEDGER, ledger("1" * 12))
    reads.clear()
    assert journal.find(LEDGER, Ledger) == ledger("0" * 12), "the first commit stands"
    assert reads == {LEDGER: 1}, "what another one wrote is read"
    journal.replace(LEDGER, ledger("2" * 12))
    assert journal.find(LEDGER, Ledger) == ledger("2" * 12) == Journal(store).find(LEDGER, Ledger)
    journal.delete(LEDGER)
    assert journal.find(LEDGER, Ledger) is None and LEDGER not in journal.sizes


def test_an_object_that_cannot_be_read_is_named_each_time(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write(LEDGER, b"{}")
    store.write(INPUTS, sealed({"files": [], "strange": 1}))
    journal = Journal(store)
    for _ in range(2):
        with pytest.raises(CorruptFileError, match=r"/ledger\.json was altered, or is none of ours"):
            journal.find(LEDGER, Ledger)
        with pytest.raises(CorruptFileError, match=r"/inputs\.json is no InputsManifest that .*: strange"):
            waves.read_inputs(journal)
    journal.replace(LEDGER, ledger("0" * 12))
    assert Journal(store).find(LEDGER, Ledger) == ledger("0" * 12)
    with pytest.raises(ValueError, match="holds no verdicts named"):
        decide.verdicts(journal, "0" * 12)
