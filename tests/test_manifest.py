"""Manifests: sealed, of a known kind, created once."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.manifest import Manifest, commit, read_manifest, unsealed, write_sealed
from pipeline.storage import CorruptFileError, Store


@dataclass(frozen=True, kw_only=True)
class Wave(Manifest):
    """A kind of manifest."""

    wave: int


@dataclass(frozen=True, kw_only=True)
class Tide(Manifest):
    """Another one, of no more than its files."""


def test_a_manifest_is_read_as_its_kind(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    wave = Wave(files=(store.write("a.bin", b"abc"),), wave=3)
    assert commit(store, "m.json", wave) and not commit(store, "m.json", wave), "the first commit stands"
    assert read_manifest(store, "m.json", Wave) == wave and read_manifest(store, "n.json", Wave) is None
    assert read_manifest(store, "m.json", Manifest) == Manifest(files=wave.files), "what every kind has"
    with pytest.raises(CorruptFileError, match=r"/m\.json is no Tide that this version knows: wave is not known"):
        read_manifest(store, "m.json", Tide)
    commit(store, "o.json", wave.files)
    with pytest.raises(CorruptFileError, match=r"/o\.json is no Wave that this version knows: wave is missing"):
        read_manifest(store, "o.json", Wave)


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"files": 5}', '{"files": [5]}', '{"files": [{"path": "x"}]}'])
def test_json_that_is_no_manifest_is_named(tmp_path: Path, text: str) -> None:
    store = Store(str(tmp_path))
    store.write("m.json", text.encode())
    with pytest.raises(CorruptFileError, match=r"/m\.json was altered, or is none of ours.*; name another folder"):
        read_manifest(store, "m.json", Manifest)


def test_a_sealed_manifest_without_files_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for value in ({}, {"files": 5}, {"files": [5]}, {"files": [{"path": "x"}]}):
        write_sealed(store, "m.json", value)
        with pytest.raises(CorruptFileError, match=r"/m\.json is no Manifest that .*: files.*; name another folder"):
            read_manifest(store, "m.json", Manifest)


def test_any_changed_byte_of_a_sealed_object_is_found(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_sealed(store, "m.json", {"rows": 12, "name": "x", "files": []})
    whole = store.read("m.json")
    assert unsealed(store, "m.json", whole)["rows"] == 12
    for at in range(len(whole)):
        for bit in (1, 16):
            store.write("m.json", whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
            try:
                # Spaces between tokens say nothing: what is read is what was written, or it is refused.
                assert unsealed(store, "m.json", store.read("m.json")) == json.loads(whole)
            except CorruptFileError:
                continue
