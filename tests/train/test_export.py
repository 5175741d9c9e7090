import json

import pytest
import torch
from safetensors.torch import load
from torch import nn

from pipeline import storage
from pipeline.exported import NetworkSpec
from pipeline.manifest import Manifest, read_manifest
from pipeline.storage import Store
from pipeline.train import state
from pipeline.train.checkpoint import Checkpoints
from pipeline.train.config import EngineConfig, OptimConfig
from pipeline.train.data.order import Chain
from pipeline.train.ema import Ema
from pipeline.train.engine import Engine
from pipeline.train.export import aliases, export, exported_after, from_checkpoint
from pipeline.train.saved import open_saved
from pipeline.train.slices import masters
from tests.train import tiny


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.frozen = nn.Parameter(torch.randn(2), requires_grad=False)
        self.register_buffer("table", torch.randn(3, 3).t())  # not contiguous


@pytest.fixture
def engine():
    torch.manual_seed(0)
    return Engine(Tied(), tiny.loss_fn, EngineConfig(backend="torch"), OptimConfig(), torch.device("cpu"))


def test_what_is_exported_loads_strictly_into_a_new_module(engine, tmp_path):
    store = Store(str(tmp_path))
    pieces = {"embed.weight": [(0, torch.arange(10.0)), (10, torch.arange(10.0))]}
    assert exported_after(store) is None
    export(engine, pieces, store, step=7, network=NetworkSpec(kind="tied", model={"n": 5}))
    manifest = read_manifest(store, "manifest.json", Manifest)
    tensors = load(storage.read_file(store, manifest.files[0]))
    again = Tied()
    again.load_state_dict(tensors)
    assert again.embed.weight.flatten().tolist() == [*range(10), *range(10)]
    assert torch.equal(again.frozen, engine.model.frozen) and torch.equal(again.table, engine.model.table)
    assert json.loads(store.read("config.json")) == {"kind": "tied", "model": {"n": 5}, "facts": {}}
    assert exported_after(store) == 7


def test_a_later_export_replaces_an_earlier_one(engine, tmp_path):
    store = Store(str(tmp_path))
    for step, value in ((1, 0.0), (2, 1.0)):
        engine.owned()[0].master.fill_(value)
        export(engine, masters(engine.owned()), store, step=step, network=NetworkSpec(kind="tied", model={}))
        file = read_manifest(store, "manifest.json", Manifest).files[0]
        assert exported_after(store) == step and load(storage.read_file(store, file))["head.weight"].eq(value).all()


def test_aliases_are_the_further_names_of_tied_tensors(engine):
    assert aliases(engine.model) == {"head.weight": "embed.weight"}
    assert aliases(tiny.Net()) == {}


def test_a_checkpoint_exports_what_its_run_would_have(engine, tmp_path):
    ema, network = Ema(engine.owned(), 0.5), NetworkSpec(kind="tied", model={}, facts={"é": 1})
    ema.values[0].add_(1.0)
    checkpoints = Checkpoints(Store(str(tmp_path)), torch.device("cpu"), keep=1)
    state.save(checkpoints, engine, ema, Chain(step=5, value="", anchor="", stream=""), network)
    saved = open_saved(Store(str(tmp_path)), checkpoints.wait())
    for averaged, pieces in ((True, ema.pieces()), (False, masters(engine.owned()))):
        there, here = Store(f"{tmp_path}/there-{averaged}"), Store(f"{tmp_path}/here-{averaged}")
        from_checkpoint(saved, there, averaged=averaged)
        export(engine, pieces, here, step=5, network=network)
        for name in ("model.safetensors", "config.json", "manifest.json"):
            assert there.read(name) == here.read(name)
