"""What a run needs to go on where it was: weights, moments, average, buffers, data order, and how far it came.

Guarantees: restoring touches nothing until every rank has read and verified its share; if any rank meets a bad file all
ranks pass on to the checkpoint before. A checkpoint of another model, or of another stream of samples, is refused. A
rank reads what it will hold; where every rank holds everything (plain torch, ZeRO stage 0), its share of it, and the
ranks exchange the shares.
"""

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from pipeline import config
from pipeline.exported import NetworkSpec
from pipeline.log import logger
from pipeline.storage import CorruptFileError
from pipeline.train import export, ranks
from pipeline.train.checkpoint import Checkpoints
from pipeline.train.data.order import Chain, Stream
from pipeline.train.divergence import Health
from pipeline.train.ema import Ema
from pipeline.train.engine import Engine
from pipeline.train.manifest import Contents, Kind
from pipeline.train.saved import Saved, Want, warn_damaged
from pipeline.train.slices import Slice

_HELD: tuple[Kind, ...] = ("master", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a run begins, or goes on."""

    chain: Chain
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What the checkpoint was worth when it was saved."""
    health: Health = Health()
    read_bytes: int = 0
    """What this rank read of the checkpoint's `total_bytes`."""
    total_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class _Share:
    """What this rank read of a checkpoint, all verified; nothing of the run was touched yet."""

    saved: Saved
    slices: list[Slice]
    """Of what it owns, in the order of `engine.owned()`."""
    average: list[torch.Tensor]
    statics: dict[str, torch.Tensor]


def save(
    checkpoints: Checkpoints,
    engine: Engine,
    ema: Ema | None,
    chain: Chain,
    network: NetworkSpec,
    metrics: Mapping[str, float] | None = None,
    health: Health | None = None,
    before: Callable[[], None] | None = None,
) -> None:
    """Begin to save the state after `chain.step` steps; a collective. `before` is called beside the training, on rank
    0, before the commit."""
    contents = Contents(
        updates=engine.updates,
        chain=chain,
        network=network,
        digest=_digest(engine),
        averaged=ema is not None,
        engine="torch" if engine.config.backend == "torch" else f"ZeRO {engine.config.zero_stage}",
        shapes=engine.shapes,
        aliases=export.aliases(engine.model),
        metrics=metrics or {},
        health=health or Health(),
    )
    checkpoints.save(chain.step, engine.owned(), ema.values if ema else None, engine.statics(), contents, before)


def restore(
    checkpoints: Checkpoints, engine: Engine, ema: Ema | None, order: Stream, global_batch: int, network: NetworkSpec
) -> Start:
    """Load the newest checkpoint that is whole, if there is one; ValueError if it is of another model, stream, or
    `network`."""
    names = checkpoints.names()
    for name in names:
        share, error = None, None
        try:
            saved = checkpoints.open(name)
            _check_model(saved, engine, network)
            saved.manifest.contents.chain.check(order, global_batch)
            share = _read(saved, engine, ema)
        except CorruptFileError as damage:
            error = damage
        # One rank's damage is everyone's: all go on from the same step, or none does.
        if ranks.all_true(share is not None, engine.device) and share is not None:
            _apply(share, engine, ema)
            return _start(share.saved)
        checkpoints.pass_over(name)
        if error is not None:
            warn_damaged(error)
    if names and ranks.rank() == 0:
        logger.warning(
            "warning: none of the %d checkpoints there is whole; training starts from its first step", len(names)
        )
    return Start(chain=Chain.start(order))


def _start(saved: Saved) -> Start:
    contents = saved.manifest.contents
    return Start(
        chain=contents.chain,
        metrics=contents.metrics,
        health=contents.health,
        read_bytes=saved.bytes_read,
        total_bytes=saved.manifest.size_bytes,
    )


def _digest(engine: Engine) -> str:
    """Of what the model is made of: names and shapes of parameters and buffers."""
    shapes = {name: list(shape) for name, shape in engine.shapes.items()}
    return config.digest(shapes | {name: list(t.shape) for name, t in engine.statics().items()})


def _check_model(saved: Saved, engine: Engine, network: NetworkSpec) -> None:
    contents = saved.manifest.contents
    differences = config.difference(config.to_json(contents.network), config.to_json(network))
    strangers = sorted(saved.manifest.pieces["master"].keys() ^ engine.shapes.keys())
    if differences:
        what = textwrap.shorten(differences[0], 160)  # the tokenizer, say: equal shapes, and another meaning
    elif strangers:
        what = f"one of them has no parameter {strangers[0]}"
    elif contents.digest != _digest(engine):
        what = "their shapes differ"
    else:
        return
    raise ValueError(
        f"{saved.store.url} is a checkpoint of another model ({what}); "
        "restore the config and the inputs that it was trained with, or choose a new run_dir"
    )


def _read(saved: Saved, engine: Engine, ema: Ema | None) -> _Share:
    """This rank's share of what it will hold, its share of the average, and the statics, all read and verified."""

    def empty(like: torch.Tensor) -> torch.Tensor:
        return torch.empty(like.numel(), dtype=torch.float32)

    owned = engine.owned()
    # Fresh tensors, not those of the engine: what turns out to be damaged must have changed nothing.
    slices = [
        Slice(name=s.name, start=s.start, master=empty(s.master), exp_avg=empty(s.master), exp_avg_sq=empty(s.master))
        for s in owned
    ]
    wants = [Want(kind=kind, name=s.name, start=s.start, into=s.values(kind)) for s in slices for kind in _HELD]
    average = [empty(s.master) for s in owned] if ema else []
    averaged = saved.manifest.contents.averaged
    if ema and not averaged:
        logger.warning("warning: %s has no averaged weights; the average starts from its weights", saved.store.url)
    for s, values in zip(owned if ema else [], average, strict=True):
        wants.append(Want(kind="ema" if averaged else "master", name=s.name, start=s.start, into=values))
    saved.read(wants)
    statics = saved.statics()
    for name, tensor in engine.statics().items():
        if name not in statics or statics[name].shape != tensor.shape:
            raise CorruptFileError(f"{saved.store.url}/{saved.manifest.files[0].path} has no {name} of its shape")
    return _Share(saved=saved, slices=slices, average=average, statics=statics)


@torch.no_grad()
def _apply(share: _Share, engine: Engine, ema: Ema | None) -> None:
    # Where every rank holds all, each has read a part of it, so that W ranks do not read the checkpoint W times.
    whole = engine.config.backend == "torch" or engine.config.zero_stage == 0
    for kind in _HELD:
        values = [s.values(kind) for s in share.slices]
        if whole:
            values = _exchanged(engine, share.slices, kind)
        for held, loaded in zip(engine.held(), values, strict=True):
            held.values(kind).copy_(loaded)
    for name, tensor in engine.statics().items():
        tensor.data.copy_(share.statics[name])
    engine.restored(share.saved.manifest.contents.updates)
    for average, loaded in zip(ema.values if ema else [], share.average, strict=True):
        average.copy_(loaded)


def _exchanged(engine: Engine, slices: list[Slice], kind: Kind) -> list[torch.Tensor]:
    """The whole of each parameter, flat, in the order of `engine.held()`, from what all ranks have of it."""
    sizes = {s.name: s.master.numel() for s in engine.held()}
    whole = torch.zeros(sum(sizes.values()), device=engine.device)  # (all elements of all parameters,)
    parameters = dict(zip(sizes, whole.split(list(sizes.values())), strict=True))
    for s in slices:
        parameters[s.name][s.start : s.stop] = s.values(kind).to(engine.device)
    ranks.total(whole.view(torch.int32))  # as integers, because a float -0.0 + 0.0 is another number
    return list(parameters.values())
