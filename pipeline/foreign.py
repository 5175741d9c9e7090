"""What somebody else wrote, read with bounds: JSON files, manifests, and the configs of networks in them.

A digest proves that a file arrived as it was made, and no more: whoever made the folder made its digests too.

Guarantees: what is larger than such a file can be, or no regular file (a device, a pipe), is refused before it is read;
what has another shape than it should is a CorruptFileError in one line, not an error of the code that met it. Cost: one
small request a file.
"""

import json
import math
import os
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from pipeline.config import from_json
from pipeline.manifest import Manifest, read_manifest
from pipeline.storage import CorruptFileError, File, Store

T = TypeVar("T")
M = TypeVar("M", bound=Manifest)

JSON_BYTES = 1 << 20
"""A config or a description: they have a few kB."""
MANIFEST_BYTES = 64 << 20
"""A manifest. That of a checkpoint of 1 TB, or of 250,000 shards, has about as much."""

_INTEGER = 1 << 31
"""No size of a network or a vocabulary needs more bits; it also keeps products of a few of them small."""
_NUMBERS = 64
"""Entries of a tuple in a config, which has one for each resolution or each component of a code."""


def read(store: Store, name: str, limit: int = JSON_BYTES) -> bytes:
    """All bytes of a file of at most `limit`; FileNotFoundError if there is none, or if it is no regular file."""
    check_limit(store, name, limit)
    return store.read(name)


def check_limit(store: Store, name: str, limit: int) -> None:
    """The errors of `read`, without reading."""
    if (size_bytes := _size(store, name)) > limit:
        raise CorruptFileError(
            f"{store.url}/{name} has {size_bytes} bytes, and {limit} at most are read; name another folder"
        )


def parsed(data: bytes, name: str) -> dict[str, Any]:
    """A JSON object; CorruptFileError says that `name` is none."""
    try:
        value = json.loads(data, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{name} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise CorruptFileError(f"{name} holds a {type(value).__name__}, and no object, as JSON; name another folder")
    return value


def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object, for `json.loads`; ValueError if a key comes twice: two readers would take two different ones."""
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a key comes twice")
    return entries


def manifest(store: Store, name: str, kind: type[M]) -> M | None:
    """What `read_manifest` gives, with every entry of `files` checked."""
    try:
        check_limit(store, name, MANIFEST_BYTES)
        entries = read_manifest(store, name, kind)
    except FileNotFoundError:
        return None
    except RecursionError as error:  # the seal of a value that is nested as deeply as JSON can be
        raise CorruptFileError(f"{store.url}/{name} is no manifest: {error}") from error
    for file in entries.files if entries else ():
        check_file(file, f"{store.url}/{name}")
    return entries


def check_file(file: File, name: str) -> None:
    """CorruptFileError unless the manifest `name` describes this file by values of the right types."""
    for key, kind in get_type_hints(File).items():
        value = getattr(file, key)
        if type(value) is not kind or (kind is int and value < 0):
            raise CorruptFileError(f"{name} says that the {key} of a file is {shown(value)}; name another folder")
    if file.path.startswith("/") or ".." in file.path.split("/"):
        raise CorruptFileError(f"{name} names {shown(file.path)}, which is not within its folder; name another folder")


def check_size(store: Store, file: File) -> None:
    """CorruptFileError if a committed file is missing or has another size: found before it is read."""
    try:
        size_bytes = _size(store, file.path)
    except FileNotFoundError as error:
        raise CorruptFileError(f"{store.url}/{file.path} is committed but missing") from error
    if size_bytes != file.size_bytes:
        raise CorruptFileError(
            f"{store.url}/{file.path} is torn or altered: {size_bytes} bytes where the manifest says {file.size_bytes}"
        )


def check_types(values: Mapping[str, object], kinds: Mapping[str, type], name: str) -> None:
    """CorruptFileError for the first of these keys that the object `name` lacks, or has of another type."""
    for key, kind in kinds.items():
        if key not in values:
            raise CorruptFileError(f"{name} has no {key}; name another folder")
        if type(values[key]) is not kind:
            raise CorruptFileError(
                f"{name} has the {key} {shown(values[key])}, which is no {kind.__name__}; name another folder"
            )


def config_of(kind: type[T], values: object, name: str) -> T:
    """A network's config (a dataclass) out of the JSON of the file `name`; CorruptFileError if it is none."""
    try:
        check_bounds(values)
        config = from_json(kind, values)
        for key, value in vars(config).items():
            if value == 0 and isinstance(value, float):
                raise ValueError(f"{key} is {value}")
        return config
    except (ValueError, ArithmeticError) as error:
        raise CorruptFileError(
            f"{name} describes a network that this version does not know ({error}); train it again, or name "
            "another folder"
        ) from error


def check_bounds(value: object, where: str = "it") -> None:
    """ValueError if a JSON value, or one within it, is beyond what a network's config can have."""
    if isinstance(value, dict):
        for key, entry in value.items():
            check_bounds(entry, shown(key))
    elif isinstance(value, list):
        if len(value) > _NUMBERS:
            raise ValueError(f"{where} is {shown(value)}")
        for entry in value:
            check_bounds(entry, where)
    elif isinstance(value, int) and not 0 <= value < _INTEGER:
        raise ValueError(f"{where} is {shown(value)}")
    elif isinstance(value, float) and not (math.isfinite(value) and value > 0):
        raise ValueError(f"{where} is {value}")


def shown(value: object, limit: int = 60) -> str:
    """A value as it may stand in a message: on one line, and short."""
    text = repr(value) if isinstance(value, str | int | float) else json.dumps(value, default=repr)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _size(store: Store, name: str) -> int:
    if store.is_local and not os.path.isfile(store.path(name)):  # to open a pipe is to wait for ever
        raise FileNotFoundError(f"{store.url}/{name} is no file")
    return store.size_bytes(name)
