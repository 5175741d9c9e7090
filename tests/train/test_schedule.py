import math

import pytest

from pipeline.train.schedule import SCHEDULES, ScheduleConfig, factor


def values(steps, **config):
    return [factor(ScheduleConfig(**config), step, steps) for step in range(steps)]


def test_constant():
    assert values(5, kind="constant") == [1.0] * 5


def test_cosine_has_its_closed_form():
    found = values(100, kind="cosine", final_ratio=0.1)
    assert found[0] == 1.0
    assert found[50] == pytest.approx(0.1 + 0.9 * 0.5)
    assert found[25] == pytest.approx(0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2)
    assert factor(ScheduleConfig(kind="cosine", final_ratio=0.1), 100, 100) == pytest.approx(0.1)
    assert found == sorted(found, reverse=True)


def test_wsd_is_flat_and_then_falls_in_a_line():
    found = values(100, kind="wsd", decay_ratio=0.2, final_ratio=0.0)
    assert found[:81] == [1.0] * 81
    assert found[90] == pytest.approx(0.5) and found[99] == pytest.approx(0.05)


@pytest.mark.parametrize("kind", list(SCHEDULES))
def test_warmup_is_linear_and_starts_above_zero(kind):
    found = values(100, kind=kind, warmup_steps=4)
    assert found[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert found[4] == 1.0


@pytest.mark.parametrize("kind", list(SCHEDULES))
def test_stays_between_zero_and_one_even_when_warmup_is_longer_than_the_run(kind):
    for warmup in (0, 3, 50):
        assert all(0 < value <= 1 for value in values(10, kind=kind, warmup_steps=warmup))


@pytest.mark.parametrize(
    "bad",
    [
        {"warmup_steps": -1},
        {"final_ratio": 1.5},
        {"decay_ratio": 0.0},
        {"final_ratio": math.nan},
        {"decay_ratio": math.nan},
    ],
)
def test_bad_values_are_named(bad):
    with pytest.raises(ValueError, match=f"^{next(iter(bad))} is"):
        ScheduleConfig(**bad)
