import pytest

from pipeline.bench.recovery import EVERY, KILL, Recovery, measure


@pytest.mark.slow
def test_both_recover_and_ours_does_only_the_steps_since_its_checkpoint_again(local_ray):
    line, medians = measure(Recovery(rounds=1))
    assert line["round"] == 0 and medians == line | {"round": "median"}
    assert line["ours_redone"] == KILL - EVERY and line["stock_redone"] in (KILL - EVERY, KILL)
    assert 0 < line["ours_s"] < 120 and 0 < line["stock_s"] < 120
