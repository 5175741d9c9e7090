"""Lists that the user names by a path."""

from pathlib import Path

import fsspec
import pytest

from pipeline.curate.fetch import local
from pipeline.curate.fetch.unpack import TooLargeError


def test_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "b.csv",
        "a.parquet",
        "sub/c.jsonl.gz",
        "_SUCCESS",
        ".hidden.csv",
        "00000.tar",
        "README.md",
        "x/_y/d.csv",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("url\n")
    expected = [f"{tmp_path}/{name}" for name in ("a.parquet", "b.csv", "sub/c.jsonl.gz")]
    assert local.files(str(tmp_path)) == expected and local.files(f"{tmp_path}/") == expected
    assert local.files(f"file://{tmp_path}/b.csv") == [f"file://{tmp_path}/b.csv"]
    assert local.read(f"file://{tmp_path}/b.csv", 99) == b"url\n"
    monkeypatch.chdir(tmp_path)
    for path in ("b.csv", "./b.csv", "sub/../b.csv", "README.md"):
        assert local.files(path) == [path] and local.read(path, 99) == b"url\n"
    with pytest.raises(TooLargeError, match="file of 4 bytes, more than 3"):
        local.read("b.csv", 3)


def test_any_store() -> None:
    with fsspec.open("memory://lists/a[1].csv", "wb") as file:
        file.write(b"url\n")
    assert local.files("memory://lists/a[1].csv") == ["memory://lists/a[1].csv"]
    assert local.files("memory://lists") == ["memory://lists/a[1].csv"]
    assert local.read("memory://lists/a[1].csv", 9) == b"url\n"


@pytest.mark.parametrize(
    "path", ["none.csv", "/none/none.csv", "file:///none.csv", "memory://none/none.csv", "odd://x/y.csv", "."]
)
def test_what_is_not_there_is_one_line(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="list") as error:
        local.files(path)
    assert path in str(error.value) and "\n" not in str(error.value)


def test_the_web_is_not_reached_by_a_path() -> None:
    assert local.is_web("http://e.example/x") and local.is_web("HTTPS://e.example/x")
    for path in ("simplecache::https://e.example/x.csv", "zip://a.csv::http://e.example/x.zip"):
        assert not local.is_web(path)
        with pytest.raises(ValueError, match="past its manners"):
            local.files(path)
