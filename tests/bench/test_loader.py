"""The loader benchmark: every loader delivers the samples that were written, and the measures of shuffling are
right."""

import numpy as np
import pytest
import torch

from pipeline.bench import formats, loader
from pipeline.bench.loader import Loader

SAMPLES, BATCH = 1500, 50


@pytest.fixture
def task(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 8192, (SAMPLES, 16), dtype=np.int32)
    tokens[:, 0] = np.arange(SAMPLES)
    return formats.Task(folder=tmp_path, tokens=tokens, batch=BATCH)


def delivered(task, epoch):
    batches = list(epoch(task, 1))
    assert {(batch.shape, batch.dtype) for batch in batches} == {((BATCH, 16), torch.int32)}
    tokens = torch.cat(batches).numpy()
    assert np.array_equal(tokens, task.tokens[tokens[:, 0]])
    assert len(np.unique(tokens[:, 0])) == len(tokens)
    return tokens[:, 0]


def test_ours_delivers_each_sample_once(task):
    formats._write_tables(task)
    for epoch in (formats._tables, formats._all_tables, formats._late_tables):
        ids = delivered(task, epoch)
        assert len(ids) == SAMPLES and not np.array_equal(ids, np.arange(SAMPLES))


@pytest.mark.parametrize(
    ("package", "write", "read"),
    [
        ("webdataset", formats._write_tars, formats._tars),
        ("streaming", formats._write_mds, formats._mds),
    ],
)
def test_a_peer_delivers_the_same_samples(task, package, write, read):
    pytest.importorskip("transformers")
    if formats.find_spec(package) is None:
        pytest.skip(loader.INSTALL[package])
    write(task)
    ids = delivered(task, lambda task, seed: read(task, seed, workers=0))
    assert len(ids) >= SAMPLES - 2 * BATCH and not np.array_equal(ids, np.sort(ids))


def test_measures_of_a_shuffle_are_one_where_there_is_none_and_fair_where_it_is_full():
    # Of 999 pairs of neighbours 900 are in one batch; a full shuffle puts 9 in 999 there.
    assert loader.quality(np.arange(1000), 1000, 10) == pytest.approx((1, 100))
    noise = np.random.default_rng(0)
    correlations, neighbours = np.mean(
        [loader.quality(noise.permutation(10_000), 10_000, 100) for _ in range(10)], axis=0
    )
    assert correlations < 0.02 and neighbours == pytest.approx(1, abs=0.1)
    halves = np.concatenate([noise.permutation(5000), 5000 + noise.permutation(5000)])
    correlation, neighbours = loader.quality(halves, 10_000, 100)
    assert correlation == pytest.approx(0.75, abs=0.02) and neighbours == pytest.approx(2, abs=0.2)
    assert loader.quality(noise.permutation(10_000)[:9000], 10_000, 100)[1] == pytest.approx(1, abs=0.1)


def test_a_peer_that_is_not_installed_is_left_out_and_named(monkeypatch):
    for module in (formats, loader):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    lines = list(loader.measure(Loader(samples=700, sample_bytes=64, batch=64, rounds=1)))
    assert [line["loader"] for line in lines[:3]] == [
        "triptych",
        "triptych, full shuffle",
        "triptych, requests 30 ms late",
    ]
    assert all(0 < line["least"] <= line["samples_per_s"] <= line["most"] for line in lines[:3])
    assert lines[3]["ranks"] == 8
    assert [line["not_installed"] for line in lines[4:]] == ["webdataset", "streaming"]
    assert "mosaicml-streaming" in lines[5]["command"]


def test_a_rank_reads_little_more_than_its_part_of_a_window():
    found = loader.dealt(64_000, 800)  # windows of 100 row groups, 8 steps of 100 samples for each of 8 ranks
    assert found["row_groups_of_a_window"] == 100
    assert 100 / 8 <= found["read_by_a_rank_percent"] < 2 * 100 / 8
    assert found["in_stream_order_percent"] > 99  # 800 of the 6400 samples of 100 row groups


def test_sizes_that_make_no_batch_are_refused():
    for wrong in ({"samples": 99, "batch": 10}, {"sample_bytes": 4}, {"rounds": 0}):
        with pytest.raises(ValueError, match="must be at least 10 times --batch"):
            Loader(**wrong)
