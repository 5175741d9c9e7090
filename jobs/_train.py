"""What the three training jobs share: images by id, and the start of the workers."""
from collections.abc import Callable
from typing import Any

from jobs._main import ray_session
from pipeline.storage import Store
from pipeline.tokenize.corpus import source_files
from pipeline.train.rows import Rows


def open_rows(url: str) -> Rows:
    """The exported images of a finished jobs.curate_images run, by id; ValueError if it is not finished."""
    return Rows(Store(url), source_files(Store(url)), columns=["key", "image"])


def launch(worker: Callable[..., None], config: Any, name: str) -> None:
    """Run `worker({"config": config}, host)` on the workers of a Ray session, to the last step."""
    with ray_session(config.ray, verbose=config.verbose, min_cpus=config.cluster.cpus):
        from pipeline.train.launch import fit  # imports Ray, whose environment the session has to set first

        fit(worker, {"config": config}, name=name, run_dir=config.run_dir, cluster=config.cluster,
            total_steps=config.train.steps)
