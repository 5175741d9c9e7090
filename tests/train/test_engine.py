import math
import re

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from pipeline.train.config import EngineConfig, OptimConfig
from pipeline.train.engine import Engine, ZeroEngine
from pipeline.train.preflight import optimizer_elements
from tests.train import networks, tiny
from tests.train.processes import run

torch.set_num_threads(1)

CASES = [("torch", 0, 1, 0.0), ("torch", 0, 3, 0.2)]
CASES += [("deepspeed", stage, micro, clip) for stage in (0, 1, 2, 3) for micro, clip in ((1, 0.2), (2, 0.0), (4, 0.2))]


NETWORK_CASES = [(name, "deepspeed", 1, 2, 0.5) for name in networks.NETWORKS]
NETWORK_CASES += [("gpt", "deepspeed", stage, 2, 0.5, "activation_checkpointing") for stage in (1, 3)]
ALL_NETWORK_CASES = (
    [
        (name, backend, stage, micro, clip)
        for name in networks.NETWORKS
        for backend, stage in (("torch", 0), ("deepspeed", 0), ("deepspeed", 1), ("deepspeed", 2), ("deepspeed", 3))
        for micro in (1, 2, 4)
        for clip in (0.0, 0.5)
    ]
    + [("gpt", "deepspeed", stage, 2, 0.5, "cpu_offload") for stage in (1, 2, 3)]
    + [
        (name, "deepspeed", stage, 2, 0.5, "activation_checkpointing")
        for name in networks.NETWORKS
        for stage in range(4)
    ]
    + [("gpt", "deepspeed", stage, 2, 0.5, "compile") for stage in range(3)]
)


@pytest.fixture(scope="module")
def both_on_two_ranks():
    return run(networks.tiny_and_networks, 2, CASES, NETWORK_CASES)


@pytest.fixture(scope="module")
def on_two_ranks(both_on_two_ranks):
    (first, _), (second, _) = both_on_two_ranks
    for a, b in zip(first, second, strict=True):
        assert a["losses"] == b["losses"] and a["norms"] == b["norms"]
    return dict(zip(CASES, first, strict=True))


