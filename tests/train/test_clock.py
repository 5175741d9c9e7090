import pytest
import torch

from pipeline.train import clock as clocks
from pipeline.train.clock import Clock, Stopwatch, matmul_flops, memory_gb

CPU = torch.device("cpu")


@pytest.fixture
def passes(monkeypatch):
    """Time stands still, but for the seconds that this is called with."""
    now_s = [100.0]
    monkeypatch.setattr(clocks.time, "perf_counter", lambda: now_s[0])

    def passes(seconds):
        now_s[0] += seconds

    return passes


def test_a_stopwatch_adds_up_what_is_inside_and_starts_again_when_read(passes):
    watch = Stopwatch(CPU)
    for _ in range(2):
        with watch:
            passes(0.02)
        passes(0.05)
    assert watch.read() == pytest.approx(0.04)
    assert watch.read() == 0


def test_the_parts_of_a_step_add_up_to_it(passes):
    clock = Clock()
    for _ in range(2):
        passes(0.02)
        clock.lap("data")
        passes(0.04)
        clock.lap("backward")
        clock.shift(0.01, of="backward", to="forward")
        clock.step(samples=8, tokens=0)
    split = clock.split()
    assert set(split) == {"step_s", "data_s", "forward_s", "backward_s", "samples_per_s"}  # no tokens, no rate of them
    assert split["forward_s"] == pytest.approx(0.01)
    assert split["data_s"] == pytest.approx(0.02) and split["backward_s"] == pytest.approx(0.03)
    assert split["step_s"] == pytest.approx(split["data_s"] + split["forward_s"] + split["backward_s"])
    assert split["samples_per_s"] == pytest.approx(8 / split["step_s"])
    assert "data_s" not in clock.split()


def test_no_more_can_be_shifted_than_there_is(passes):
    clock = Clock()
    passes(0.5)
    clock.lap("backward")
    clock.shift(9.0, of="backward", to="forward")
    split = clock.split()
    assert split["backward_s"] == 0 and split["forward_s"] == pytest.approx(0.5)


def test_memory_is_the_most_that_was_held():
    before = memory_gb(CPU)["peak_memory_gb"]
    held = torch.ones(int((before + 0.4) * 1e9 / 4))  # more than any test before this one held
    del held
    after = memory_gb(CPU)
    assert 0.01 < before < after["peak_memory_gb"] == after["peak_rss_gb"]


def test_the_peak_is_that_of_a_machine_and_not_of_a_toy():
    assert 1e8 < matmul_flops(CPU, torch.float32, rounds=2) < 1e15
