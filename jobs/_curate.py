"""What every curation command has: where its run lives, how its work is cut, guarded and exported, and its `main`."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from jobs._main import note
from jobs._ray import RayConfig, ray_session
from pipeline.curate import audit
from pipeline.curate.fetch.columns import ListConfig
from pipeline.curate.fetch.discover import check_sources, split_source
from pipeline.curate.guard import Guard, GuardConfig
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import ExportConfig
from pipeline.curate.run import Curation, summary
from pipeline.curate.waves import WaveConfig
from pipeline.lease import hold
from pipeline.log import logger
from pipeline.records import INPUTS
from pipeline.storage import Store


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """The options that curation commands share."""

    run_dir: str
    """Folder of the run, any fsspec URL."""
    sources: tuple[str, ...]
    """Listings, each as KIND=URL; a list may be a file or a folder by its path."""
    lists: ListConfig = field(default_factory=ListConfig)
    resources: tuple[str, ...] = ()
    """What a worker of a stage needs, as STAGE.WHAT=VALUE: cpus, gpus, memory_mb, or workers (a pool of so many
    processes)."""
    waves: WaveConfig = field(default_factory=WaveConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    refresh: bool = False
    """Read the listings of a finished run again, and take in what they name by now; rows that are there stay."""
    accept_plan: bool = False
    """Go on although the configuration, the code or a library changed since the run began."""
    verbose: bool = False
    """Show all that Ray says, and the whole of an error."""

    def __post_init__(self) -> None:
        for source in self.sources:
            split_source(source)
        for word in self.resources:
            _resource(word)

    @property
    def stage_resources(self) -> dict[str, dict[str, Any]]:
        """`resources` by the name of their stage; ValueError for what cannot be read."""
        given: dict[str, dict[str, Any]] = {}
        for word in self.resources:
            stage, what, value = _resource(word)
            given.setdefault(stage, {})[what] = value
        return given

    @property
    def guarded(self) -> Guard:
        """The limits of the run's stages, and where their victims go."""
        return Guard(limits=self.guard, run_dir=self.run_dir)


def _resource(word: str) -> tuple[str, str, Any]:
    """STAGE.WHAT=VALUE -> its three parts."""
    name, _, text = word.partition("=")
    stage, _, what = name.partition(".")
    kinds: dict[str, Callable[[str], Any]] = {
        "cpus": float,
        "gpus": float,
        "memory_mb": int,
        # A pool of Ray Data's actors, from one to so many.
        "workers": lambda n: (1, int(n)),
    }
    try:
        value = kinds[what](text)
        # nan fails here too: it is not above anything.
        if not 0 <= (value[1] - 1 if what == "workers" else value) < math.inf:
            raise ValueError("too small or too large")
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"resources holds {word!r}; write STAGE.WHAT=VALUE with WHAT one of {', '.join(kinds)}"
        ) from error
    return stage, what, value


C = TypeVar("C", bound=CurateConfig)


def curate(config: C, describe: Callable[[C], Curation]) -> None:
    """Curate, or say that it is done. A run that another driver holds is refused before anything is written."""
    store = Store(config.run_dir)
    # Before minutes of work, and in one line.
    store.check_writable()
    wanted = describe(config)
    kept = replace(config, refresh=False)  # done once: the saved config describes the run
    if audit.is_done(store, wanted) and not config.refresh:
        note(store, kept)
        logger.info("%s: nothing left to do in %s", wanted.name, config.run_dir)
        return
    if config.refresh or not store.exists(INPUTS):
        check_sources(config.sources)  # before Ray takes its time to start
    with hold(store) as lease:
        journal = Journal(store)  # what was looked at before may have changed until the run was held
        # Nothing is built on a run that is damaged.
        audit.check(journal)
        if not store.exists("config.json"):
            note(store, kept)
        with ray_session(config.ray, verbose=config.verbose):
            ledger = wanted.run(store, lease, journal=journal, accept_plan=config.accept_plan, refresh=config.refresh)
            note(store, kept)  # not before: where these options were refused, the run is still of the others
            summary(wanted.name, ledger)
