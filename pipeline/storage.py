"""The only door to files: fsspec URLs, whole-object writes, and exclusive creates.

Guarantees, on a local disk and on S3 alike:
- `write` replaces an object as a whole; a reader sees the old bytes or the new ones, never a part.
- `create` makes an object only if there is none, exactly once among any number of writers; on a disk by writing a
  temporary file, fsync, and a hard link; on S3 by a PUT with `If-None-Match: *`. It never deletes.
- names are taken as they are: `[1]`, `*` and `?` in them are no patterns.
Whatever a store fails with is an OSError, so that callers need not know its client.
Credentials and endpoints come from the environment (`AWS_*`), never from a URL or a config.
"""

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import IO, Any, Concatenate, ParamSpec, TypeVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import json_bytes

P = ParamSpec("P")
T = TypeVar("T")

TEMPORARY = ".tmp-"
"""Within the name of a file that a local store is still writing, or was when its process died."""
PROBE = ".probe-"
_REQUESTS = 16
"""Requests at a time to a remote store, where many small objects are read or deleted."""


class CorruptFileError(ValueError):
    """A committed file is missing, torn or altered."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A committed file: its name relative to the store, its size, digest and number of rows (0 where that means
    nothing)."""

    path: str
    size_bytes: int
    sha256: str
    rows: int = 0


