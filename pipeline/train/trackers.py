"""Trackers that get a copy of a run's numbers, if asked: Weights & Biases and MLflow.

Guarantees: without them nothing of theirs is imported; a package that is missing is one line before any step; a resumed
run goes on in the tracker's record of it. Where they send and as whom they take from their own environment variables
(WANDB_API_KEY, WANDB_MODE, WANDB_PROJECT; MLFLOW_TRACKING_URI, MLFLOW_TRACKING_TOKEN, MLFLOW_EXPERIMENT_NAME): none of
it passes through a config or a log. A tracker that fails later is left out with a warning: metrics.jsonl has
everything.
"""

import hashlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from pipeline.log import clean, clean_url, logger
from pipeline.storage import Store
from pipeline.train.config import TrackerName

_PACKAGES: dict[TrackerName, str] = {"wandb": "wandb", "mlflow": "mlflow-skinny"}


class Tracker(Protocol):
    """Where numbers go."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """Record numbers measured after `step` steps."""
        ...

    def close(self) -> None:
        """Send what was not sent yet."""
        ...


def check(names: Sequence[TrackerName]) -> None:
    """ValueError if a tracker's package is not installed, or MLflow was not told where to write."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ValueError(
                f"--train.trackers names {name}, which is not installed here; run `pip install {_PACKAGES[name]}` "
                "on every worker, or leave it out"
            )
    if "mlflow" in names and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise ValueError(
            "--train.trackers names mlflow, and MLFLOW_TRACKING_URI is not set on this worker; set it to a "
            "server or a database, such as sqlite:////data/mlflow.db"
        )


def start(names: Sequence[TrackerName], store: Store, config: Mapping[str, object]) -> list[Tracker]:
    """The trackers of the run kept in `store`; ValueError, in one line, if one of them cannot start."""
    started: list[Tracker] = []
    for name in names:
        try:
            started.append(_Wandb(store, config) if name == "wandb" else _MLflow(store, config))
        except Exception as error:
            raise ValueError(
                f"--train.trackers: {name} did not start ({_reason(error)}); mend its environment variables, or "
                "leave it out"
            ) from error
    return started


def write(trackers: list[Tracker], step: int, values: dict[str, float]) -> None:
    """Hand numbers to all of them; those that fail are taken out of the list."""
    for tracker in list(trackers):
        if not _works(tracker, partial(tracker.write, step, values)):
            trackers.remove(tracker)


def close(trackers: Sequence[Tracker]) -> None:
    """Let all of them send what they still hold."""
    for tracker in trackers:
        _works(tracker, tracker.close)


def _works(tracker: Tracker, call: Callable[[], None]) -> bool:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever a service of others does, training goes on
        logger.warning(
            "warning: %s takes no more metrics (%s); metrics.jsonl has them all",
            type(tracker).__name__.strip("_"),
            _reason(error),
        )
        return False
    return True


def _reason(error: Exception) -> str:
    return clean(" ".join(str(error).split()) or type(error).__name__, limit=200)


def _where(store: Store) -> str:
    return store.local_path if store.is_local else clean_url(store.url)


def _id(store: Store) -> str:
    """The same for every attempt at a run."""
    return hashlib.sha256(_where(store).encode()).hexdigest()[:16]


class _Wandb:
    def __init__(self, store: Store, config: Mapping[str, object]) -> None:
        import wandb

        # No metadata: it would hold the command line and the folder's git remote.
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "triptych"),
            id=_id(store),
            name=_where(store).rpartition("/")[2],
            resume="allow",
            config=config,
            dir=store.local_path if store.is_local else tempfile.mkdtemp(prefix="wandb-"),
            settings=wandb.Settings(
                console="off", silent=True, x_disable_meta=True, disable_git=True, disable_code=True
            ),
        )

    def write(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    def __init__(self, store: Store, config: Mapping[str, object]) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient()
        tag = _id(store)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "triptych")
        known_experiment = self._client.get_experiment_by_name(name)
        experiment = known_experiment.experiment_id if known_experiment else self._client.create_experiment(name)
        known = self._client.search_runs([experiment], f"tags.triptych_run = '{tag}'", max_results=1)
        run = (
            known[0]
            if known
            else self._client.create_run(
                experiment, run_name=_where(store).rpartition("/")[2], tags={"triptych_run": tag}
            )
        )
        self._id = run.info.run_id
        for key, value in [] if known else _flat(config):
            self._client.log_param(self._id, key, str(value)[:500])

    def write(self, step: int, values: dict[str, float]) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        self._client.log_batch(self._id, [Metric(name, value, now_ms, step) for name, value in values.items()])

    def close(self) -> None:
        self._client.set_terminated(self._id)


def _flat(config: Mapping[str, object], prefix: str = "") -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs
