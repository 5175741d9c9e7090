"""A stage that most rows pass, and a few kill in ways of their own."""

import ctypes
import mmap
import os
import time
from dataclasses import dataclass
from typing import ClassVar

from pipeline.curate.stage import Batch, Map, Row

_NORESERVE = 0x4000  # MAP_NORESERVE of Linux


def harm(row: Row) -> Row:
    match row["text"]:
        case "raise":
            raise KeyError("no such codec")
        case "exit":
            os._exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "memory":
            bytearray(64 << 30)
        case "hang":
            time.sleep(3600)
    return row | {"duration_s": 1.0}


@dataclass(frozen=True, kw_only=True)
class Harm(Map):
    batch_rows: ClassVar[int] = 125

    def map(self, row: Row) -> Row:
        return harm(row)


@dataclass(frozen=True, kw_only=True)
class HarmBatch(Batch):
    batch_rows: ClassVar[int] = 16

    def batch(self, rows: list[Row]) -> list[Row]:
        return [harm(row) for row in rows]


@dataclass(frozen=True, kw_only=True)
class Reserve(Map):
    """Takes more address space than `limited` allows, and none of it is ever touched."""

    def map(self, row: Row) -> Row:
        mmap.mmap(-1, 6 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE).close()
        return row