def assert_steps_of_plain_torch(case, found):
    name, clip = case[0], case[4]
    losses, weights = networks.steps(name, "torch", 0, 1, clip)
    assert found[0] == pytest.approx(losses, rel=1e-5)
    for key, expected in weights.items():
        torch.testing.assert_close(found[1][key], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", NETWORK_CASES, ids=lambda case: "-".join(map(str, case)))
def test_the_three_networks_take_the_steps_of_plain_torch(case, both_on_two_ranks):
    assert_steps_of_plain_torch(case, both_on_two_ranks[0][1][NETWORK_CASES.index(case)])


@pytest.mark.slow
def test_the_three_networks_under_every_stage_accumulation_and_clipping():
    for case, found in zip(
        ALL_NETWORK_CASES, run(networks.all_steps, 2, ALL_NETWORK_CASES, timeout_s=900)[0], strict=True
    ):
        assert_steps_of_plain_torch(case, found)


@pytest.fixture(scope="module")
def by_hand():
    """The same steps in one process by autograd and torch.optim alone."""

    def steps(clip):
        torch.manual_seed(0)
        net = tiny.Net()
        matrices, others = [p for p in net.parameters() if p.dim() > 1], [p for p in net.parameters() if p.dim() < 2]
        adamw = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
            lr=1e-3,
            betas=(0.9, 0.95),
        )
        generator = torch.Generator().manual_seed(1)
        losses, norms = [], []
        for step in range(20):
            batch = tiny.batch_of(
                torch.randint(0, 17, (24, 5), generator=generator),
                torch.rand(24, 5, generator=generator) * torch.linspace(0, 1, 24)[:, None],
            )
            loss_sum, weight, _ = tiny.loss_fn(net, batch)
            loss = loss_sum / weight
            loss.backward()
            norms.append(nn.utils.clip_grad_norm_(net.parameters(), clip or math.inf).item())
            for group in adamw.param_groups:
                group["lr"] = 1e-3 * (1 - step / 40)
            adamw.step()
            adamw.zero_grad()
            losses.append(loss.item())
        return losses, norms, {name: p.detach() for name, p in net.named_parameters()}

    return {clip: steps(clip) for clip in (0.0, 0.2)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_every_engine_takes_the_steps_of_plain_torch(case, on_two_ranks, by_hand):
    found, (losses, norms, weights) = on_two_ranks[case], by_hand[case[-1]]
    assert found["losses"] == pytest.approx(losses, rel=1e-5)
    assert found["norms"] == pytest.approx(norms, rel=1e-5)
    assert found["updates"] == 20
    for name, expected in weights.items():
        torch.testing.assert_close(found["weights"][name], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_the_share_of_a_rank_is_what_is_predicted(case, on_two_ranks):
    backend, stage, _, _ = case
    shapes = [tuple(p.shape) for p in tiny.Net().parameters()]
    share = optimizer_elements(shapes, EngineConfig(backend=backend, zero_stage=stage), 2)
    assert share == on_two_ranks[case]["held"]  # of rank 0, whose share is the largest


def test_clipping_was_at_work(by_hand):
    assert min(by_hand[0.2][1]) > 0.2
    assert by_hand[0.2][0][-1] != by_hand[0.0][0][-1]


def engine(model=None, **changes):
    torch.manual_seed(0)
    loss = changes.pop("loss_fn", tiny.loss_fn)
    settings = EngineConfig(backend="torch", **changes)
    return Engine(model or tiny.Net(), loss, settings, OptimConfig(), torch.device("cpu"))


def a_batch():
    return tiny.batch_of(torch.arange(20).view(4, 5) % 17, torch.ones(4, 5))


def nan_loss(model, batch):
    return model.logits(batch["x"]).sum() * math.nan, torch.tensor(1.0), {}


def infinite_loss_of_finite_gradient(model, batch):
    return (model.logits(batch["x"]).sum() - math.inf).abs(), torch.tensor(1.0), {}


@pytest.mark.parametrize("loss_fn", [nan_loss, infinite_loss_of_finite_gradient])
def test_a_step_that_is_not_finite_changes_nothing(loss_fn):
    one = engine(loss_fn=loss_fn)
    before = {name: p.clone() for name, p in one.model.named_parameters()}
    one.backward(a_batch(), last=True)
    assert math.isnan(one.step(1e-2, 1.0))
    assert one.updates == 0
    for name, p in one.model.named_parameters():
        assert torch.equal(p, before[name])


def test_sums_come_under_their_names_and_need_no_gradient():
    one = engine()
    sums = one.backward(a_batch(), last=True)
    assert sums.names == ("accuracy",)
    assert sums.values.shape == (3,) and sums.values.dtype == torch.float64 and not sums.values.requires_grad
    assert sums.weight == 20


def test_bf16_computes_in_bfloat16_and_keeps_fp32_parameters():
    seen = {}

    def loss(model, batch):
        seen["dtype"] = model.inner(model.embed(batch["x"])).dtype
        return tiny.loss_fn(model, batch)

    one = engine(precision="bf16", loss_fn=loss)
    one.backward(a_batch(), last=True)
    one.step(1e-2, 20.0)
    assert seen["dtype"] == torch.bfloat16
    assert {p.dtype for p in one.model.parameters()} == {torch.float32}
    assert {s.exp_avg.dtype for s in one.owned()} == {torch.float32}


def test_slices_are_views_of_the_live_state():
    one = engine()
    one.backward(a_batch(), last=True)
    one.step(1e-2, 20.0)
    moment = {s.name: s for s in one.owned()}["inner.bias"]
    parameter = dict(one.model.named_parameters())["inner.bias"]
    assert torch.equal(moment.master, parameter.detach())
    assert moment.exp_avg.abs().sum() > 0
    moment.master.zero_()
    assert parameter.abs().sum() == 0


def test_swapped_puts_weights_in_and_takes_them_out():
    one = engine()
    before = {s.name: s.master.clone() for s in one.owned()}
    zeros = {s.name: [(s.start, torch.zeros_like(s.master))] for s in one.owned()}
    with one.swapped(zeros) as model:
        assert not model.training and all(p.abs().sum() == 0 for p in model.parameters())
    assert one.model.training
    for s in one.owned():
        assert torch.equal(s.master, before[s.name])


def test_statics_are_buffers_that_persist_and_frozen_parameters():
    net = tiny.Net()
    net.unused.requires_grad_(False)
    one = engine(net)
    assert set(one.statics()) == {"count", "unused"}
    assert "unused" not in one.shapes


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_recomputed_activations_change_nothing(name):
    case = (name, "torch", 0, 2, 0.5)
    if name == "gpt":  # its head takes a row at a time, which adds up the gradient in another order
        assert_steps_of_plain_torch(case, networks.steps(*case, "activation_checkpointing"))
        return
    (losses, weights), expected = networks.steps(*case, "activation_checkpointing"), networks.steps(*case)
    assert losses == expected[0]
    assert all(torch.equal(weights[key], expected[1][key]) for key in expected[1])


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_recomputing_keeps_less_and_renames_nothing(name):
    build, loss_fn, batch_of = networks.NETWORKS[name]

    def kept(**options):
        sizes = {}

        def pack(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        one = engine(build(), loss_fn=loss_fn, **options)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss_fn(one.model, batch_of(torch.Generator().manual_seed(1)))
        return sum(sizes.values()), list(one.model.state_dict())

    (all_of_it, names), (inputs, same) = kept(), kept(activation_checkpointing=True)
    assert inputs < 0.7 * all_of_it and same == names


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gpt", ("compile",)),
        ("gpt", ("compile", "activation_checkpointing")),
        ("denoiser", ("compile",)),
    ],
)
def test_compiled_blocks_take_the_steps_of_plain_torch(name, options):
    torch._dynamo.reset()  # what an earlier case compiled would not be compiled again
    counters.clear()
    assert_steps_of_plain_torch((name, "torch", 0, 2, 0.5), networks.steps(name, "torch", 0, 2, 0.5, *options))
    assert counters["frames"]["ok"] > 0 and not counters["graph_break"] and not counters["unimplemented"]


def test_what_deepspeed_cannot_do_is_refused_before_it_is_asked():
    def build(net, stage):
        settings = EngineConfig(backend="deepspeed", zero_stage=stage)
        return ZeroEngine(net, tiny.loss_fn, settings, OptimConfig(), torch.device("cpu"))

    net = tiny.Net()
    net.gain = nn.Parameter(torch.ones(()))
    with pytest.raises(ValueError, match=r"parameter gain has no dimensions.*backend torch"):
        build(net, 1)
    net = tiny.Net()
    net.unused.requires_grad_(False)
    with pytest.raises(ValueError, match="frozen parameters cannot train under --train.engine.zero-stage 3"):
        build(net, 3)


def test_user_errors_name_the_value():
    with pytest.raises(ValueError, match="float16.*bf16"):
        engine(tiny.Net().half())
    with pytest.raises(ValueError, match="grad_clip is -1"):
        EngineConfig(grad_clip=-1)
    with pytest.raises(ValueError, match="cpu_offload needs"):
        EngineConfig(backend="torch", cpu_offload=True)
    with pytest.raises(ValueError, match="compile does not go with zero_stage 3"):
        EngineConfig(compile=True, zero_stage=3)
    with pytest.raises(ValueError, match="Net names no blocks"):
        engine(activation_checkpointing=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0),
        ("lr", math.nan),
        ("eps", 0),
        ("eps", math.nan),
        ("weight_decay", -1),
        ("weight_decay", math.nan),
        ("betas", (0.9, 1)),
        ("betas", (math.nan, 0.9)),
    ],
)
def test_settings_of_the_optimizer_are_in_their_ranges(name, value):
    with pytest.raises(ValueError, match=rf"^{name} is {re.escape(str(value))}; use "):
        OptimConfig(**{name: value})
