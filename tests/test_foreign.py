"""Files that somebody else wrote: read within bounds, or one line."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from pipeline import foreign
from pipeline.manifest import Manifest, sealed
from pipeline.storage import CorruptFileError, Store


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """A network's config."""

    width: int
    dims: Literal[1, 2] = 2
    base: float = 10.0
    tied: bool = True
    levels: tuple[int, ...] = (8, 5)

    def __post_init__(self) -> None:
        if self.width % self.levels[0]:
            raise ValueError(f"width {self.width} is no multiple of {self.levels[0]}")


def test_a_config_comes_back_as_it_was() -> None:
    values = {"width": 16, "dims": 1, "base": 3, "tied": False, "levels": [4, 4, 4]}
    config = foreign.config_of(Sizes, values, "x")
    assert config == Sizes(width=16, dims=1, base=3.0, tied=False, levels=(4, 4, 4)) and isinstance(config.base, float)


@pytest.mark.parametrize(
    "values",
    [
        [],
        None,
        {},
        {"width": 16, "flavour": 1},
        {"width": "16"},
        {"width": 16.0},
        {"width": True},
        {"width": -8},
        {"width": 1 << 31},
        {"width": 9},
        {"width": 16, "dims": "1"},
        {"width": 16, "base": float("nan")},
        {"width": 16, "base": float("inf")},
        {"width": 16, "base": 0},
        {"width": 16, "base": 10**400},
        {"width": 16, "tied": 1},
        {"width": 16, "levels": 8},
        {"width": 16, "levels": ["8"]},
        {"width": 16, "levels": [8] * 65},
        {"width": 16, "levels": [0]},
        {"width": 16, "levels": [[8]]},
    ],
)
def test_what_is_no_config_is_one_line(values: object) -> None:
    with pytest.raises(
        CorruptFileError, match=r"^x describes a network that this version does not know \(.*\); train it again"
    ):
        foreign.config_of(Sizes, values, "x")


@pytest.mark.parametrize(
    "data", [b"", b"[1]", b"null", b"\xff\xfe\x00", b"[" * 10**5, b'{"a": 1, "a": 2}', b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_what_is_no_object_is_named(data: bytes) -> None:
    with pytest.raises(CorruptFileError, match=r"^here (is not valid JSON|holds a)"):
        foreign.parsed(data, "here")


def test_a_file_beyond_its_bound_or_no_file_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    store.write("large.json", b"x")
    os.truncate(tmp_path / "large.json", 1 << 40)
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    monkeypatch.setattr(Store, "read", lambda *_: pytest.fail("it was read"))
    with pytest.raises(CorruptFileError, match=r"large\.json has 1099511627776 bytes, and 1048576 at most are read"):
        foreign.read(store, "large.json")
    with pytest.raises(CorruptFileError, match="and 67108864 at most"):
        foreign.manifest(store, "large.json", Manifest)
    for name in ("pipe.json", "zero.json", "none.json"):
        with pytest.raises(FileNotFoundError):
            foreign.read(store, name)
        assert foreign.manifest(store, name, Manifest) is None


@pytest.mark.parametrize(
    "change",
    [
        {"path": "../x"},
        {"path": "/etc/passwd"},
        {"path": "a/../../x"},
        {"path": 3},
        {"size_bytes": "3"},
        {"size_bytes": -1},
        {"size_bytes": True},
        {"sha256": None},
        {"rows": 1.0},
    ],
)
def test_a_manifest_of_strange_files_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    store = Store(str(tmp_path))
    file = {"path": "x", "size_bytes": 1, "sha256": "0", "rows": 0}
    for number, entry in enumerate((file, file | change)):
        (tmp_path / f"{number}.json").write_bytes(sealed({"files": [entry]}))
    assert foreign.manifest(store, "0.json", Manifest).files[0].path == "x"
    with pytest.raises(CorruptFileError, match=r"1\.json (says that the|names|is no Manifest that) "):
        foreign.manifest(store, "1.json", Manifest)
