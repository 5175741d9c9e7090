"""One optimizer step over the whole global batch, in plain torch or under DeepSpeed ZeRO; only this file imports it.

Guarantees: with S the sum of `loss_sum` and W the sum of `weight` over all ranks and micro-batches, the gradient that
is applied is that of S / W, clipped by its global norm, whatever the number of ranks and micro-batches and the ZeRO
stage. Parameters, moments, gradients and their reduction are fp32; `bf16` is torch.autocast around the loss. A step
whose loss or gradient is not finite changes nothing. All ranks start from rank 0's parameters and buffers.
"""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import nn

from cluster import env
from cluster.env import Scope
from pipeline.models.networks import LossFn, Tensors
from pipeline.train import blocks, ranks
from pipeline.train.clock import Stopwatch
from pipeline.train.config import EngineConfig, OptimConfig
from pipeline.train.loss import Sums, WithLoss
from pipeline.train.slices import Fragments, Slice


class Engine:
    """Plain torch, on one rank or several: every rank holds everything, gradients are summed over ranks."""

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFn,
        config: EngineConfig,
        optim: OptimConfig,
        device: torch.device,
        num_micro: int = 1,
    ) -> None:
        self.model = model.to(device)
        blocks.prepare(model, compiled=config.compile, recomputed=config.activation_checkpointing)
        self.config = config
        self.device = device
        self.updates = 0
        self.forward_time = Stopwatch(device)
        self._loss = WithLoss(model, loss_fn, config.precision)
        self._num_micro = num_micro
        self._named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.shapes = {name: tuple(p.shape) for name, p in self._named.items()}
        for name, p in self._named.items():
            if p.dtype != torch.float32:
                raise ValueError(
                    f"parameter {name} is {p.dtype}; models train in float32 "
                    "(--train.engine.precision bf16 casts by itself)"
                )
        if ranks.world_size() > 1:  # ranks may have begun with other random numbers
            for tensor in (*model.parameters(), *model.buffers()):
                torch.distributed.broadcast(tensor.data, 0)
        self._adamw = _adamw(list(self._named.values()), optim)
        self._setup()

    def _setup(self) -> None:
        self._slices = [self._slice(name, p, self._state(p), 0, p.numel()) for name, p in self._named.items()]

    def _state(self, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
        """The AdamW state of a tensor that it optimizes; what the first step would create, created now, so that a
        checkpoint can be loaded into it, or saved, before any step."""
        state = self._adamw.state[tensor]
        if "exp_avg" not in state:
            state["step"] = torch.zeros((), device=tensor.device)
            state["exp_avg"] = torch.zeros_like(tensor.data)
            state["exp_avg_sq"] = torch.zeros_like(tensor.data)
        return state

    @staticmethod
    def _slice(
        name: str, flat: torch.Tensor, state: dict[str, torch.Tensor], start: int, numel: int, offset: int = 0
    ) -> Slice:
        def cut(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.data.view(-1).narrow(0, offset, numel)

        return Slice(
            name=name, start=start, master=cut(flat), exp_avg=cut(state["exp_avg"]), exp_avg_sq=cut(state["exp_avg_sq"])
        )

    def backward(self, batch: Tensors, last: bool) -> Sums:
        """Add the gradient of a micro-batch; its sums. `last` marks the step's last one."""
        with self.forward_time:
            loss_sum, values = self._loss(batch)
        loss_sum.backward()
        return Sums(self._loss.names, values)

    def step(self, lr: float, weight: float) -> float:
        """Update by the gradients gathered, divided by the weight of the whole global batch; the gradient norm.

        A norm that is not finite means that nothing was changed.
        """
        # A parameter that the loss did not use counts 0: all ranks must send equally many numbers.
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._named.values()]
        if ranks.world_size() > 1:
            # One message for all, as each costs a round trip; it takes the memory of the gradients once more.
            flat = ranks.total(torch.cat([grad.view(-1) for grad in grads]))
            for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
                grad.copy_(part.view_as(grad))
        for p, grad in zip(self._named.values(), grads, strict=True):
            p.grad = grad
        norm = self._scale_and_clip(grads, weight)
        self._set_lr(lr)
        if math.isfinite(norm):
            self._adamw.step()
            self.updates += 1
        self._adamw.zero_grad(set_to_none=True)
        return norm

    def _scale_and_clip(self, grads: list[torch.Tensor], weight: float) -> float:
        torch._foreach_mul_(grads, 1 / weight)
        norm = torch.nn.utils.get_total_norm(grads)
        if self.config.grad_clip:
            # 1e-6 as in torch.nn.utils.clip_grad_norm_. A norm that is not finite spoils the gradients; `step` looks.
            torch._foreach_mul_(grads, (self.config.grad_clip / (norm + 1e-6)).clamp(max=1.0))
        return norm.item()

    def _set_lr(self, lr: float) -> None:
        for group in self._adamw.param_groups:
            group["lr"] = lr

    def owned(self) -> list[Slice]:
        """This rank's share of the state: over all ranks, each element of each trainable parameter exactly once."""
        world, rank = ranks.world_size(), ranks.rank()
        cuts = [(s, rank * s.stop // world, (rank + 1) * s.stop // world) for s in self._slices]
        return [s.part(start, stop) for s, start, stop in cuts if start < stop]

    def held(self) -> list[Slice]:
        """All that this rank must hold to go on: what a checkpoint restores."""
        return self._slices

    def restored(self, updates: int) -> None:
        """Say that all of `held` was overwritten by the state after `updates` updates; a collective."""
        self.updates = updates
        for state in self._adamw.state.values():
            state["step"].fill_(updates)

    def statics(self) -> dict[str, torch.Tensor]:
        """What is saved besides the trainable parameters: persistent buffers and frozen parameters, by name."""
        return {
            name: t
            for name, t in self.model.state_dict(keep_vars=True).items()
            if not (isinstance(t, nn.Parameter) and t.requires_grad)
        }

    def assembled(self, pieces: Fragments) -> Iterator[tuple[str, torch.Tensor]]:
        """Each trainable parameter, whole, from the (start, values) that each rank owns of it; a collective."""
        for name, shape in self.shapes.items():
            full = torch.zeros(math.prod(shape), device=self.device)
            for start, values in pieces.get(name, []):
                full[start : start + values.numel()] = values.to(self.device)
            yield name, ranks.total(full).view(shape)

    @contextmanager
    def swapped(self, pieces: Fragments | None) -> Iterator[nn.Module]:
        """The model in evaluation mode and, if given, with these parameters (see `assembled`) in place of its own."""
        assert self.swappable or pieces is None
        kept = {}
        for name, full in self.assembled(pieces) if pieces is not None else ():
            kept[name] = self._named[name].data.clone()
            self._named[name].data.copy_(full)
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                yield self.model
        finally:
            self.model.train(training)
            for name, values in kept.items():
                self._named[name].data.copy_(values)

    @property
    def swappable(self) -> bool:
        """Whether a rank holds whole parameters, so that `swapped` can put others in."""
        return True


class ZeroEngine(Engine):
    """DeepSpeed: stage 0 reduces gradients, 1 shards the optimizer state, 2 gradients too, 3 parameters too."""

    def _setup(self) -> None:
        if scalars := [name for name, shape in self.shapes.items() if shape == ()]:
            raise ValueError(
                f"parameter {scalars[0]} has no dimensions, which DeepSpeed does not support; "
                "give it the shape (1,), or use --train.engine.backend torch"
            )
        if self.config.zero_stage == 3 and len(self.shapes) < sum(1 for _ in self.model.parameters()):
            raise ValueError("frozen parameters cannot train under --train.engine.zero-stage 3; use stage 0, 1 or 2")
        deepspeed = _import_deepspeed(self.device)
        self._engine = deepspeed.initialize(
            model=self._loss, optimizer=self._adamw, config=self._deepspeed_config(), dist_init_required=False
        )[0]
        # Internals of DeepSpeed, which has no types; None at stage 0, where its optimizer is ours.
        self._zero: Any = self._engine.optimizer if self.config.zero_stage else None
        if self.config.zero_stage == 0:
            super()._setup()
        elif self.config.zero_stage == 3:
            self._slices = list(self._slices_stage_3())
        else:
            self._slices = list(self._slices_stage_1_2())

    def _deepspeed_config(self) -> dict[str, object]:
        size = sum(math.prod(shape) for shape in self.shapes.values())
        bucket = max(2, min(50_000_000, size + size % 2))  # a bucket is allocated whole, however small the model
        # Said in full: what the defaults are has changed between versions.
        zero: dict[str, object] = {
            "stage": self.config.zero_stage,
            "overlap_comm": False,
            "contiguous_gradients": True,
            "reduce_scatter": True,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            "round_robin_gradients": False,
            "stage3_param_persistence_threshold": min(100_000, size // 100),  # smaller ones stay whole on each rank
        }
        if self.config.cpu_offload:
            zero["offload_optimizer"] = {"device": "cpu", "pin_memory": self.device.type == "cuda"}
        return {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": self._num_micro,
            "gradient_clipping": self.config.grad_clip if self.config.zero_stage else 0.0,
            "prescale_gradients": False,
            "gradient_predivide_factor": 1.0,
            "communication_data_type": "fp32",
            "data_types": {"grad_accum_dtype": "fp32"},
            "bf16": {"enabled": False},
            "fp16": {"enabled": False},
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": 1 << 60,
            "wall_clock_breakdown": False,
            "zero_optimization": zero,
        }

    def _slices_stage_1_2(self) -> Iterator[Slice]:
        """Groups of parameters, flattened end to end, are cut into equal parts: a parameter may lie across ranks."""
        parameters: Mapping[str, Any] = self._named
        for name, p in parameters.items():
            mapping = p._hp_mapping  # None where this rank owns nothing of the parameter
            if mapping is not None:
                flat = self._zero.single_partition_of_fp32_groups[mapping.param_group_index]
                start = mapping.lp_fragment_address.start  # within the parameter
                place = mapping.hp_fragment_address  # within this rank's part of the group
                yield self._slice(name, flat, self._state(flat), start, place.numel, place.start)

    def _slices_stage_3(self) -> Iterator[Slice]:
        """Each parameter is cut into equal parts, one a rank."""
        for name, p in self._named.items():
            group, offset, numel = self._zero.grad_position[self._zero.get_param_id(p)]
            start = ranks.rank() * numel  # equal parts, the last ones padded
            numel = min(numel, math.prod(self.shapes[name]) - start)
            if numel > 0:
                flat = self._zero.fp32_partitioned_groups_flat[group]
                yield self._slice(name, flat, self._state(flat), start, numel, offset)

    def backward(self, batch: Tensors, last: bool) -> Sums:
        """See `Engine.backward`."""
        if self._zero is not None:
            self._zero.override_loss_scale(1.0)
        with self.forward_time:
            loss_sum, values = self._engine(batch)
        # Not the very tensor that `forward` returned: that one's hook would divide by the number of micro-batches.
        self._engine.backward(loss_sum * 1.0, scale_wrt_gas=False)
        if not last:
            self._engine.step()  # only counts the micro-batch
        return Sums(self._loss.names, values)

    def step(self, lr: float, weight: float) -> float:
        """See `Engine.step`."""
        self._set_lr(lr)
        mean_weight = weight / ranks.world_size()  # DeepSpeed has averaged the gradient over ranks, not summed it
        if self._zero is None:
            grads = [p.grad for p in self._named.values() if p.grad is not None]
            norm = self._scale_and_clip(grads, mean_weight)
            if not math.isfinite(norm):
                for p in self._named.values():
                    p.grad = None
            self._engine.step()
        else:
            # Its loss scale divides the gradient before the norm is taken and clipped: just what the weight must do.
            self._zero.override_loss_scale(mean_weight)
            self._engine.step()
            norm = float(self._zero._global_grad_norm)
        self.updates += math.isfinite(norm)
        return norm

    def owned(self) -> list[Slice]:
        """See `Engine.owned`; above stage 0, what DeepSpeed made this rank the owner of."""
        return self._slices if self.config.zero_stage else super().owned()

    def restored(self, updates: int) -> None:
        """See `Engine.restored`; gathers the parameters from their masters."""
        super().restored(updates)
        if self.config.zero_stage in (1, 2):
            self._zero.update_lp_params()
        elif self.config.zero_stage == 3:
            for group in range(len(self._zero.fp16_groups)):
                self._zero._reassign_or_swap_out_partitioned_parameters(group)
            if persistent := self._zero.persistent_parameters:
                persistent[0].partition(persistent)
                persistent[0].all_gather(persistent)

    @property
    def swappable(self) -> bool:
        """See `Engine.swappable`."""
        return self.config.zero_stage < 3


def _adamw(parameters: list[nn.Parameter], optim: OptimConfig) -> torch.optim.AdamW:
    """Matrices decay; biases, gains and other vectors do not: to shrink those regularizes nothing (as in GPT-2, 3)."""
    matrices = [p for p in parameters if p.dim() >= 2]
    vectors = [p for p in parameters if p.dim() < 2]
    groups = [(matrices, optim.weight_decay), (vectors, 0.0)]
    return torch.optim.AdamW(
        [{"params": group, "weight_decay": decay} for group, decay in groups if group],
        lr=optim.lr,
        betas=optim.betas,
        eps=optim.eps,
        fused=True,
    )


def build(
    model: nn.Module,
    loss_fn: LossFn,
    config: EngineConfig,
    optim: OptimConfig,
    device: torch.device,
    num_micro: int = 1,
) -> Engine:
    """The engine that a config asks for; a collective."""
    kind = Engine if config.backend == "torch" else ZeroEngine
    return kind(model, loss_fn, config, optim, device, num_micro)


def _import_deepspeed(device: torch.device) -> ModuleType:
    """DeepSpeed, told where to compute. It reads its environment at import, so this is the only place to import it."""
    scopes: tuple[Scope, ...] = ("worker", "cpu_worker") if device.type == "cpu" else ("worker",)
    env.apply(*scopes, LOCAL_SIZE=str(ranks.world_size()))
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")  # its calls, not ours
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    # On CPUs it would compile a shared-memory all-reduce that only inference uses: 10 s, a compiler needed, and a race
    # between the workers of a machine.
    __compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
