import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save

from pipeline.config import to_json
from pipeline.exported import NetworkSpec
from pipeline.manifest import sealed
from pipeline.storage import Store
from pipeline.train import manifest, state
from pipeline.train.checkpoint import Checkpoints
from pipeline.train.config import EngineConfig, OptimConfig
from pipeline.train.data.order import Chain, Order
from pipeline.train.divergence import Health
from pipeline.train.ema import Ema
from pipeline.train.engine import Engine
from pipeline.train.saved import open_saved
from tests.train import tiny
from tests.train.processes import run

torch.set_num_threads(1)
CPU = torch.device("cpu")
ORDER = Order(group_rows=(30,), seed=0)
SPEC = NetworkSpec(kind="tiny", model={}, facts={"tokenizer": "a"})


class Run:
    """An engine with what belongs to it; `seed` sets its initial weights."""

    def __init__(self, folder, seed, ema=True):
        torch.manual_seed(seed)
        self.engine = Engine(tiny.Net(), tiny.loss_fn, EngineConfig(backend="torch"), OptimConfig(), CPU)
        self.ema = Ema(self.engine.owned(), 0.5) if ema else None
        self.checkpoints = Checkpoints(Store(str(folder)), CPU, keep=5)
        self.chain = Chain.start(ORDER)

    def step(self, n=3):
        for _ in range(n):
            ids, _ = ORDER.ids(self.chain.step, 4)
            x = torch.from_numpy(ids)[:, None].repeat(1, 5) % 17
            sums = self.engine.backward(tiny.batch_of(x, torch.ones(4, 5)), last=True)
            self.engine.step(1e-2, sums.weight)
            if self.ema:
                self.ema.update(self.engine.updates)
            self.chain = self.chain.next(ids)
        return self

    def save(self):
        state.save(self.checkpoints, self.engine, self.ema, self.chain, SPEC)
        return self.checkpoints.wait()

    def restore(self):
        self.chain = state.restore(self.checkpoints, self.engine, self.ema, ORDER, 4, SPEC).chain
        return self

    def all(self):
        kinds = [(s.master, s.exp_avg, s.exp_avg_sq) for s in self.engine.owned()]
        steps = [s["step"] for s in self.engine._adamw.state.values()]
        return [
            *(t.clone() for kind in kinds for t in kind),
            *steps,
            *(self.ema.values if self.ema else []),
            self.engine.model.count.clone(),
        ]


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_everything_is_restored_and_goes_on_alike(tmp_path):
    one = Run(tmp_path, 0).step()
    one.save()
    other = Run(tmp_path, 1).restore()
    assert same(one.all(), other.all()) and other.chain == one.chain and other.engine.updates == 3
    assert same(one.step().all(), other.step().all())


def test_nothing_to_restore_is_the_start(tmp_path):
    assert Run(tmp_path, 0).restore().chain == Chain.start(ORDER)


def test_a_bad_checkpoint_changes_nothing_before_it_is_passed_over(tmp_path):
    one = Run(tmp_path, 0).step()
    name = one.save()
    (tmp_path / name / "statics.safetensors").write_bytes(b"")
    other = Run(tmp_path, 1)
    before = other.all()
    assert other.restore().chain.step == 0 and same(other.all(), before)


def test_an_average_begins_from_the_weights_of_a_checkpoint_without_one(tmp_path, caplog):
    one = Run(tmp_path, 0, ema=False).step()
    one.save()
    other = Run(tmp_path, 1).restore()
    assert same([s.master for s in one.engine.owned()], other.ema.values)
    assert "no averaged weights" in caplog.text


def test_an_average_that_is_no_longer_wanted_is_left(tmp_path):
    Run(tmp_path, 0).step().save()
    other = Run(tmp_path, 1, ema=False).restore()
    assert other.chain.step == 3


def test_another_model_is_named(tmp_path, monkeypatch):
    Run(tmp_path, 0).step().save()
    other = Run(tmp_path, 0)
    del other.engine.shapes["gain"]
    with pytest.raises(ValueError, match="another model .*no parameter gain.*new run_dir"):
        other.restore()


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (replace(SPEC, kind="gpt"), "kind: 'tiny' -> 'gpt'"),
        (replace(SPEC, model={"levels": (8, 5)}), r"model.levels: None -> \[8, 5\]"),
        (replace(SPEC, facts={"tokenizer": "b"}), "facts.tokenizer: 'a' -> 'b'"),
    ],
)
def test_equal_shapes_of_another_meaning_are_refused(tmp_path, spec, what):
    Run(tmp_path, 0).step().save()
    other = Run(tmp_path, 0)
    with pytest.raises(ValueError, match=f"another model .{what}"):
        state.restore(other.checkpoints, other.engine, other.ema, ORDER, 4, spec)


def test_a_manifest_describes_the_run(tmp_path):
    one = Run(tmp_path, 0).step()
    found = open_saved(Store(str(tmp_path)), one.save()).manifest
    assert found.contents.network == SPEC and found.step == found.contents.updates == 3
    assert found.world_size == 1 and found.contents.averaged and found.contents.engine == "torch"
    parameters = sum(p.numel() for p in one.engine.model.parameters())
    assert sum(found.elements("master").values()) == sum(found.elements("ema").values()) == parameters
    assert found.size_bytes > 16 * parameters and len(found.files) == 2


def test_metrics_and_health_come_back(tmp_path):
    one = Run(tmp_path, 0).step()
    state.save(one.checkpoints, one.engine, one.ema, one.chain, SPEC, {"loss": 0.1 + 0.2}, Health(recent=(1 / 3,)))
    one.checkpoints.wait()
    other = Run(tmp_path, 1)
    found = state.restore(other.checkpoints, other.engine, other.ema, ORDER, 4, SPEC)
    assert found.metrics == {"loss": 0.1 + 0.2} and found.health == Health(recent=(1 / 3,))
    assert 0 < found.read_bytes <= found.total_bytes


@pytest.mark.parametrize(
    ("world", "cases"),
    [
        (2, [("torch", 0)]),
        pytest.param(
            2, [("deepspeed", 0), ("deepspeed", 1), ("deepspeed", 2), ("deepspeed", 3)], marks=pytest.mark.slow
        ),
        pytest.param(3, [("torch", 0), ("deepspeed", 2)], marks=pytest.mark.slow),
    ],
)
def test_a_rank_reads_its_share_and_ranks_exchange_what_all_of_them_hold(tmp_path, world, cases, monkeypatch):
    monkeypatch.setattr(manifest, "CHUNK", manifest.CHUNK)  # which `saved_state` changes
    saved = tiny.saved_state(str(tmp_path))
    for case, *each in zip(cases, *run(tiny.restored_states, world, str(tmp_path), cases), strict=True):
        total = each[0]["total_bytes"]
        for found in each:
            assert found["read_bytes"] < 1.3 * total / world, case  # whole chunks, the statics and the header besides
            assert found["zeros"] == saved["zeros"], case  # -0.0 is kept too
            for name, values in saved["values"].items():
                assert torch.equal(found["values"][name], values), case


@pytest.mark.parametrize("tensors", [{}, {"count": torch.zeros(2)}])
def test_buffers_that_are_not_those_of_the_model_are_damage(tmp_path, tensors, caplog):
    one = Run(tmp_path, 0).step()
    folder = Store(str(tmp_path)).sub(one.save())
    entries = json.loads(folder.read("manifest.json"))
    entries["files"][0] = to_json(folder.write("statics.safetensors", save(tensors)))
    folder.write("manifest.json", sealed(entries))
    other = Run(tmp_path, 1)
    before = other.all()
    assert other.restore().chain.step == 0 and same(other.all(), before)
    assert "statics.safetensors has no count of its shape" in caplog.text
