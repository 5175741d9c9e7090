"""Archives of one file (gzip, bzip2, xz, Zstandard) unpacked within a bound; what is cut or damaged gives what it still
has."""

import bz2
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

# Fed in small pieces: an error costs the bytes of one piece, and what a kilobyte can become fits in memory.
_PIECE_BYTES = 1024
_DEPTH = 3  # archives in archives
_MAKERS: tuple[tuple[bytes, str, Callable[[], "_Decompressor"]], ...] = (
    (b"\x1f\x8b", "gzip", lambda: zlib.decompressobj(wbits=31)),
    (b"BZh", "bzip2", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\0", "xz", lzma.LZMADecompressor),
)
_ZSTD = b"\x28\xb5\x2f\xfd"


class TooLargeError(ValueError):
    """It unpacks to more than the bound."""


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """What was in an archive, and the `problem` that ended it before its end, if one did."""

    body: bytes
    problem: str = ""


def unpack(body: bytes, max_bytes: int) -> Unpacked:
    """What archives hold; bytes that are none are given back as they are. TooLargeError beyond `max_bytes`."""
    problem = ""
    for _ in range(_DEPTH):
        inner = _layer(body, max_bytes)
        if inner is None:
            break
        body, problem = inner.body, problem or inner.problem
    return Unpacked(body=body, problem=problem)


def _layer(body: bytes, max_bytes: int) -> Unpacked | None:
    if body.startswith(_ZSTD):
        return _zstd(body, max_bytes)
    for magic, name, make in _MAKERS:
        if body.startswith(magic):
            return _members(body, magic, name, make, max_bytes)
    return None


def _members(body: bytes, magic: bytes, name: str, make: Callable[[], "_Decompressor"], max_bytes: int) -> Unpacked:
    """One archive after the other, as `cat a.gz b.gz` makes them; what follows and is none is padding."""
    out, at = bytearray(), 0
    while body.startswith(magic, at):
        one = make()
        while not one.eof and at < len(body):
            piece = body[at : at + _PIECE_BYTES]
            at += len(piece)
            try:
                out += one.decompress(piece)
            except (zlib.error, OSError, EOFError, lzma.LZMAError):
                return Unpacked(body=bytes(out), problem=f"{name} archive that is damaged")
            if len(out) > max_bytes:
                raise TooLargeError(f"{name} archive that unpacks to more than {max_bytes} bytes")
        if not one.eof:
            return Unpacked(body=bytes(out), problem=f"{name} archive that is cut")
        at -= len(one.unused_data)
    return Unpacked(body=bytes(out))


def _zstd(body: bytes, max_bytes: int) -> Unpacked:
    out, problem = bytearray(), ""
    with pa.CompressedInputStream(pa.BufferReader(body), "zstd") as stream:
        try:
            while piece := stream.read(_PIECE_BYTES):
                out += piece
                if len(out) > max_bytes:
                    raise TooLargeError(f"Zstandard archive that unpacks to more than {max_bytes} bytes")
        except OSError as error:
            problem = f"Zstandard archive that is {'cut' if 'runcated' in str(error) else 'damaged'}"
    return Unpacked(body=bytes(out), problem=problem)


class _Decompressor(Protocol):
    """What zlib, bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...
