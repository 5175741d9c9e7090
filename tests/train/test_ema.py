import pytest
import torch

from pipeline.train.ema import Ema
from pipeline.train.slices import Slice, masters


def slices(*values):
    return [Slice(name=f"p{i}", start=3 * i, master=v, exp_avg=v, exp_avg_sq=v) for i, v in enumerate(values)]


def test_average_of_a_constant_gap_has_its_closed_form():
    weight = torch.zeros(2, dtype=torch.float32)
    ema = Ema(slices(weight), 0.5)
    weight.fill_(1.0)
    gap = 1.0
    for n in range(1, 30):
        ema.update(n)
        gap *= min(0.5, (1 + n) / (10 + n))
        assert ema.values[0].tolist() == pytest.approx([1 - gap] * 2, abs=1e-6)


def test_average_follows_the_definition_over_changing_weights():
    torch.manual_seed(0)
    weight = torch.randn(4)
    ema, expected = Ema(slices(weight), 0.9), weight.double().clone()
    for n in range(1, 50):
        weight.copy_(torch.randn(4))
        ema.update(n)
        d = min(0.9, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * weight.double()
    torch.testing.assert_close(ema.values[0].double(), expected, rtol=0, atol=1e-6)


def test_pieces_say_where_values_belong():
    ema = Ema(slices(torch.ones(3), torch.zeros(2)), 0.9)
    assert [(name, parts[0][0], parts[0][1].tolist()) for name, parts in ema.pieces().items()] == [
        ("p0", 0, [1.0] * 3),
        ("p1", 3, [0.0] * 2),
    ]
    assert list(masters(slices(torch.ones(1)))) == ["p0"]


def test_a_bad_decay_is_named():
    with pytest.raises(ValueError, match="--train.ema-decay is 1.5"):
        Ema([], 1.5)
