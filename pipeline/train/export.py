"""The weights that leave training: one safetensors file and its config, readable with neither Ray nor DeepSpeed.

`model.safetensors` holds the module's `state_dict` (EMA weights where there are any), `config.json` says
{"kind", "model", "facts"}, and `manifest.json`, created last, makes both visible.
"""
import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import save

from pipeline import storage
from pipeline.storage import Store
from pipeline.train import ranks
from pipeline.train.engine import Engine

MANIFEST = "manifest.json"


def export(engine: Engine, pieces: Mapping[str, list[tuple[int, torch.Tensor]]], store: Store, *, step: int, kind: str,
           model: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write the whole weights, given each rank's pieces of them; a collective, rank 0 writes."""
    kept = {}
    for name, full in engine.assembled(pieces):
        if ranks.rank() == 0:
            kept[name] = full.cpu()
    if ranks.rank() == 0:
        # A tied parameter stands under each of its names, as in a state_dict.
        first = {id(p): name for name, p in engine.model.named_parameters()}
        tensors = {name: kept.get(first.get(id(t), name), t.detach().cpu()).clone().contiguous()
                   for name, t in engine.model.state_dict(keep_vars=True).items()}
        config = (json.dumps({"kind": kind, "model": model, "facts": facts}, indent=2) + "\n").encode()
        store.delete(MANIFEST)  # of weights exported after fewer steps, if any
        files = [store.write("model.safetensors", save(tensors)), store.write("config.json", config)]
        storage.commit(store, MANIFEST, files, step=step)
    ranks.barrier(engine.device)


def exported_step(store: Store) -> int | None:
    """After how many steps the weights in a folder were exported; None if there are none."""
    found = storage.manifest(store, MANIFEST)
    return found["step"] if found else None
