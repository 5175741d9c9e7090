"""What a run needs to go on where it was: weights, moments, average, buffers, data order, and how far it came.

Guarantees: restoring touches nothing until every rank has read and verified its share; if any rank meets a bad file all
ranks pass on to the checkpoint before. A checkpoint of another model, or of another stream of samples, is refused.
"""
from dataclasses import asdict
from typing import Any

import torch

from pipeline import config
from pipeline.log import logger
from pipeline.storage import CorruptFileError
from pipeline.train import export, ranks
from pipeline.train.checkpoint import Checkpoints, Saved, Want, bad
from pipeline.train.ema import Ema
from pipeline.train.engine import Engine, Slice
from pipeline.train.order import Chain, Order


def save(checkpoints: Checkpoints, engine: Engine, ema: Ema | None, chain: Chain, about: dict[str, Any]) -> None:
    """Begin to save the state after `chain.step` steps; a collective. `about` is the `config.json` of an export."""
    shapes = {name: list(shape) for name, shape in engine.shapes.items()}
    checkpoints.save(
        chain.step, engine.owned(), ema.values if ema else None, engine.statics(), updates=engine.updates,
        chain=asdict(chain), model=_model(engine), averaged=ema is not None, engine=config.to_dict(engine.config),
        shapes=shapes, aliases=export.aliases(engine.model), about=about)


def restore(checkpoints: Checkpoints, engine: Engine, ema: Ema | None, order: Order, global_batch: int) -> Chain:
    """Load the newest checkpoint that is whole, if there is one; the chain of ids up to where the run now stands."""
    for name in checkpoints.names():
        staged, error = None, None
        try:
            saved = checkpoints.open(name)
            chain = Chain(**saved.facts["chain"])
            _check_model(saved, engine)
            chain.check(order, global_batch)
            staged = _stage(saved, engine, ema)
        except CorruptFileError as found:
            error = found
        if ranks.all_true(error is None, engine.device):
            _apply(engine, ema, saved, *staged)
            return chain
        if error is not None:
            bad(error)
    return Chain.start(order)


def _model(engine: Engine) -> str:
    """Digest of what the model is made of: names and shapes of parameters and buffers."""
    shapes = {name: list(shape) for name, shape in engine.shapes.items()}
    return config.digest(shapes | {name: list(t.shape) for name, t in engine.statics().items()})


def _check_model(saved: Saved, engine: Engine) -> None:
    if saved.facts["model"] == _model(engine):
        return
    theirs, ours = set(saved.facts["pieces"]["master"]), set(engine.shapes)
    differ = sorted(theirs ^ ours)
    what = f"one of them has no parameter {differ[0]}" if differ else "their shapes differ"
    raise ValueError(f"{saved.store.url} is a checkpoint of another model ({what}); "
                     "restore the model section of the config, or choose a new run_dir")


_Staged = tuple[list[Slice], list[torch.Tensor], dict[str, torch.Tensor]]


def _stage(saved: Saved, engine: Engine, ema: Ema | None) -> _Staged:
    """What this rank will hold, its share of the average, and the statics, all read and verified."""
    def empty(like: torch.Tensor) -> torch.Tensor:
        return torch.empty(like.numel(), dtype=torch.float32)

    held = [Slice(name=s.name, start=s.start, master=empty(s.master), exp_avg=empty(s.master),
                  exp_avg_sq=empty(s.master)) for s in engine.held()]
    average = [empty(v) for v in ema.values] if ema else []
    kind = "ema" if saved.facts["averaged"] else "master"
    if ema and not saved.facts["averaged"]:
        logger.warning("warning: %s has no averaged weights; the average starts from its weights", saved.store.url)
    wants = [Want(kind=k, name=s.name, start=s.start, into=getattr(s, k))
             for s in held for k in ("master", "exp_avg", "exp_avg_sq")]
    if ema:
        wants += [Want(kind=kind, name=s.name, start=s.start, into=v)
                  for s, v in zip(engine.owned(), average, strict=True)]
    saved.read(wants)
    return held, average, saved.statics()


@torch.no_grad()
def _apply(engine: Engine, ema: Ema | None, saved: Saved, held: list[Slice], average: list[torch.Tensor],
           statics: dict[str, torch.Tensor]) -> None:
    for to, found in zip(engine.held(), held, strict=True):
        to.master.copy_(found.master)
        to.exp_avg.copy_(found.exp_avg)
        to.exp_avg_sq.copy_(found.exp_avg_sq)
    for name, to in engine.statics().items():
        to.data.copy_(statics[name])
    engine.restored(saved.facts["updates"])
    for to, found in zip(ema.values if ema else [], average, strict=True):
        to.copy_(found)


def verify(saved: Saved) -> None:
    """Read everything; CorruptFileError names the first bad file."""
    saved.statics()
    for kind, parameters in saved.facts["pieces"].items():
        for name, pieces in parameters.items():
            for _, start, stop, _ in pieces:
                saved.read([Want(kind=kind, name=name, start=start, into=torch.empty(stop - start))])


def describe(saved: Saved) -> dict[str, Any]:
    """What a person wants to know of a checkpoint."""
    facts = saved.facts
    return {
        "name": saved.name, "kind": facts["about"]["kind"], "step": facts["step"], "updates": facts["updates"],
        "world_size": facts["world_size"],
        "engine": facts["engine"], "averaged": facts["averaged"], "parameters": _count(facts["pieces"]["master"]),
        "files": len(facts["files"]), "size_bytes": sum(file.size_bytes for file in facts["files"]),
    }


def _count(pieces: dict[str, list[list[int]]]) -> int:
    return sum(stop - start for parts in pieces.values() for _, start, stop, _ in parts)
