"""What the three training jobs share."""

import json

import pytest

from jobs import _train
from jobs.train_dvae import TrainDVAE
from pipeline.storage import Store
from pipeline.train.config import TrainConfig
from pipeline.train.launch.config import ClusterConfig
from tests.train import tiny


def config(tmp_path, **train):
    return TrainDVAE(
        run_dir=str(tmp_path), images="nowhere", train=TrainConfig(**{"steps": 4, "global_batch": 12} | train)
    )


def test_a_finished_run_is_left_alone_and_says_what_it_was_trained_with(tmp_path, caplog):
    caplog.set_level("INFO")
    tiny.train(tiny.config("torch", steps=4), tiny.dataset(tmp_path / "data").url, str(tmp_path))
    _train.accept(config(tmp_path))
    before = (tmp_path / "config.json").read_bytes()
    assert not _train.launch(None, config(tmp_path, seed=5), "train_dvae")
    assert (tmp_path / "config.json").read_bytes() == before
    assert "nothing left to do" in caplog.records[0].message
    assert "was trained with another train.seed: 0 -> 5; choose a new run_dir" in caplog.records[1].message
    assert not _train.launch(None, config(tmp_path), "train_dvae") and len(caplog.records) == 3


def test_what_was_made_from_fewer_steps_goes_when_a_run_is_accepted(tmp_path):
    store = Store(str(tmp_path))
    store.write("tokenizer/tokenizer.json", b"{}")
    _train.accept(config(tmp_path), "tokenizer")
    assert not store.exists("tokenizer/tokenizer.json")
    assert json.loads(store.read("config.json"))["train"]["steps"] == 4


def test_every_size_that_a_group_may_have_must_share_the_batch(tmp_path):
    settings = TrainDVAE(
        run_dir=str(tmp_path),
        images="nowhere",
        train=TrainConfig(global_batch=10, micro_batch=1),
        cluster=ClusterConfig(num_workers=1, max_workers=4),
    )
    with pytest.raises(ValueError, match="--train.micro-batch is 1, and 3 workers cannot share 10 samples"):
        _train.launch(None, settings, "train_dvae")