def _os_errors(method: "Callable[Concatenate[Store, P], T]") -> "Callable[Concatenate[Store, P], T]":
    """Errors of the clients of S3 that are none, such as one of the connection or missing credentials, as OSError."""

    @functools.wraps(method)
    def call(store: "Store", /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(store, *args, **kwargs)
        except Exception as error:
            if isinstance(error, OSError) or type(error).__module__.partition(".")[0] not in ("botocore", "aiohttp"):
                raise
            raise OSError(f"{store.url}: {error}") from error

    return call


@dataclass(frozen=True)
class Store:
    """A folder at any fsspec URL (`./runs/x`, `s3://bucket/x`). Cheap to make and to pickle; names are relative, with
    `/`."""

    url: str

    @cached_property
    def _fs(self) -> fsspec.AbstractFileSystem:
        options = {"auto_mkdir": True} if self.is_local else {"use_listings_cache": False}
        # `::` chains filesystems, where another `://` follows it; elsewhere it is part of a name.
        return fsspec.core.url_to_fs(re.sub(r"::(?!.*://).*", "", self.url, flags=re.DOTALL), **options)[0]

    @cached_property
    def _root(self) -> str:
        return self._fs._strip_protocol(self.url).rstrip("/")

    def __getstate__(self) -> dict[str, str]:
        return {"url": self.url}

    def __setstate__(self, state: dict[str, str]) -> None:
        object.__setattr__(self, "url", state["url"])

    @property
    def is_local(self) -> bool:
        """True for a folder of this machine."""
        return "://" not in self.url or self.url.startswith("file://")

    @property
    def local_path(self) -> str:
        """The folder as an absolute path; ValueError if the store is remote."""
        if not self.is_local:
            raise ValueError(f"{self.url} is not a local folder")
        return self._root

    def sub(self, name: str) -> "Store":
        """The store of a folder inside this one."""
        return Store(f"{self.url.rstrip('/')}/{name}")

    def path(self, name: str) -> str:
        """The full name of an object in its filesystem; refuses names that leave the store."""
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"{name!r} leaves the store {self.url}")
        return f"{self._root}/{name}"

    @_os_errors
    def open(self, name: str) -> IO[bytes]:
        """Open an object for reading, seekable."""
        return self._fs.open(self.path(name), "rb")

    @_os_errors
    def read(self, name: str) -> bytes:
        """All bytes of an object; FileNotFoundError if there is none."""
        return self._fs.cat_file(self.path(name))

    @_os_errors
    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """All bytes of many small objects, fetched at the same time where the store is remote."""
        names = list(names)
        return dict(zip(names, _each(self, self.read, names), strict=True))

    @_os_errors
    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Bytes [start, end) of an object."""
        return self._fs.cat_file(self.path(name), start=start, end=end)

    @_os_errors
    def exists(self, name: str) -> bool:
        """True if the object is there; OSError if the store does not say."""
        try:
            return self._fs.info(self.path(name))["type"] == "file"
        except (FileNotFoundError, NotADirectoryError):
            return False

    @_os_errors
    def size_bytes(self, name: str) -> int:
        """Size of an object."""
        return self._fs.size(self.path(name))

    @_os_errors
    def list(self, folder: str = "", pattern: str = ".*") -> list[str]:
        """Names of all objects under a folder, sorted; empty if there is none. `pattern` must match what follows the
        folder.

        With a pattern, what others leave in a folder (`.nfs…`, notes, editors' copies) is not taken for ours.
        """
        return sorted(self.sizes(folder, pattern))

    @_os_errors
    def sizes(self, folder: str = "", pattern: str = ".*", *, temporary: bool | None = False) -> dict[str, int]:
        """Name -> bytes of all objects under a folder, by one listing; `temporary` for those that were never finished,
        None for both."""
        top = f"{self._root}/{folder}".rstrip("/")
        inside = _local_sizes(top) if self.is_local else self._remote_sizes(top)
        prefix = f"{folder}/" if folder else ""
        return {
            f"{prefix}{rest}": size_bytes
            for rest, size_bytes in inside.items()
            if temporary in (None, TEMPORARY in rest) and re.fullmatch(pattern, rest, re.DOTALL)
        }

    def _remote_sizes(self, top: str) -> dict[str, int]:
        try:
            listed = self._fs.find(top, detail=True)
        except FileNotFoundError:
            return {}
        return {path[len(top) + 1 :]: info["size"] for path, info in listed.items() if path.startswith(f"{top}/")}

    @_os_errors
    def write(self, name: str, data: bytes | memoryview) -> File:
        """Create or replace an object as a whole."""
        path = self.path(name)
        if self.is_local:
            temporary = self._stage(path, data)
            os.replace(temporary, path)
        else:
            self._fs.pipe_file(path, _unviewed(data) if isinstance(data, memoryview) else data)
        return File(path=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    @_os_errors
    def create(self, name: str, data: bytes) -> bool:
        """Create an object unless there is one; True if `data` is what is there now, written by this call.

        A lost answer is resolved by reading the object back: our own bytes mean that the create had worked.
        """
        path = self.path(name)
        if self.is_local:
            temporary = self._stage(path, data)
            try:
                os.link(temporary, path)
                return True
            except FileExistsError:
                return False
            finally:
                os.unlink(temporary)
        try:
            self._fs.pipe_file(path, data, mode="create")
            return True
        except FileExistsError:
            return self.read(name) == data

    @_os_errors
    def delete(self, name: str) -> None:
        """Delete an object or a folder; no error if it is gone."""
        path = self.path(name)
        try:
            if self.is_local:
                self._fs.rm(path, recursive=True)
            else:
                _each(self, self._delete_object, [name] if self.exists(name) else self.list(name))
        except FileNotFoundError:
            return

    @_os_errors
    def check_writable(self) -> None:
        """Raise ValueError, in one line, if nothing can be written here."""
        probe = f"{PROBE}{secrets.token_hex(4)}"
        try:
            self.write(probe, b"")
            self.delete(probe)
        except (OSError, PermissionError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ValueError(f"cannot write to run_dir {self.url}: {reason}; choose another with --run-dir") from error

    def _delete_object(self, name: str) -> None:
        try:
            self._fs.rm_file(self.path(name))
        except FileNotFoundError:
            return

    def _stage(self, path: str, data: bytes | memoryview) -> str:
        folder = os.path.dirname(path)
        os.makedirs(folder, exist_ok=True)
        temporary = f"{path}{TEMPORARY}{secrets.token_hex(6)}"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if os.path.exists(temporary):
                os.unlink(temporary)
            if error.errno == errno.ENOSPC:
                raise OSError(
                    errno.ENOSPC, f"no space left for {path} ({len(data)} bytes); free some and run again"
                ) from error
            raise
        return temporary


def _each(store: Store, act: Callable[[str], T], names: Sequence[str]) -> list[T]:
    if store.is_local or len(names) < 2:
        return [act(name) for name in names]
    with ThreadPoolExecutor(min(_REQUESTS, len(names))) as pool:
        return [*pool.map(act, names)]


def _local_sizes(top: str) -> dict[str, int]:
    """Relative name -> bytes. fsspec's own listing leaves out a whole folder if one file in it vanishes meanwhile."""
    sizes = {}
    for folder, _, names in os.walk(top, onerror=_unless_gone):
        for name in names:
            path = os.path.join(folder, name)
            with contextlib.suppress(FileNotFoundError):
                sizes[os.path.relpath(path, top).replace(os.sep, "/")] = os.stat(path).st_size
    return sizes


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _unviewed(data: memoryview) -> bytearray:
    """A copy that clients of object stores accept, made in pieces: other threads are not held up."""
    copy = bytearray(len(data))
    for start in range(0, len(data), 1 << 24):
        copy[start : start + (1 << 24)] = data[start : start + (1 << 24)]
    return copy


def write_json(store: Store, name: str, value: object) -> File:
    """Write a JSON object, indented, unless the very bytes are there already."""
    return write_changed(store, name, json_bytes(value))


def write_changed(store: Store, name: str, data: bytes) -> File:
    """Create or replace an object, unless the very bytes are there already."""
    if store.exists(name) and store.read(name) == data:
        return File(path=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    return store.write(name, data)


def read_json(store: Store, name: str) -> Any:
    """Read a JSON object; CorruptFileError if it is not one."""
    try:
        return json.loads(store.read(name))
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{store.url}/{name} is not valid JSON: {error}") from error


def parquet_bytes(table: pa.Table, row_group_rows: int) -> bytes:
    """A table as a Parquet file; the bytes depend on the table alone."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="zstd", write_statistics=False) as writer:
        if table.num_rows:  # some readers fail on a row group without rows
            writer.write_table(table.combine_chunks(), row_group_size=row_group_rows)
    return sink.getvalue().to_pybytes()


def write_parquet(store: Store, name: str, table: pa.Table, row_group_rows: int = 1024) -> File:
    """Write a table as a Parquet file; `{sha256}` in the name stands for the first 12 digits of the file's digest."""
    data = parquet_bytes(table, row_group_rows)
    name = name.replace("{sha256}", hashlib.sha256(data).hexdigest()[:12])
    return replace(store.write(name, data), rows=table.num_rows)


def read_file(store: Store, file: File) -> bytes:
    """All bytes of a committed file, checked against its manifest; CorruptFileError names a missing or altered one."""
    try:
        data = store.read(file.path)
    except FileNotFoundError as error:
        raise CorruptFileError(f"{store.url}/{file.path} is committed but missing") from error
    if len(data) != file.size_bytes or hashlib.sha256(data).hexdigest() != file.sha256:
        raise CorruptFileError(
            f"{store.url}/{file.path} is torn or altered: {len(data)} bytes where the manifest says "
            f"{file.size_bytes}, or another sha256; delete its manifest to make it again"
        )
    return data


def read_part(store: Store, file: File, start: int, end: int) -> bytes:
    """Bytes [start, end) of a committed file, unchecked; CorruptFileError if it is missing, or has not the manifest's
    size.

    Other errors are the store's, and may pass.
    """
    try:
        return store.read_range(file.path, start, end)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise CorruptFileError(f"{store.url}/{file.path} is committed but missing") from error
    except (OSError, ValueError) as error:  # so some stores answer if the range begins beyond the end
        if (size_bytes := store.size_bytes(file.path)) == file.size_bytes:
            raise
        raise CorruptFileError(
            f"{store.url}/{file.path} is torn or altered: {size_bytes} bytes where the manifest says {file.size_bytes}"
        ) from error


def columns(store: Store, file: File) -> list[str]:
    """Names of the columns of a committed Parquet file, by its footer alone; CorruptFileError if that cannot be
    read."""
    try:
        with store.open(file.path) as source:
            return pq.read_schema(source).names
    except FileNotFoundError as error:
        raise CorruptFileError(f"{store.url}/{file.path} is committed but missing") from error
    except pa.ArrowInvalid as error:
        raise CorruptFileError(f"{store.url}/{file.path} is torn or altered: {error}") from error


def read_table(store: Store, file: File, columns: list[str] | None = None) -> pa.Table:
    """A committed Parquet file as a table, checked against its manifest."""
    return pq.read_table(pa.BufferReader(read_file(store, file)), columns=columns)
