import io
import math

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.storage import Store
from pipeline.train.metrics import BAD_STEPS, FILE, Metrics, read, share


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


def write(store, start, *steps):
    metrics = Metrics(store, start)
    for step in steps:
        metrics.write(step, **{"loss": step / 10, "eval/psnr_db": 20.0 + step})
    return metrics


def test_lines_carry_their_step(store):
    write(store, 0, 1, 2).close()
    assert read(store) == [
        {"step": 1, "loss": 0.1, "eval/psnr_db": 21.0},
        {"step": 2, "loss": 0.2, "eval/psnr_db": 22.0},
    ]


def test_a_resume_leaves_no_line_of_a_later_step(store):
    write(store, 0, 1, 2, 3, 4)  # never closed: killed
    write(store, 2, 3, 4, 5).close()
    assert [line["step"] for line in read(store)] == [1, 2, 3, 4, 5]
    write(store, 0).close()
    assert read(store) == []


def test_a_line_cut_by_a_kill_is_dropped(store):
    write(store, 0, 1, 2).close()
    store.write(FILE, store.read(FILE)[:-5])
    assert [line["step"] for line in read(store)] == [1]
    write(store, 1, 2).close()
    assert [line["step"] for line in read(store)] == [1, 2]


def test_tensorboard_reads_them_back(store, tmp_path):
    write(store, 0, 1, 2).close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert set(board.Tags()["scalars"]) == {"train/loss", "eval/psnr_db"}
    assert [(event.step, round(event.value, 3)) for event in board.Scalars("train/loss")] == [(1, 0.1), (2, 0.2)]


@pytest.mark.parametrize("line", [b"{torn\n", b"[1]\n", b"{}\n", b'{"step": null}\n', b"\n"])
def test_a_damaged_line_is_left_out_with_its_number(store, line, caplog):
    write(store, 0, 1).close()
    store.write(FILE, line + store.read(FILE))
    write(store, 1, 2).close()
    assert [line["step"] for line in read(store)] == [1, 2]
    assert caplog.records[0].message.endswith("metrics.jsonl: line 1 is damaged and left out")


def test_a_remote_store_gets_copies_when_flushed():
    store = Store("memory://metrics-test")
    metrics = write(store, 0, 1)
    metrics.flush()
    assert [line["step"] for line in read(store)] == [1]
    metrics.write(2, loss=1.0)
    metrics.close()
    assert [line["step"] for line in read(store)] == [1, 2]
    assert any("tfevents" in name for name in store.list())
    write(store, 1, 2).close()
    assert [line["step"] for line in read(store)] == [1, 2]


def test_bad_steps_are_named_with_their_samples_and_a_resume_forgets_later_ones(store):
    metrics = write(store, 0, 1, 2)
    metrics.bad_step(2, "not_finite", math.nan, math.inf, np.array([5, 7]))
    metrics.bad_step(3, "spike", 9.5, 1.0, np.array([8]))
    metrics.close()
    assert read(store, BAD_STEPS) == [
        {"step": 2, "fault": "not_finite", "loss": "nan", "grad_norm": "inf", "sample_ids": [5, 7]},
        {"step": 3, "fault": "spike", "loss": 9.5, "grad_norm": 1.0, "sample_ids": [8]},
    ]
    write(store, 2).close()
    assert [line["step"] for line in read(store, BAD_STEPS)] == [2]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_files_and_on_the_board(store, tmp_path, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, channels), np.uint8)
    metrics = write(store, 0)
    metrics.picture(7, "made", pixels)
    metrics.close()
    with Image.open(io.BytesIO(store.read("samples/00000007-made.png"))) as image:
        assert np.array_equal(np.asarray(image).reshape(4, 6, channels), pixels)
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Images("made")] == [7]


def test_the_share_of_a_part_counts_each_line_by_its_steps():
    lines = [
        {"step": 10, "step_s": 1.0, "data_s": 0.5},
        {"step": 12, "eval/nats": 1.0},
        {"step": 30, "step_s": 2.0, "data_s": 0.25},
    ]
    assert share(lines, "data_s") == pytest.approx((10 * 0.5 + 20 * 0.25) / (10 * 1.0 + 20 * 2.0))
    assert share(lines, "checkpoint_s") == 0 and share([], "data_s") is None
