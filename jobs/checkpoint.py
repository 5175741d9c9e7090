"""Look at, check, or export the checkpoints of a training run, without Ray and DeepSpeed.

python -m jobs.checkpoint inspect RUN
python -m jobs.checkpoint verify RUN                          status 1, naming the files, if any is damaged
python -m jobs.checkpoint export RUN --out FOLDER --which best
"""

from dataclasses import dataclass
from typing import Literal

from jobs._curations import positional
from jobs._main import run
from pipeline import foreign
from pipeline.storage import CorruptFileError, Store
from pipeline.train import export, metrics
from pipeline.train.saved import Saved, best_saved, committed, open_saved


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Look into the checkpoints of a training run."""

    do: Literal["inspect", "verify", "export"]
    run_dir: str
    """Folder of the run, any fsspec URL."""
    which: str = "newest"
    """For export: newest, best (by the run's train.keep_best), or a step."""
    out: str | None = None
    """For export: the folder that receives model.safetensors and config.json."""
    averaged: bool = True
    """For export: the averaged weights, where there are some."""

    def __post_init__(self) -> None:
        if self.do == "export" and self.out is None:
            raise ValueError("export needs a folder to write to; name one with --out")
        if self.which not in ("newest", "best") and not self.which.isdecimal():
            raise ValueError(f"--which is {self.which!r}; use newest, best, or a step")


def inspect(store: Store, names: list[str]) -> None:
    """A line for each checkpoint, then the time that they cost."""
    print(f"{'checkpoint':<19}{'kind':<10}{'ranks':>6}{'engine':>8}{'parameters':>14}{'MB':>9}  average  metrics")
    for name in names:
        try:
            manifest = open_saved(store.sub("checkpoints"), name).manifest
        except ValueError as error:  # one of a later format is no damage
            print(f"{name:<19}{error}")
            continue
        contents = manifest.contents
        worth = " ".join(f"{metric} {value:.6g}" for metric, value in contents.metrics.items())
        parameters = sum(manifest.elements("master").values())
        print(
            f"{name:<19}{contents.network.kind:<10}{manifest.world_size:>6}{contents.engine:>8}{parameters:>14}"
            f"{manifest.size_bytes / 1e6:>9.2f}  {'yes' if contents.averaged else 'no':<7}  {worth}"
        )
    if (share := metrics.share(metrics.read(store), "checkpoint_s")) is not None:
        print(f"training waited for checkpoints {100 * share:.2f} % of its time")


def verify(store: Store, names: list[str]) -> None:
    """Read every byte of every checkpoint."""
    damage = []
    for name in names:
        try:
            lines = open_saved(store.sub("checkpoints"), name).damage()
        except CorruptFileError as error:
            lines = [str(error)]
        print(f"{name}  {'damaged' if lines else 'whole'}")
        damage += lines
    if damage:
        print(*damage, sep="\n")
        raise SystemExit(1)


def choose(store: Store, names: list[str], which: str) -> Saved:
    """The checkpoint that was asked for; ValueError if there is none."""
    folder = store.sub("checkpoints")
    if which == "newest":
        return open_saved(folder, names[0])
    if which == "best":
        metric, mode = _kept(store)
        best = best_saved(folder, names, metric, mode)
        if best is None:
            raise ValueError(f"no checkpoint of {store.url} has the metric {metric!r}; train with --train.keep_best")
        return open_saved(folder, best)
    for name in names:
        if int(name.split("-")[0]) == int(which):
            return open_saved(folder, name)
    raise ValueError(f"{store.url} keeps no checkpoint of step {which}; see inspect")


def _kept(store: Store) -> tuple[str, str]:
    """By which metric the run kept a best checkpoint, and whether it wanted the smallest ("min") or the largest."""
    if not store.exists("config.json"):
        return "", "min"
    name = f"{store.url}/config.json"
    config = foreign.parsed(foreign.read(store, "config.json"), name)
    foreign.check_types(config, {"train": dict}, name)
    train = {"keep_best": "", "keep_best_mode": "min"} | config["train"]
    foreign.check_types(train, {"keep_best": str, "keep_best_mode": str}, f"{name}'s train")
    return train["keep_best"], train["keep_best_mode"]


def main(config: Checkpoint) -> None:
    """Do what was asked."""
    store = Store(config.run_dir)
    names = committed(store.sub("checkpoints"))
    if not names:
        raise ValueError(f"{config.run_dir} has no checkpoint; name the run_dir of a training run")
    if config.do == "inspect":
        inspect(store, names)
    elif config.do == "verify":
        verify(store, names)
    elif config.out is not None:
        out = Store(config.out)
        export.check_free(out)
        saved = choose(store, names, config.which)
        export.from_checkpoint(saved, out, averaged=config.averaged)
        print(f"exported step {saved.manifest.step} to {config.out}")


if __name__ == "__main__":
    positional("do", "run-dir")
    run(Checkpoint, main)
