"""The least that makes a finished run for readers: verdicts, their manifest, and a ledger that names them."""

from typing import Any

import pyarrow as pa

from pipeline.manifest import commit, write_sealed
from pipeline.records import LEDGER, VERDICT
from pipeline.storage import Store, write_parquet


def finished(url: str, rows: list[dict[str, Any]], name: str = "v1") -> Store:
    store = Store(url)
    file = write_parquet(store, f"verdicts/{name}-{{sha256}}.parquet", pa.Table.from_pylist(rows, schema=VERDICT))
    commit(store, f"verdicts/{name}.json", [file], rules=[])
    write_sealed(store, LEDGER, {"verdicts": name})
    return store
