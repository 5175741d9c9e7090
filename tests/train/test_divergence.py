import json

import numpy as np
import pytest

from pipeline.config import from_json, to_json
from pipeline.train.divergence import FEWEST, Divergence, Health

IDS = np.arange(20)


def health(state=None, **changes):
    return Divergence(
        **{"max_bad_steps": 3, "spike_factor": 5.0, "window": 20, "max_spikes": 2, "health": state or Health()}
        | changes
    )


def noise(n, seed=0, at=2.0):
    return at + 0.1 * np.random.default_rng(seed).standard_normal(n)


def faults(one, values, first=1):
    return [one.judge(step, float(loss), 1.0) for step, loss in enumerate(values, start=first)]


def test_noise_and_a_falling_loss_are_sound():
    assert set(faults(health(), noise(500))) == {None}
    assert set(faults(health(), np.geomspace(10, 0.1, 500))) == {None}


def test_a_loss_far_above_the_recent_ones_is_a_spike_and_moves_nothing():
    one = health(max_spikes=9)
    assert set(faults(one, noise(40))) == {None}
    assert faults(one, [2.2, 2.0, 2.9, 1.0, 2.9], first=41) == [None, None, "spike", None, "spike"]
    assert one.spikes == 2


def test_a_flat_loss_has_a_spread_of_one_percent():
    one = health()
    faults(one, [1.0] * 30)
    assert faults(one, [1.049, 1.051], first=31) == [None, "spike"]


def test_too_few_losses_judge_nothing_and_a_factor_of_0_never_does():
    one = health()
    assert faults(one, [*noise(FEWEST - 1), 100.0])[-1] is None
    assert set(faults(health(spike_factor=0.0), [*noise(50), 100.0])) == {None}


def test_spikes_within_the_window_stop_training_and_old_ones_are_forgotten():
    one = health()
    faults(one, noise(30))
    for step in (31, 32, 60):  # the first two are out of the window when the third comes
        one.judge(step, 9.0, 1.0)
        one.stop_at_limit(step, IDS)
    one.judge(61, 9.0, 1.0)
    one.stop_at_limit(61, IDS)
    one.judge(62, 9.0, 1.0)
    with pytest.raises(
        FloatingPointError, match=r"spiked at 3 of the last 20 steps, the last time at step 62 \(sample ids 0, "
    ):
        one.stop_at_limit(62, IDS)
    assert one.spikes == 5


def test_steps_that_are_not_finite_count_only_in_a_row():
    one = health()
    for step, (loss, norm) in enumerate(
        [(np.nan, 1.0), (1.0, np.inf), (1.0, 1.0), (np.inf, 1.0), (np.nan, 1.0)], start=1
    ):
        assert (one.judge(step, loss, norm) == "not_finite") == (step != 3)
        one.stop_at_limit(step, IDS)
    one.judge(6, np.nan, 1.0)
    with pytest.raises(FloatingPointError, match="not finite for 3 steps in a row, up to step 6"):
        one.stop_at_limit(6, IDS)


def test_a_resumed_run_judges_as_an_uninterrupted_one():
    losses = noise(120, seed=1)
    losses[[50, 55, 90]] += 1.5
    straight = health()
    expected = faults(straight, losses)
    assert expected.count("spike") == 3
    for cut in (10, 51, 56, 91):
        first = health()
        found = faults(first, losses[:cut])
        second = health(from_json(Health, json.loads(json.dumps(to_json(first.state())))))
        assert found + faults(second, losses[cut:], first=cut + 1) == expected
        assert second.state() == straight.state()
