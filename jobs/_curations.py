"""What the commands share that look into a curation run: which job made it, and with which options."""

from collections.abc import Callable, Sequence
from typing import Any

from jobs import curate_images, curate_speech
from jobs._curate import CurateConfig
from pipeline import config as configs
from pipeline.curate import plan
from pipeline.curate.journal import Journal
from pipeline.curate.run import Curation
from pipeline.storage import Store, read_json

JOBS: dict[str, tuple[type[CurateConfig], Callable[[Any], Curation]]] = {
    "curate_images": (curate_images.CurateImages, curate_images.curation),
    "curate_speech": (curate_speech.CurateSpeech, curate_speech.curation),
}
"""A job's name -> its config and the curation that it describes; a new curation job is one more line."""


def open_curation(run_dir: str, overrides: Sequence[str] = ()) -> tuple[Store, CurateConfig, Curation]:
    """The run's folder, its config (with `--option value` words put over it), and its curation."""
    store = Store(run_dir)
    fingerprints = plan.fingerprints(Journal(store))
    if not fingerprints:
        raise ValueError(f"{run_dir} is no curation run, or has not begun; run a curation job with --run-dir {run_dir}")
    # The newest: --accept-plan adds one to those before.
    name = str(fingerprints[-1].get("job"))
    if name not in JOBS:
        raise ValueError(
            f"{run_dir} was made by {name!r}, which is none of {', '.join(JOBS)}; add it to jobs/_curations.py"
        )
    schema, curation = JOBS[name]
    if not store.exists("config.json"):
        raise ValueError(f"{run_dir}/config.json is missing; run {name} again with the options of the run")
    table = read_json(store, "config.json")
    if not isinstance(table, dict):
        raise ValueError(f"{run_dir}/config.json holds no table of options; run {name} again with those of the run")
    config = configs.load(schema, ["--run-dir", run_dir, *overrides], table=table)
    return store, config, curation(config)
