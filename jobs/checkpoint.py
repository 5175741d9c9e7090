"""Look at, check, or export the checkpoints of a training run, without Ray and DeepSpeed.

python -m jobs.checkpoint inspect RUN
python -m jobs.checkpoint verify RUN                          status 1, naming the files, if any is damaged
python -m jobs.checkpoint export RUN --out FOLDER --which best
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jobs._main import run
from pipeline import foreign
from pipeline.storage import CorruptFileError, Store

if TYPE_CHECKING:
    from pipeline.train.saved import Saved


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Look into the checkpoints of a training run."""

    do: Literal["inspect", "verify", "export"]
    """What to do; may be given without its name, as the first word."""
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
            raise ValueError("out is not given; name the folder that export writes to")
        if self.which not in ("newest", "best") and not self.which.isdecimal():
            raise ValueError(f"which is {self.which!r}; use newest, best, or a step")


def inspect(store: Store, names: list[str]) -> None:
    """A line for each checkpoint, then the time that they cost."""
    # Imported here: torch takes seconds, and a mistake in an option is told before that.
    from pipeline.train import metrics
    from pipeline.train.saved import open_saved

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
    from pipeline.train.saved import open_saved

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


def choose(store: Store, names: list[str], which: str) -> "Saved":
    """The checkpoint that was asked for; ValueError if there is none."""
    from pipeline.train.saved import best_saved, open_saved

    if which == "newest":
        # `committed` has the newest first.
        return open_saved(store.sub("checkpoints"), names[0])
    if which == "best":
        metric, mode = _kept(store)
        name = best_saved(store.sub("checkpoints"), names, metric, mode)
        missing = f"no checkpoint of {store.url} has the metric {metric!r}; train with --train.keep-best"
    else:
        name = next((name for name in names if int(name.split("-")[0]) == int(which)), None)
        missing = f"{store.url} keeps no checkpoint of step {which}; see inspect"
    if name is None:
        raise ValueError(missing)
    return open_saved(store.sub("checkpoints"), name)


def _kept(store: Store) -> tuple[str, str]:
    """By which metric the run kept a best checkpoint, and whether it wanted the smallest ("min") or the largest."""
    if not store.exists("config.json"):
        return "", "min"
    name = f"{store.url}/config.json"
    # The folder may be anybody's.
    config = foreign.parsed(foreign.read(store, "config.json"), name)
    foreign.check_types(config, {"train": dict}, name)
    train = {"keep_best": "", "keep_best_mode": "min"} | config["train"]
    foreign.check_types(train, {"keep_best": str, "keep_best_mode": str}, f"{name}'s train")
    return train["keep_best"], train["keep_best_mode"]


def main(config: Checkpoint) -> None:
    """Do what was asked."""
    from pipeline.train import export
    from pipeline.train.saved import committed

    store = Store(config.run_dir)
    names = committed(store.sub("checkpoints"))
    if not names:
        raise ValueError(f"{config.run_dir} has no checkpoint; name the run_dir of a training run")
    if config.do == "export":
        assert config.out is not None  # the config says so
        folder = Store(config.out)
        export.check_free(folder)
        saved = choose(store, names, config.which)
        export.from_checkpoint(saved, folder, averaged=config.averaged)
        print(f"exported step {saved.manifest.step} to {config.out}")
    elif config.do == "inspect":
        inspect(store, names)
    else:
        verify(store, names)


if __name__ == "__main__":
    run(Checkpoint, main, "do", "run-dir")
