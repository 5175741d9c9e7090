"""Exports as readers find them; `test_waves` makes real ones on Ray."""

from pathlib import Path

import pytest

from pipeline.curate import export
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import ExportConfig, ExportManifest, Selection
from pipeline.records import EXPORT
from pipeline.storage import Store


def test_an_export_is_what_its_manifest_names(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    one, two = (Selection(verdicts=name, unit="clip", columns=("key",), as_=ExportConfig()) for name in ("1", "2"))
    journal = Journal(store)
    assert export.shards(journal) == [] and not export.is_current(journal, one) and export.read_index(journal) is None
    files = tuple(store.write(f"export/data/{name}", name.encode()) for name in ("one", "two"))
    index = store.write("export/_index", b"i")
    manifest = ExportManifest(
        made_from=one, rows=0, keys_sha256="", files=files, webdataset=(), shards=(), index=index, card=index
    )
    journal.replace(EXPORT, manifest)
    for reader in (journal, Journal(store)):
        assert export.is_current(reader, one) and not export.is_current(reader, two)
        assert export.shards(reader) == [*files, index]


def test_a_shard_holds_at_least_one_row() -> None:
    with pytest.raises(ValueError, match="^shard_rows is 0; use 1 or more"):
        ExportConfig(shard_rows=0)
