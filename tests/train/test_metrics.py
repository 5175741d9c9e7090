import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.storage import Store
from pipeline.train.metrics import FILE, Metrics, read


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
    assert read(store) == [{"step": 1, "loss": 0.1, "eval/psnr_db": 21.0},
                           {"step": 2, "loss": 0.2, "eval/psnr_db": 22.0}]


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
