"""Exports as readers find them; `test_waves` makes real ones on Ray."""

from dataclasses import asdict

import pytest

from pipeline.curate import export
from pipeline.manifest import write_sealed
from pipeline.storage import Store


def test_an_export_is_what_its_manifest_names(tmp_path) -> None:
    store = Store(str(tmp_path))
    assert (
        export.shards(store) == []
        and not export.is_current(store, {"verdicts": "v1"})
        and export.read_index(store) is None
    )
    one, two = (store.write(f"export/data/{name}", name.encode()) for name in ("one", "two"))
    index = store.write("export/_index", b"i")
    write_sealed(
        store,
        export.MANIFEST,
        {
            "made_from": {"verdicts": "v1"},
            "files": [asdict(one), asdict(two)],
            "webdataset": [],
            "index": asdict(index),
        },
    )
    assert export.is_current(store, {"verdicts": "v1"}) and not export.is_current(store, {"verdicts": "v2"})
    assert export.shards(store) == [one, two, index]


def test_a_shard_holds_at_least_one_row() -> None:
    with pytest.raises(ValueError, match="^shard_rows is 0; use 1 or more"):
        export.ExportConfig(shard_rows=0)
