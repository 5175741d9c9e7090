"""A full disk is one clear error, and leaves nothing torn."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.storage import Store


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
