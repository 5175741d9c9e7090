"""What a run measured: `metrics.jsonl`, one object a line with its step, and TensorBoard event files; rank 0 writes.

Guarantees: after a resume at step s no line of a step after s is left, and TensorBoard hides them; a kill loses at most
the line being written. A remote run_dir gets both from a local copy whenever `flush` is called.
"""
import json
import tempfile
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from pipeline.log import JsonLines
from pipeline.storage import Store

FILE = "metrics.jsonl"
_FOLDER = "tensorboard"


class Metrics:
    """Metrics of a run that starts, or resumes, after `step` steps."""

    def __init__(self, store: Store, step: int) -> None:
        self._store = store
        self._folder = Path(store.local_path) if store.is_local else Path(tempfile.mkdtemp(prefix="metrics-"))
        kept = [line for line in read(store) if line["step"] <= step]
        store.write(FILE, "".join(json.dumps(line) + "\n" for line in kept).encode())
        if not store.is_local:
            (self._folder / FILE).write_bytes(store.read(FILE))
        self._file = open(self._folder / FILE, "a")
        self._lines = JsonLines(self._file)
        self._board = SummaryWriter(str(self._folder / _FOLDER), purge_step=step + 1)

    def write(self, step: int, **values: float) -> None:
        """Record numbers measured after `step` steps; a name such as `eval/psnr_db` groups charts."""
        self._lines.write(step=step, **values)
        for name, value in values.items():
            self._board.add_scalar(name if "/" in name else f"train/{name}", value, step)

    def flush(self) -> None:
        """Make everything written so far visible in the store."""
        self._board.flush()
        if not self._store.is_local:
            for path in (self._folder / FILE, *(self._folder / _FOLDER).iterdir()):
                self._store.write(str(path.relative_to(self._folder)), path.read_bytes())

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._file.close()
        self._board.close()


def read(store: Store) -> list[dict[str, float]]:
    """All complete lines of a run's metrics, in order; empty if there are none."""
    if not store.exists(FILE):
        return []
    lines = store.read(FILE).decode(errors="replace").split("\n")[:-1]  # what no newline ends was cut by a kill
    return [json.loads(line) for line in lines if line]
