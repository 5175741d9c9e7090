"""What a resume reads of a finished run grows with its waves, not with its inputs."""

from pathlib import Path

import pytest

from pipeline.bench.resume import Resume, finished_run, measure
from pipeline.chaos import example
from pipeline.curate import waves
from pipeline.curate.journal import Journal
from pipeline.storage import Store


@pytest.mark.parametrize("size", [100, 10_000])
def test_a_finished_run_is_found_finished_by_its_manifests(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, toy = Store(str(tmp_path)), example.curation(size, wave_rows=2048)
    finished_run(store, toy, size)
    read: list[str] = []
    whole = Store.read
    monkeypatch.setattr(Store, "read", lambda self, name: read.append(name) or whole(self, name))
    assert toy.is_finished(Journal(store))
    number = len(waves.committed(Journal(store)))
    assert (
        number == -(-size // 2048)
        and len(read) < 2 * number + 12
        and not any(name.startswith("rows/") for name in read)
    )
    store.delete("waves/000-000000.json")
    assert not toy.is_finished(Journal(store))


def test_a_resume_is_timed_in_a_driver_of_its_own() -> None:
    small, large = measure(Resume(sizes=(100, 20_000)))
    assert large["waves"] == 10 and small["waves"] == 1
    assert 0 < large["resume_s"] and 20 < large["peak_mb"] < 500
