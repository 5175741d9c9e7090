"""A whole curation: every line of every listing is an input, and the same command again does nothing."""

import pyarrow as pa
import pytest

from pipeline.curate import decide, waves
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import ExportConfig
from pipeline.curate.run import Curation
from pipeline.curate.stage import Leave, Row, Stage, left
from pipeline.records import CLIP, INPUT, key_of
from pipeline.storage import Store
from tests.curate.finished import ledger_of
from tests.curate.toy import Cut, DropShort, Listed

RULES = (
    decide.Rules(unit="episode", unique_by="sha256", unique_reason="duplicate_audio"),
    decide.Rules(unit="clip", filters=(DropShort(),)),
)


def listing(source: str) -> list[Row]:
    """Ten episodes, of which the last is listed twice; or a listing that cannot be had."""
    blank = dict.fromkeys(INPUT.names)
    if source == "gone":
        return [left(blank | {"key": key_of(source), "url": source}, Leave("failed", "http_404"))]
    return [blank | {"key": key_of(source, str(min(i, 9))), "url": f"{source}/{min(i, 9)}"} for i in range(11)]


def curation(*sources: str, more: tuple[Stage, ...] = ()) -> Curation:
    return Curation(
        name="toy",
        sources=sources,
        discover=Listed(read=listing),
        schema=CLIP,
        unit="episode",
        stages=(Cut(), *more),
        rules=RULES,
        export_unit="clip",
        export_columns=("key", "audio", "text"),
        waves=waves.WaveConfig(wave_rows=8, split_rows=4),
        export=ExportConfig(),
    )


def test_every_listed_line_is_an_input(local_ray: None, tmp_path) -> None:
    store, toy = Store(str(tmp_path)), curation("a", "gone", "b")
    assert not toy.is_finished(Journal(store))
    ledger = toy.run(store)
    book = ledger.steps["episode"]
    assert book.in_ == 23 and book.balances()
    assert book.dropped["duplicate_url"] == 2 and book.failed["http_404"] == 1
    inputs = waves.read_inputs(Journal(store))
    assert (
        inputs["order"].to_pylist() == list(range(23))
        and inputs["source"].to_pylist() == ["a"] * 11 + ["gone"] + ["b"] * 11
    )
    assert isinstance(inputs, pa.Table) and len(set(inputs["key"].to_pylist())) == 23
    assert toy.is_finished(Journal(store)) and ledger_of(store) == ledger
    assert not curation("a", "gone", "b", more=(DropShort(),)).is_finished(Journal(store))
    with pytest.raises(ValueError, match=r"stages\.1 DropShort: None -> {'min_s': 1\.5}"):
        curation("a", "gone", "b", more=(DropShort(),)).run(store)
