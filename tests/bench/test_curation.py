"""What a resume reads of a finished run grows with its waves, not with its inputs; a full disk is one clear error."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.bench import curation
from pipeline.chaos import example
from pipeline.curate import waves
from pipeline.curate.journal import Journal
from pipeline.storage import Store


@pytest.mark.parametrize("size", [100, 10_000])
def test_a_finished_run_is_found_finished_by_its_manifests(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, toy = Store(str(tmp_path)), example.curation(size, wave_rows=2048)
    curation.finished_run(store, toy, size)
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
    small, large = curation.resume((100, 20_000))
    assert large["waves"] == 10 and small["waves"] == 1
    assert 0 < large["resume_s"] < 10 and 20 < large["peak_mb"] < 500


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "test", folder]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_on_a_full_disk_nothing_torn_becomes_visible(small_disk: Path) -> None:
    store = Store(str(small_disk / "run"))
    store.write("a", b"1" * 1000)
    for make in (store.write, store.create):
        with pytest.raises(OSError, match="no space left for .*run/a"):
            make("a", b"2" * 400_000)
    assert store.list() == ["a"] and store.read("a") == b"1" * 1000
    assert os.listdir(small_disk / "run") == ["a"], "the torn temporary file is gone"
