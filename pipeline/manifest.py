"""What makes files visible: one sealed manifest, created last. Readers read manifests and nothing else.

Guarantees: a manifest lists each file's size and sha256 and carries a digest of itself (`seal`), so what is altered is
found before it is used; it is created exclusively, so of two writers one commits and the other's files are void. What
no manifest names is garbage and may be deleted. A kind of manifest is a dataclass with the fields that its readers
need; what was written by another version, or by a stranger, is a CorruptFileError in one line.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.config import from_json, to_json
from pipeline.storage import CorruptFileError, File, Store, write_changed

T = TypeVar("T")
M = TypeVar("M", bound="Manifest")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The files that became visible together; kinds of manifest add fields to it."""

    files: tuple[File, ...]


def commit(store: Store, name: str, manifest: Manifest | Iterable[File]) -> bool:
    """Make files visible: create the manifest `name`. False if there was one already; then ours is void."""
    if not isinstance(manifest, Manifest):
        manifest = Manifest(files=tuple(manifest))
    return store.create(name, sealed(manifest))


def read_manifest(store: Store, name: str, kind: type[M]) -> M | None:
    """A committed manifest; None if nothing was committed under that name, CorruptFileError if it is of another kind,
    or was altered. As a `Manifest` every kind can be read: that is what all of them have."""
    try:
        data = store.read(name)
    except FileNotFoundError:
        return None
    entries = unsealed(store, name, data)
    if kind is Manifest:
        entries = {key: entry for key, entry in entries.items() if key == "files"}
    return of_kind(store, name, entries, kind)


def write_sealed(store: Store, name: str, value: object) -> File:
    """Write a dataclass as a sealed JSON object, unless the very bytes are there already."""
    return write_changed(store, name, sealed(value))


def sealed(value: object) -> bytes:
    """A dataclass as a JSON object with its own digest in it, as bytes that depend on the object alone."""
    entries = {key: entry for key, entry in to_json(value).items() if key != "seal"}
    plain = json.loads(json.dumps(entries))
    return (json.dumps(plain | {"seal": _seal(plain)}, indent=1, sort_keys=True) + "\n").encode()


def unsealed(store: Store, name: str, data: bytes) -> dict[str, Any]:
    """The JSON object that was sealed as these bytes, without its seal; CorruptFileError if it was altered."""
    try:
        value = json.loads(data)
        seal = value.pop("seal", None) if isinstance(value, dict) else None
        is_sound = seal is not None and seal == _seal(value)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{store.url}/{name} is not valid JSON: {error}") from error
    if not is_sound:
        raise CorruptFileError(
            f"{store.url}/{name} was altered, or is none of ours: its seal is not that of its contents; "
            "name another folder, or delete it and run the step that makes it again"
        )
    return value


def _seal(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def of_kind(store: Store, name: str, value: Mapping[str, object], kind: type[T]) -> T:
    """What was unsealed, as the dataclass that was sealed; CorruptFileError if it is none of this version."""
    try:
        return from_json(kind, value)
    except ValueError as error:
        raise CorruptFileError(
            f"{store.url}/{name} is no {kind.__name__} that this version knows: {error}; name another "
            "folder, or delete it and run the step that makes it again"
        ) from error
