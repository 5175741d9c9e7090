"""The weights that leave training: one safetensors file and its config, readable with neither Ray nor DeepSpeed.

The file of weights holds the module's `state_dict`: EMA weights where there are any.
"""

import json
from collections.abc import Mapping

import torch
from safetensors.torch import save
from torch import nn

from pipeline import foreign
from pipeline.config import to_json
from pipeline.exported import CONFIG, FILES, MANIFEST, WEIGHTS, Exported, NetworkSpec
from pipeline.manifest import commit
from pipeline.storage import Store
from pipeline.train import ranks
from pipeline.train.engine import Engine
from pipeline.train.manifest import Kind, check_weights
from pipeline.train.saved import Saved, Want


def export(
    engine: Engine,
    pieces: Mapping[str, list[tuple[int, torch.Tensor]]],
    store: Store,
    *,
    step: int,
    network: NetworkSpec,
) -> None:
    """Write the whole weights, given each rank's pieces of them; a collective, rank 0 writes."""
    kept = {}
    for name, full in engine.assembled(pieces):
        if ranks.rank() == 0:
            kept[name] = full.cpu()
    if ranks.rank() == 0:
        _write(store, kept | engine.statics(), aliases(engine.model), step, network)
    ranks.barrier(engine.device)


def from_checkpoint(saved: Saved, store: Store, *, averaged: bool = True, run_steps: int | None = None) -> None:
    """Write the weights of a checkpoint, in this process alone; the average, if wanted and there is one. `run_steps`:
    those of the whole run, of which these weights are the best.

    CorruptFileError names a bad file, and a manifest that asks for more than its files hold, before that is allocated.
    """
    manifest, contents = saved.manifest, saved.manifest.contents
    kind: Kind = "ema" if averaged and contents.averaged else "master"
    statics = saved.statics()
    check_weights(manifest, kind, set(statics), f"{saved.store.url}/manifest.json")
    for file in manifest.files:
        foreign.check_size(saved.store, file)
    tensors = {key: torch.empty(shape) for key, shape in contents.shapes.items()}
    saved.read([Want(kind=kind, name=key, start=0, into=t.view(-1)) for key, t in tensors.items()])
    _write(store, tensors | statics, contents.aliases, manifest.step, contents.network, run_steps)


def check_free(store: Store) -> None:
    """ValueError if a folder holds anything but an export, which a new one replaces."""
    if others := sorted({name.split("/")[0] for name in store.list()} - set(FILES)):
        raise ValueError(f"{store.url} holds other things ({others[0]}); name an empty folder with --out")


def exported_after(store: Store) -> int | None:
    """After how many steps of its run the weights in a folder were exported; None if there are none. They may be those
    of an earlier step, the best one."""
    manifest = foreign.manifest(store, MANIFEST, Exported)
    return (manifest.run_steps or manifest.step) if manifest and store.exists(WEIGHTS) else None


def aliases(model: nn.Module) -> dict[str, str]:
    """Further names, in the `state_dict`, of a tensor that has a name already: alias -> name."""
    first: dict[int, str] = {}
    return {
        name: first[id(t)]
        for name, t in model.state_dict(keep_vars=True).items()
        if first.setdefault(id(t), name) != name
    }


def _write(
    store: Store,
    tensors: dict[str, torch.Tensor],
    also: Mapping[str, str],
    step: int,
    network: NetworkSpec,
    run_steps: int | None = None,
) -> None:
    whole = tensors | {alias: tensors[name] for alias, name in also.items()}
    data = save({name: t.detach().cpu().clone().contiguous() for name, t in sorted(whole.items())})
    config = (json.dumps(to_json(network), indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode()
    store.delete(MANIFEST)  # of weights exported after fewer steps, if any
    files = (store.write(WEIGHTS, data), store.write(CONFIG, config))
    commit(store, MANIFEST, Exported(files=files, step=step, run_steps=run_steps or step))
