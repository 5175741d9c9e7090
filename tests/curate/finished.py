"""The least that makes a finished run for readers: verdicts, their manifest, and a ledger that names them."""

from typing import Any

import pyarrow as pa

from pipeline.curate.journal import Journal
from pipeline.curate.manifests import Ledger, VerdictManifest
from pipeline.records import LEDGER, VERDICT, verdicts_name
from pipeline.storage import Store, write_parquet


def finished(url: str, rows: list[dict[str, Any]], name: str = "0123456789ab") -> Store:
    store = Store(url)
    file = write_parquet(store, f"verdicts/{name}-{{sha256}}.parquet", pa.Table.from_pylist(rows, schema=VERDICT))
    journal = Journal(store)
    journal.create(verdicts_name(name), VerdictManifest(files=(file,), rules=()))
    journal.create(LEDGER, ledger(name))
    return store


def ledger(verdicts: str) -> Ledger:
    """One that counts nothing."""
    return Ledger(verdicts=verdicts, unit="image", exported_rows=0, steps={}, export_sha256="")


def ledger_of(store: Store) -> Ledger:
    """What a finished run says of itself."""
    found = Journal(store).find(LEDGER, Ledger)
    assert found is not None
    return found
