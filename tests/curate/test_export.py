"""Exports as readers find them; `test_waves` makes real ones on Ray."""
from dataclasses import asdict

import pytest

from pipeline.curate import export
from pipeline.storage import Store, write_json


def test_only_files_of_older_exports_are_deleted(tmp_path) -> None:
    store = Store(str(tmp_path))
    assert export.shards(store) == [] and not export.is_current(store, {"verdicts": "v1"})
    old, kept, new = (store.write(f"export/{name}", name.encode()) for name in ("old", "kept", "new"))
    index = store.write("export/index", b"i")
    write_json(store, export.MANIFEST, {"made_from": {"verdicts": "v1"}, "files": [asdict(kept), asdict(new)], "webdataset": [],
                                        "index": asdict(index)})
    assert export.is_current(store, {"verdicts": "v1"}) and not export.is_current(store, {"verdicts": "v2"})
    assert export.shards(store) == [kept, new, index]
    export.delete_all_but(store, [old, kept], export.shards(store))
    assert not store.exists("export/old") and store.exists("export/kept") and store.exists("export/new")


def test_a_shard_holds_at_least_one_row() -> None:
    with pytest.raises(ValueError, match="shard_rows must be at least 1, not 0"):
        export.ExportConfig(shard_rows=0)
