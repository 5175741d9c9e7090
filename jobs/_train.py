"""What the three training jobs share: samples by id, the start of the workers, and what a run notes once it is
accepted."""

import json
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from jobs._main import note
from jobs._ray import ray_session
from jobs._training import TrainJob
from pipeline import config as configs
from pipeline.log import logger
from pipeline.models.config import DVAEConfig
from pipeline.storage import Store, read_json
from pipeline.tokenize.corpus import source_files
from pipeline.tokenize.media import Medium
from pipeline.train.data.batches import check_split
from pipeline.train.data.rows import Rows
from pipeline.train.loop import finished

_ELSEWHERE = ("cluster", "ray", "run_dir", "verbose")
"""Options that say where and how a run runs, not what it trains."""


def open_rows(url: str, medium: Medium) -> Rows:
    """The exported samples of a finished curation run, by id; ValueError if it is not finished."""
    return Rows(Store(url), source_files(Store(url), medium), columns=["key", medium.column])


def first_samples(rows: Rows, medium: Medium, config: DVAEConfig, number: int) -> Tensor:
    """The first samples (N, C, ...) in [-1, 1] of the rows, `number` at most."""
    return torch.from_numpy(medium.samples(rows.take(np.arange(min(number, len(rows)))), config))


def launch(worker: Callable[..., None], config: TrainJob, name: str) -> bool:
    """Run `worker(config, supervisor)` on the workers of a Ray session, to the last step; False if that is
    done."""
    store = Store(config.run_dir)
    store.check_writable()
    if finished(config.train, store):
        logger.info("%s: nothing left to do in %s", name, config.run_dir)
        for changed in _changes(store, config):
            logger.warning(
                "warning: %s was trained with another %s; choose a new run_dir to train with this one",
                config.run_dir,
                changed,
            )
        return False
    # A group may shrink and grow to each of these sizes, long after this look.
    for world in range(config.cluster.num_workers, (config.cluster.max_workers or config.cluster.num_workers) + 1):
        check_split(config.train.global_batch, config.train.micro_batch, world=world)
    with ray_session(config.ray, verbose=config.verbose, min_cpus=config.cluster.cpus):
        from pipeline.train.launch.fit import fit  # imports Ray, whose environment the session has to set first

        fit(
            worker,
            config,
            name=name,
            run_dir=config.run_dir,
            cluster=config.cluster,
            total_steps=config.train.steps,
        )
    return True


def accept(config: TrainJob, *outdated: str) -> None:
    """Note the config of a run that goes ahead; what was made from fewer steps goes."""
    store = Store(config.run_dir)
    for name in outdated:
        store.delete(name)
    note(store, config)


def _changes(store: Store, config: TrainJob) -> list[str]:
    """What a finished run was trained with, where that differs."""
    if not store.exists("config.json"):
        return []
    # As it lies on the disk: tuples are lists there, and URLs have no secrets.
    old, new = read_json(store, "config.json"), json.loads(configs.dumps(config))
    return [name for name in configs.difference(old, new) if name.split(".")[0] not in _ELSEWHERE]
