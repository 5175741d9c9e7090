"""What a run needs to go on where it was: weights, moments, average, buffers, data order, and how far it came.

Guarantees: restoring touches nothing until every rank has read and verified its share; if any rank meets a bad file all
ranks pass on to the checkpoint before. A checkpoint of another model, or of another stream of samples, is refused. A
rank reads what it will hold; where every rank holds everything (plain torch, ZeRO stage 0), its share of it, and the
ranks exchange the shares.
"""

import textwrap
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from pipeline import config
from pipeline.log import logger
from pipeline.storage import CorruptFileError
from pipeline.train import export, ranks
from pipeline.train.checkpoint import Checkpoints, Saved, Want, bad
from pipeline.train.data.order import Chain, Stream
from pipeline.train.divergence import Health
from pipeline.train.ema import Ema
from pipeline.train.engine import Engine, Slice
from pipeline.train.manifest import NetworkSpec


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a run begins, or goes on."""

    chain: Chain
    metrics: dict[str, float] = field(default_factory=dict)
    """What the checkpoint was worth when it was saved."""
    health: Health = Health()
    """The state of its `Divergence`."""
    read_bytes: int = 0
    """What this rank read of the checkpoint's `total_bytes`."""
    total_bytes: int = 0


def save(
    checkpoints: Checkpoints,
    engine: Engine,
    ema: Ema | None,
    chain: Chain,
    network: NetworkSpec,
    metrics: dict[str, float] | None = None,
    health: Health | None = None,
    before: Callable[[], None] | None = None,
) -> None:
    """Begin to save the state after `chain.step` steps; a collective. `before` is called
    beside the training, on rank 0, before the commit."""
    shapes = {name: list(shape) for name, shape in engine.shapes.items()}
    checkpoints.save(
        chain.step,
        engine.owned(),
        ema.values if ema else None,
        engine.statics(),
        before,
        updates=engine.updates,
        chain=asdict(chain),
        model=_model(engine),
        averaged=ema is not None,
        engine=config.to_json(engine.config),
        shapes=shapes,
        aliases=export.aliases(engine.model),
        about=config.to_json(network),
        metrics=metrics or {},
        health=config.to_json(health or Health()),
    )


def restore(
    checkpoints: Checkpoints, engine: Engine, ema: Ema | None, order: Stream, global_batch: int, network: NetworkSpec
) -> Start:
    """Load the newest checkpoint that is whole, if there is one; ValueError if it is of another model, stream, or
    `network`."""
    names = checkpoints.names()
    for name in names:
        staged, error = None, None
        try:
            saved = checkpoints.open(name)
            chain = Chain(**saved.facts["chain"])
            _check_model(saved, engine, network)
            chain.check(order, global_batch)
            staged = _stage(saved, engine, ema)
        except CorruptFileError as found:
            error = found
        if ranks.all_true(error is None, engine.device):
            _apply(engine, ema, saved, *staged)
            return Start(
                chain=chain,
                metrics=saved.facts.get("metrics", {}),
                health=config.from_json(Health, saved.facts.get("health", {})),
                read_bytes=saved.bytes_read[0],
                total_bytes=sum(file.size_bytes for file in saved.facts["files"]),
            )
        checkpoints.pass_over(name)
        if error is not None:
            bad(error)
    if names and ranks.rank() == 0:
        logger.warning(
            "warning: none of the %d checkpoints there is whole; training starts from its first step", len(names)
        )
    return Start(chain=Chain.start(order))


def _model(engine: Engine) -> str:
    """Digest of what the model is made of: names and shapes of parameters and buffers."""
    shapes = {name: list(shape) for name, shape in engine.shapes.items()}
    return config.digest(shapes | {name: list(t.shape) for name, t in engine.statics().items()})


