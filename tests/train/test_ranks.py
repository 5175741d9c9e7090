import pytest
import torch
import torch.distributed as dist

from pipeline.train import ranks
from tests.train.processes import run

CPU = torch.device("cpu")


def talk() -> dict[str, object]:
    mine = ranks.rank()
    return {
        "rank": mine,
        "world": ranks.world_size(),
        "total": ranks.total(torch.tensor([1.0, mine])).tolist(),
        "all": ranks.all_true(True, CPU),
        "not_all": ranks.all_true(mine == 0, CPU),
        "first": ranks.from_first({"from": mine}, CPU),
    }


def test_three_ranks_agree():
    for mine, found in enumerate(run(talk, 3)):
        assert found == {
            "rank": mine,
            "world": 3,
            "total": [3.0, 3.0],
            "all": True,
            "not_all": False,
            "first": {"from": 0},
        }


def test_one_process_needs_no_group():
    assert not dist.is_initialized()
    assert talk() == {"rank": 0, "world": 1, "total": [1.0, 0.0], "all": True, "not_all": True, "first": {"from": 0}}
    ranks.barrier(CPU)


def test_a_missing_gpu_is_an_error_of_the_user(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ranks.device(False) == CPU
    with pytest.raises(ValueError, match="GPU was asked for and torch sees none; use --cluster.no-use-gpu"):
        ranks.device(True)
