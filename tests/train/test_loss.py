import torch

from pipeline.train.loss import Sums


def test_each_mean_has_the_weight_that_belongs_to_it():
    names = ("accuracy", "nats/audio", "nats/audio/weight", "nats/text", "nats/text/weight", "tokens")
    values = torch.tensor([30.0, 10.0, 5.0, 0.0, 0.0, 6.0, 2.0, 400.0], dtype=torch.float64)
    assert Sums(names, values).means() == {"loss": 3.0, "accuracy": 0.5, "nats/text": 3.0}


def test_sums_add_up_and_a_vote_leaves_them_alone():
    one = Sums(("accuracy",), torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    for vote in (False, True):
        total, asked = (one + one).over_ranks(vote)
        assert asked is vote and (total.loss, total.weight, total.tokens) == (1.5, 4.0, 0.0)
        assert total.names == one.names and total.values.tolist() == [6.0, 4.0, 2.0]
