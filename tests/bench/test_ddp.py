import pytest

from pipeline.bench.ddp import Ddp, measure


@pytest.mark.slow
def test_both_sides_are_timed(local_ray):
    line, medians = measure(Ddp(rounds=1, steps=20, warmup=10, n_layer=1, d_model=32, seq_len=16, checkpoint_every=10))
    assert line["ratio"] == pytest.approx(line["ours_ms"] / line["bare_ms"], rel=1e-3)
    assert line["cpu_ratio"] > 0.5  # ours does all that the other does
    assert 0 < line["data_share"] < 1 and 0 < line["checkpoint_share"] < 1
    assert medians == {**line, "round": "median"}


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="--warmup 40 must be below --steps 40"):
        Ddp(steps=40)
    with pytest.raises(ValueError, match="--global-batch 16 is not a multiple of --workers 3"):
        Ddp(workers=3)