def _check_model(saved: Saved, engine: Engine, network: NetworkSpec) -> None:
    theirs, ours = set(saved.facts["pieces"]["master"]), set(engine.shapes)
    if changed := config.difference(saved.facts["about"], config.to_json(network)):
        what = textwrap.shorten(changed[0], 160)  # the tokenizer, say: equal shapes, and another meaning
    elif differ := sorted(theirs ^ ours):
        what = f"one of them has no parameter {differ[0]}"
    elif saved.facts["model"] != _model(engine):
        what = "their shapes differ"
    else:
        return
    raise ValueError(
        f"{saved.store.url} is a checkpoint of another model ({what}); "
        "restore the config and the inputs that it was trained with, or choose a new run_dir"
    )


_HELD = ("master", "exp_avg", "exp_avg_sq")
_Staged = tuple[list[Slice], list[torch.Tensor], dict[str, torch.Tensor]]


def _stage(saved: Saved, engine: Engine, ema: Ema | None) -> _Staged:
    """This rank's share of what it will hold, its share of the average, and the statics, all read and verified."""

    def empty(like: torch.Tensor) -> torch.Tensor:
        return torch.empty(like.numel(), dtype=torch.float32)

    mine = [
        Slice(name=s.name, start=s.start, master=empty(s.master), exp_avg=empty(s.master), exp_avg_sq=empty(s.master))
        for s in engine.owned()
    ]
    average = [empty(v) for v in ema.values] if ema else []
    kind = "ema" if saved.facts["averaged"] else "master"
    if ema and not saved.facts["averaged"]:
        logger.warning("warning: %s has no averaged weights; the average starts from its weights", saved.store.url)
    wants = [Want(kind=k, name=s.name, start=s.start, into=getattr(s, k)) for s in mine for k in _HELD]
    if ema:
        wants += [
            Want(kind=kind, name=s.name, start=s.start, into=v) for s, v in zip(engine.owned(), average, strict=True)
        ]
    saved.read(wants)
    return mine, average, saved.statics()


@torch.no_grad()
def _apply(
    engine: Engine,
    ema: Ema | None,
    saved: Saved,
    mine: list[Slice],
    average: list[torch.Tensor],
    statics: dict[str, torch.Tensor],
) -> None:
    for kind in _HELD:
        held = [getattr(s, kind) for s in engine.held()]
        found = [getattr(s, kind) for s in mine]
        if engine.config.backend == "torch" or engine.config.zero_stage == 0:
            found = _exchanged(engine, [(s.name, s.start, v) for s, v in zip(mine, found, strict=True)])
        for to, values in zip(held, found, strict=True):
            to.copy_(values)
    for name, to in engine.statics().items():
        to.data.copy_(statics[name])
    engine.restored(saved.facts["updates"])
    for to, found in zip(ema.values if ema else [], average, strict=True):
        to.copy_(found)


def _exchanged(engine: Engine, pieces: Iterable[tuple[str, int, torch.Tensor]]) -> Iterable[torch.Tensor]:
    """The whole of each parameter, flat, in the order of `engine.held()`, from the (name, start, values) of all
    ranks."""
    sizes = {s.name: s.master.numel() for s in engine.held()}
    whole = torch.zeros(sum(sizes.values()), device=engine.device)
    parts = dict(zip(sizes, whole.split(list(sizes.values())), strict=True))
    for name, start, values in pieces:
        parts[name][start : start + values.numel()] = values.to(engine.device)
    ranks.total(whole.view(torch.int32))  # as integers, because a float -0.0 + 0.0 is another number
    return parts.values()


def describe(saved: Saved) -> dict[str, Any]:
    """What a person wants to know of a checkpoint."""
    facts = saved.facts
    return {
        "name": saved.name,
        "kind": facts["about"]["kind"],
        "step": facts["step"],
        "updates": facts["updates"],
        "world_size": facts["world_size"],
        "engine": facts["engine"],
        "averaged": facts["averaged"],
        "metrics": facts.get("metrics", {}),
        "parameters": _count(facts["pieces"]["master"]),
        "files": len(facts["files"]),
        "size_bytes": sum(file.size_bytes for file in facts["files"]),
    }


def _count(pieces: dict[str, list[list[int]]]) -> int:
    return sum(stop - start for parts in pieces.values() for _, start, stop, _ in parts)
