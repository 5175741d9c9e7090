"""What a run measured: `metrics.jsonl`, one object a line with its step, and TensorBoard event files; rank 0 writes.

Beside them `bad_steps.jsonl`, a line for each step whose loss was not finite or spiked, with the ids of its samples,
and `samples/<step>-<name>.png`. Guarantees: after a resume at step s no line of a step after s is left, and TensorBoard
hides them; a kill loses at most the line being written. A remote run_dir gets them from a local copy whenever `flush`
is called: before a checkpoint is committed, so that no line of a step that a resume builds on is lost.
"""

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from pipeline.log import JsonLines, logger
from pipeline.media.image import encode_png
from pipeline.storage import Store
from pipeline.train import trackers as sinks

FILE = "metrics.jsonl"
BAD_STEPS = "bad_steps.jsonl"
_FOLDER = "tensorboard"


class Recorder:
    """Takes what a run measures, and keeps nothing: that of every rank but the first, so that the loop asks none."""

    def write(self, step: int, **values: float) -> None:
        """Record numbers measured after `step` steps; a name such as `eval/psnr_db` groups charts."""

    def bad_step(self, step: int, fault: str, loss: float, grad_norm: float, ids: np.ndarray) -> None:
        """Record that the `step`-th step went wrong, and with which samples, (n,) ids."""

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Record a picture (H, W, C) uint8, C 1 or 3, made after `step` steps."""

    def flush(self) -> None:
        """Make everything written so far visible in the store; may run beside `write`."""

    def close(self) -> None:
        """Flush and close."""


class Metrics(Recorder):
    """Metrics of a run that starts, or resumes, after `step` steps; `trackers` get the numbers too."""

    def __init__(self, store: Store, step: int, trackers: Sequence[sinks.Tracker] = ()) -> None:
        self._store = store
        self._trackers = list(trackers)
        self._folder = Path(store.local_path) if store.is_local else Path(tempfile.mkdtemp(prefix="metrics-"))
        for name in (FILE, *([BAD_STEPS] if store.exists(BAD_STEPS) else [])):
            kept = [line for line in read(store, name) if line["step"] <= step]
            store.write(name, "".join(json.dumps(line) + "\n" for line in kept).encode())
            if not store.is_local:
                (self._folder / name).write_bytes(store.read(name))
        self._file = open(self._folder / FILE, "a")
        self._lines = JsonLines(self._file)
        self._board = SummaryWriter(str(self._folder / _FOLDER), purge_step=step + 1)

    def write(self, step: int, **values: float) -> None:
        """See `Recorder`."""
        self._lines.write(
            step=step, **{name: value if math.isfinite(value) else None for name, value in values.items()}
        )
        for name, value in values.items():
            self._board.add_scalar(name if "/" in name else f"train/{name}", value, step)
        sinks.write(self._trackers, step, values)

    def bad_step(self, step: int, fault: str, loss: float, grad_norm: float, ids: np.ndarray) -> None:
        """See `Recorder`."""
        numbers = {
            name: value if math.isfinite(value) else str(value)  # JSON knows neither nan nor inf
            for name, value in (("loss", loss), ("grad_norm", grad_norm))
        }
        with open(self._folder / BAD_STEPS, "a") as file:
            JsonLines(file).write(step=step, fault=fault, **numbers, sample_ids=ids.tolist())

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """See `Recorder`."""
        self._board.add_image(name, pixels, step, dataformats="HWC")
        self._store.write(f"samples/{step:08d}-{name}.png", encode_png(pixels))

    def flush(self) -> None:
        """See `Recorder`."""
        self._board.flush()
        if not self._store.is_local:
            for path in (*self._folder.glob("*.jsonl"), *(self._folder / _FOLDER).iterdir()):
                self._store.write(str(path.relative_to(self._folder)), path.read_bytes())

    def close(self) -> None:
        """See `Recorder`."""
        self.flush()
        self._file.close()
        self._board.close()
        sinks.close(self._trackers)


def share(lines: Sequence[Mapping[str, float]], part: str) -> float | None:
    """Which part of the time of training went into one part of a step, such as `checkpoint_s`; None without a line."""
    timed = [line for line in lines if "step_s" in line]
    whole_s = part_s = last = 0.0
    for line in timed:  # each is a mean over the steps since the one before
        steps = line["step"] - last
        last = line["step"]
        whole_s += steps * line["step_s"]
        part_s += steps * line.get(part, 0.0)
    return part_s / whole_s if timed else None


def read(store: Store, name: str = FILE) -> list[dict[str, Any]]:
    """All complete lines of a run's metrics, in order; empty if there are none."""
    if not store.exists(name):
        return []
    lines = store.read(name).decode(errors="replace").split("\n")[:-1]  # what no newline ends was cut by a kill
    whole = []
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            if not isinstance(values["step"], int):
                raise TypeError
            whole.append(values)
        except (ValueError, TypeError, KeyError):
            logger.warning("warning: %s/%s: line %d is damaged and left out", store.url, name, number)
    return whole
