import dataclasses
import math
from pathlib import Path

import pytest
import torch

from pipeline.models.config import GPTConfig
from pipeline.models.diffusion import alpha_bar
from pipeline.models.gpt import GPT, gpt_loss
from pipeline.storage import Store
from pipeline.train import engine as engines
from pipeline.train import preflight, ranks
from pipeline.train.checkpoint import committed, open_saved
from pipeline.train.config import EngineConfig, OptimConfig, TrainConfig
from pipeline.train.preflight import Workload
from tests.train import networks, processes, tiny

torch.set_num_threads(1)
BULKY = GPTConfig(vocab_size=512, n_layer=4, d_model=192, seq_len=8)


def network(name):
    build, loss_fn, batch_of = networks.NETWORKS[name]
    return Workload(
        build=build, loss_fn=loss_fn, row={k: v[:1] for k, v in batch_of(torch.Generator().manual_seed(0)).items()}
    )


def config(micro_batch=None, **engine):
    return TrainConfig(global_batch=8, micro_batch=micro_batch, engine=EngineConfig(**engine))


TINY = Workload(
    build=tiny.Net, loss_fn=tiny.loss_fn, row=tiny.batch_of(torch.zeros(1, 5, dtype=torch.int64), torch.ones(1, 5))
)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_parameters_are_those_of_the_network(name):
    real = networks.NETWORKS[name][0]()
    assert preflight.predict(network(name), config(), 2).parameters == sum(p.numel() for p in real.parameters())
    assert alpha_bar().sum().item() > 0  # what others cache is no tensor without memory


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_the_bytes_of_a_checkpoint_are_predicted_exactly(tmp_path, ema_decay):
    settings = tiny.config("torch", steps=2, ema_decay=ema_decay)
    tiny.train(settings, tiny.dataset(tmp_path / "data").url, str(tmp_path / "run"))
    checkpoints = Store(str(tmp_path / "run")).sub("checkpoints")
    saved = open_saved(checkpoints, committed(checkpoints)[0])
    headers = [8 + int.from_bytes(saved.store.read_range(file.path, 0, 8), "little") for file in saved.facts["files"]]
    written = sum(file.size_bytes for file in saved.facts["files"]) - sum(headers)
    assert preflight.predict(TINY, settings, 1).checkpoint_bytes == written


# Kernels of convolutions take scratch space, which a prediction from shapes cannot see.
@pytest.mark.parametrize(("name", "least"), [("gpt", 0.98), ("dvae", 0.75), ("denoiser", 0.75)])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_what_the_allocator_hands_out(name, least, checkpointing):
    build, loss_fn, batch_of = networks.NETWORKS[name]
    settings = EngineConfig(backend="torch", activation_checkpointing=checkpointing)
    engine = engines.Engine(build(), loss_fn, settings, engines.OptimConfig(), torch.device("cpu"))
    for p in engine.model.parameters():
        p.grad = torch.zeros_like(p)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        engine.backward(batch_of(torch.Generator().manual_seed(1)), last=True)
    held = most = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    predicted = preflight.predict(network(name), TrainConfig(global_batch=8, engine=settings), 1).memory["activations"]
    assert least * most < predicted < 1.02 * most


def test_memory_shrinks_with_what_is_said_to_shrink_it():
    def memory(world=4, micro_batch=None, **engine):
        return preflight.predict(
            network("gpt"), dataclasses.replace(config(**engine), micro_batch=micro_batch), world
        ).memory

    usual = memory()
    assert memory(zero_stage=0)["optimizer"] > usual["optimizer"] and memory(world=2)["optimizer"] > usual["optimizer"]
    assert memory(cpu_offload=True)["optimizer"] == 0
    assert memory(zero_stage=2)["gradients"] < usual["gradients"]
    for changed in ({"activation_checkpointing": True}, {"micro_batch": 1}, {"precision": "bf16"}):
        assert memory(**changed)["activations"] < usual["activations"]


