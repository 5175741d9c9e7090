"""What a training run will need, before anything is started: parameters, memory of each rank, checkpoints, time.

Exact: parameters, the optimizer's share of each rank, the bytes of a checkpoint without its headers. Estimated: the
activations, by running one micro-batch of the real model and loss on tensors that have shapes and no memory and
counting what is alive at the worst moment; DeepSpeed's buffers, by the sizes that the engine asks for. Not counted:
what the allocator wastes, CUDA's and the interpreter's own memory. Costs seconds and no accelerator. Sizes are bytes.
`measure` takes real steps instead, and the memory that they need.
"""

import dataclasses
import math
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipeline.models.diffusion import alpha_bar
from pipeline.models.networks import NETWORKS, LossFn, flops
from pipeline.storage import Store
from pipeline.train import blocks, metrics
from pipeline.train import engine as engines
from pipeline.train.config import EngineConfig, TrainConfig
from pipeline.train.data.batches import check_split, num_micro
from pipeline.train.saved import committed, open_saved

_FLOAT = 4
_BUCKET = 50_000_000  # elements, as in `engine.ZeroEngine`
_PROCESS = 650_000_000  # bytes of an interpreter with torch, Ray and DeepSpeed imported, as measured on Linux
_LIVE = 1_000_000_000  # gathered parameters that DeepSpeed keeps at stage 3


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A network and its data, as far as their shapes go."""

    build: Callable[[], nn.Module]
    loss_fn: LossFn
    row: Mapping[str, Tensor]
    """One sample, each tensor (1, ...); its values matter to `measure` alone."""

    @classmethod
    def of(cls, name: str, config: object, row: Mapping[str, Tensor]) -> "Workload":
        """That of one of NETWORKS with this config."""
        network = NETWORKS[name]
        return cls(build=lambda: network.build(config), loss_fn=network.loss, row=row)

    def batch(self, rows: int) -> dict[str, Tensor]:
        """A micro-batch of so many."""
        return {name: tensor.repeat_interleave(rows, dim=0) for name, tensor in self.row.items()}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The prediction; memory is the part of each rank, the largest where they differ."""

    parameters: int
    memory: Mapping[str, int]
    """Bytes on the device that computes, by what they are for."""
    checkpoint_bytes: int
    flops_per_step: float
    """Of the whole global batch."""
    sent_bytes_per_step: float
    """By each rank, to the others."""

    @property
    def total(self) -> int:
        """Bytes of memory."""
        return sum(self.memory.values())

    def step_s(self, flops_per_s: float, world: int, network_bytes_per_s: float = math.inf) -> float:
        """Seconds of a step on `world` devices that each reach these speeds; ranks compute first, and then send."""
        return self.flops_per_step / (flops_per_s * world) + self.sent_bytes_per_step / network_bytes_per_s


def predict(load: Workload, config: TrainConfig, world: int, *, on_cpu: bool = False) -> Plan:
    """Predict a run on `world` ranks; ValueError if the global batch cannot be shared out among them.

    On a CPU the memory is that of the whole process, and a checkpoint is copied in it.
    """
    check_split(config.global_batch, config.micro_batch, world=world)
    alpha_bar()  # cached by whoever calls it first: not by a tensor without memory
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = load.build()
        shapes = [tuple(p.shape) for p in model.parameters()]
        statics_bytes = sum(t.nbytes for t in _statics(model))
        activations = _activations(model, load, config.engine, _rows(config, world))
        work = flops(model, load.batch(1)) or 0.0
    elements = sum(map(math.prod, shapes))
    copies = 3 + (config.ema_decay > 0)  # the master, both moments, perhaps the average
    memory = state_bytes(shapes, config.engine, world) | {"activations": activations}
    if config.ema_decay:
        memory["average"] = _FLOAT * math.ceil(elements / world)
    if on_cpu:
        memory["checkpoint"] = copies * _FLOAT * elements // world
        memory["process"] = _PROCESS
    micros = num_micro(config.global_batch, config.micro_batch, world)
    return Plan(
        parameters=elements,
        memory=memory,
        checkpoint_bytes=copies * _FLOAT * elements + statics_bytes,
        flops_per_step=work * config.global_batch,
        sent_bytes_per_step=sent_bytes(elements, config.engine, world, micros),
    )


def _statics(model: nn.Module) -> list[Tensor]:
    """What a checkpoint holds besides parameters."""
    return [t for t in model.state_dict(keep_vars=True).values() if not isinstance(t, nn.Parameter)]


def measure(load: Workload, config: TrainConfig, world: int, device: torch.device, steps: int = 3) -> float:
    """Seconds of a step of one of `world` ranks on this device, the median of `steps`, after one that does not count.

    It is the engine's own step, in plain torch, on copies of one sample; what ranks tell each other is left out.
    """
    torch.manual_seed(0)
    micros = num_micro(config.global_batch, config.micro_batch, world)
    settings = dataclasses.replace(config.engine, backend="torch", cpu_offload=False)
    engine = engines.build(load.build(), load.loss_fn, settings, config.optim, device, micros)
    batch = {name: tensor.to(device) for name, tensor in load.batch(_rows(config, world)).items()}
    times = []
    for _ in range(1 + steps):
        start = time.perf_counter()
        for i in range(micros):
            sums = engine.backward(batch, last=i == micros - 1)
        engine.step(config.optim.lr, sums.weight)  # the norm that it returns was waited for
        engine.forward_time.read()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return median(times[1:])


def _rows(config: TrainConfig, world: int) -> int:
    """Samples in the largest micro-batch of a rank."""
    largest = math.ceil(config.global_batch / world)
    return math.ceil(largest / num_micro(config.global_batch, config.micro_batch, world))


def optimizer_elements(shapes: list[tuple[int, ...]], engine: EngineConfig, world: int) -> int:
    """Elements of which rank 0, whose share is the largest, holds the master or parameter and both moments."""
    sizes = list(map(math.prod, shapes))
    if engine.backend == "torch" or engine.zero_stage == 0:
        return sum(sizes)
    if engine.zero_stage == 3:  # each parameter is cut by itself
        return sum(-(-size // world) for size in sizes)
    # Each group, of decayed parameters and of the others, is cut as a whole, at even places.
    groups = [sum(math.prod(s) for s in shapes if (len(s) >= 2) == decayed) for decayed in (True, False)]
    return sum(min(group, 2 * -(-group // (2 * world))) for group in groups)


def state_bytes(shapes: list[tuple[int, ...]], engine: EngineConfig, world: int) -> dict[str, int]:
    """Bytes on a rank's device of parameters, gradients, optimizer state and buffers."""
    whole = sum(map(math.prod, shapes))
    share = optimizer_elements(shapes, engine, world)
    stage = engine.zero_stage if engine.backend == "deepspeed" else 0
    bucket = min(_BUCKET, whole) if engine.backend == "deepspeed" else whole * (world > 1)
    moments = 0 if engine.cpu_offload else 2 * share
    masters = share if stage and not engine.cpu_offload else 0  # else the parameters are their own masters
    gradients = {0: whole, 1: whole + share, 2: share, 3: share}[stage]
    gathered = min(whole, _LIVE) if stage == 3 else 0
    elements = {
        "parameters": share + gathered if stage == 3 else whole,
        "gradients": gradients,
        "optimizer": masters + moments,
        "buffers": bucket,
    }
    return {name: _FLOAT * number for name, number in elements.items()}


def sent_bytes(parameters: int, engine: EngineConfig, world: int, micros: int) -> float:
    """Bytes that each rank sends in a step: an all-gather in a ring sends all but one rank's share, an all-reduce that
    twice.

    DeepSpeed reduces the gradients so even where a rank keeps a part of them, after each micro-batch from stage 2 on,
    and gathers the parameters after the step (1, 2), or before each forward and backward pass (3, where it scatters
    gradients).
    """
    stage = engine.zero_stage if engine.backend == "deepspeed" else 0
    times = {0: 2, 1: 3, 2: 2 * micros + 1, 3: 3 * micros}[stage]
    return times * _FLOAT * parameters * (world - 1) / world


@dataclass(frozen=True)
class _Change:
    """One option that makes a run smaller."""

    option: str
    value: str
    """As it is written after the option; empty for a switch."""
    config: TrainConfig
    """With it, and all before it."""


def mends(config: TrainConfig, world: int) -> Iterator[tuple[str, TrainConfig]]:
    """What makes a run smaller, from the cheapest to the dearest, each on top of those before it: (flags, config)."""
    flags: dict[str, str] = {}
    for change in _changes(config, world):
        flags.pop(change.option, None)  # a later value takes the place of an earlier one
        flags[change.option] = change.value
        yield " ".join(f"{option} {value}".rstrip() for option, value in flags.items()), change.config


def _changes(config: TrainConfig, world: int) -> Iterator[_Change]:
    """From the cheapest to the dearest."""
    engine = config.engine
    is_sharded = engine.backend == "deepspeed" and world > 1
    if is_sharded and engine.zero_stage < 1:  # free: the optimizer's state is shared out, and little more is sent
        engine = dataclasses.replace(engine, zero_stage=1)
        config = dataclasses.replace(config, engine=engine)
        yield _Change("--train.engine.zero-stage", "1", config)
    if not engine.activation_checkpointing:  # a third more computation: the forward pass once more
        engine = dataclasses.replace(engine, activation_checkpointing=True)
        config = dataclasses.replace(config, engine=engine)
        yield _Change("--train.engine.activation-checkpointing", "", config)
    for rows in _smaller_micro_batches(config, world):
        config = dataclasses.replace(config, micro_batch=rows)
        yield _Change("--train.micro-batch", str(rows), config)
    stages: tuple[Literal[2, 3], ...] = (2, 3)
    for stage in stages:  # they send more (see `sent_bytes`), and cannot be compiled
        if is_sharded and not engine.compile and stage > engine.zero_stage:
            engine = dataclasses.replace(engine, zero_stage=stage)
            config = dataclasses.replace(config, engine=engine)
            yield _Change("--train.engine.zero-stage", str(stage), config)
    # Last, for every step then waits for the CPU's.
    if engine.backend == "deepspeed" and engine.zero_stage and not engine.cpu_offload:
        config = dataclasses.replace(config, engine=dataclasses.replace(engine, cpu_offload=True))
        yield _Change("--train.engine.cpu-offload", "", config)


def _smaller_micro_batches(config: TrainConfig, world: int) -> list[int]:
    """Sizes below that of now, the largest first, of those that make another number of micro-batches."""
    share = config.global_batch // world  # the smallest of a rank, of which each micro-batch needs a sample
    sizes = {math.ceil(share / number) for number in range(1, share + 1)}
    return [
        size
        for size in sorted(sizes, reverse=True)
        if size < _rows(config, world) and num_micro(config.global_batch, size, world) <= share
    ]


def check_fits(load: Workload, config: TrainConfig, world: int, memory_bytes: float, *, on_cpu: bool = False) -> Plan:
    """The plan of a run that fits `memory_bytes` on each rank; ValueError names the flags that make another one fit."""
    plan = predict(load, config, world, on_cpu=on_cpu)
    if plan.total <= memory_bytes:
        return plan
    has = f"each rank needs {plan.total / 1e9:.4g} GB and has {memory_bytes / 1e9:.4g} GB"
    for flags, smaller in mends(config, world):
        needs = predict(load, smaller, world, on_cpu=on_cpu).total
        if needs <= memory_bytes:
            raise ValueError(f"{has}; add {flags} (then {needs / 1e9:.4g} GB)")
    raise ValueError(f"{has}, and no option is enough; raise --cluster.num-workers, or choose a smaller model")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a run noted."""

    memory_gb: float
    """The most that rank 0 had."""
    step_s: float
    """Median of its steps."""
    checkpoint_mb: float
    """Its newest checkpoint."""


def measured(url: str) -> Measured:
    """What a run noted; ValueError if it has no metrics or no checkpoint."""
    store = Store(url)
    lines = [line for line in metrics.read(store) if "step_s" in line]
    names = committed(store.sub("checkpoints"))
    if not lines or not names:
        raise ValueError(
            f"{url} has no metrics.jsonl or no checkpoint; name the folder of a training run with --compare"
        )
    return Measured(
        memory_gb=max(line["peak_memory_gb"] for line in lines),
        step_s=median(line["step_s"] for line in lines),
        checkpoint_mb=open_saved(store.sub("checkpoints"), names[0]).manifest.size_bytes / 1e6,
    )


class _Alive(TorchDispatchMode):
    """Bytes of all storages that came into being under it and are still held, and the most there ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.most = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        before = {id(leaf.untyped_storage()) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if id(storage) not in before and storage not in self._known:  # else it was there before
                    self._known.add(storage)
                    self.now += storage.nbytes()
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self._gone, storage.nbytes())
        return result

    def _gone(self, size: int) -> None:
        self.now -= size


def _activations(model: nn.Module, load: Workload, config: EngineConfig, rows: int) -> int:
    """The most bytes, besides parameters and their gradients, while a micro-batch goes forward and back."""
    blocks.prepare(model, compiled=False, recomputed=config.activation_checkpointing)
    module = engines.WithLoss(model, load.loss_fn, config.precision)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    alive = _Alive()
    with alive:
        module(load.batch(rows))[0].backward()
    return alive.most