def test_a_run_that_does_not_fit_is_told_the_least_that_mends_it():
    whole = preflight.predict(network("gpt"), config(backend="torch"), 1)
    recomputed = preflight.predict(network("gpt"), config(backend="torch", activation_checkpointing=True), 1)
    assert preflight.check_fits(network("gpt"), config(backend="torch"), 1, whole.total) == whole
    with pytest.raises(ValueError, match=r"add --train.engine.activation-checkpointing \(then"):
        preflight.check_fits(network("gpt"), config(backend="torch"), 1, whole.total - 1)
    with pytest.raises(ValueError, match=r"add --train.engine.activation-checkpointing --train.micro-batch 4 \(then"):
        preflight.check_fits(network("gpt"), config(backend="torch"), 1, recomputed.total - 1)
    with pytest.raises(ValueError, match="no option is enough; raise --cluster.num-workers"):
        preflight.check_fits(network("gpt"), config(), 2, 1000)


def test_time_is_work_over_speed():
    plan = preflight.predict(network("gpt"), config(), 2)
    # By hand: 2 layers of q, k, v, o (32 x 96), attention over 24 tokens, SwiGLU of 128, and a head of 61; 8 rows of
    # 24.
    forward = 2 * (2 * 32 * 96 + 4 * 24 * 32 + 6 * 32 * 128) + 2 * 32 * 61
    assert plan.flops_per_step == 3 * 8 * 24 * forward
    assert plan.step_s(1e9, 2) == pytest.approx(plan.flops_per_step / 2e9)
    assert plan.step_s(1e9, 2, 1e6) == pytest.approx(plan.flops_per_step / 2e9 + plan.sent_bytes_per_step / 1e6)


def sent_by_loopback():
    return next(
        int(line.split()[9])
        for line in Path("/proc/net/dev").read_text().splitlines()
        if line.strip().startswith("lo:")
    )


def steps_counted(stage, micros):
    """Parameters, and bytes that all ranks sent in one of ten steps."""
    engine = engines.build(
        GPT(BULKY), gpt_loss, EngineConfig(zero_stage=stage), OptimConfig(), torch.device("cpu"), micros
    )
    batch = {
        "tokens": torch.zeros(1, 8, dtype=torch.int64),
        "targets": torch.ones(1, 8, dtype=torch.int64),
        "weights": torch.ones(1, 8),
    }
    for i in range(12):
        if i == 2:
            torch.distributed.barrier()
            before = sent_by_loopback()
        for micro in range(micros):
            engine.backward(batch, last=micro == micros - 1)
        engine.step(1e-4, 8.0 * micros * ranks.world_size())
    torch.distributed.barrier()
    return sum(math.prod(shape) for shape in engine.shapes.values()), (sent_by_loopback() - before) / 10


@pytest.mark.skipif(not Path("/proc/net/dev").exists(), reason="counts what Linux says was sent")
@pytest.mark.parametrize(("stage", "world", "micros"), [(0, 3, 2), (1, 3, 1), (2, 2, 2), (3, 2, 1)])
def test_what_ranks_send_is_what_the_network_counts(stage, world, micros):
    parameters, sent = processes.run(steps_counted, world, stage, micros)[0]
    predicted = preflight.sent_bytes(parameters, EngineConfig(zero_stage=stage), world, micros)
    assert predicted == pytest.approx(sent / world, rel=0.06)


def test_a_batch_that_cannot_be_shared_out_is_refused():
    with pytest.raises(ValueError, match="3 workers cannot share 8 samples equally"):
        preflight.predict(network("gpt"), config(micro_batch=1), 3)
    with pytest.raises(ValueError, match="--train.global-batch is 8, and there are 9 workers"):
        preflight.predict(network("gpt"), config(), 9)


def test_the_largest_share_counts():
    shared = preflight.predict(network("gpt"), config(), 3)  # 3, 3 and 2 of 8 samples
    assert (
        shared.memory["activations"]
        == preflight.predict(network("gpt"), config(micro_batch=3), 1).memory["activations"]
    )


def test_a_measured_step_is_the_step_of_the_engine(monkeypatch):
    rows, weights = [], []
    step = engines.Engine.step
    monkeypatch.setattr(
        engines.Engine, "step", lambda self, lr, weight: weights.append(weight) or step(self, lr, weight)
    )

    def loss_fn(model, batch):
        rows.append(len(batch["x"]))
        return tiny.loss_fn(model, batch)

    settings = TrainConfig(global_batch=8, micro_batch=2, engine=EngineConfig(zero_stage=3))
    seconds = preflight.measure(dataclasses.replace(TINY, loss_fn=loss_fn), settings, 2, torch.device("cpu"), steps=3)
    assert rows == [2] * 2 * (1 + 3) and len(weights) == 4 and 0 < seconds < 60
