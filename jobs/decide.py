"""Replay thresholds over a run's stored scores: nothing is fetched, nothing decoded, the run itself stays as it is.

python -m jobs.decide RUN --set duration.min_s=2 speech.min_speech_ratio=0.5
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jobs._curations import open_curation
from jobs._main import run
from jobs._ray import ray_session
from pipeline.config import difference
from pipeline.curate import audit, decide, survey
from pipeline.curate.journal import Journal
from pipeline.curate.run import Curation
from pipeline.lease import hold
from pipeline.log import say
from pipeline.ranges import check_range
from pipeline.records import STATES


@dataclass(frozen=True, kw_only=True)
class Decide:
    """Decide again under other thresholds."""

    run_dir: str
    """Folder of the run, any fsspec URL."""
    set: tuple[str, ...] = ()
    """Thresholds as SECTION.OPTION=VALUE, named like the options of the run's job."""
    points: int = 7
    """Values between the old threshold and the new one at which the yield is shown."""
    verbose: bool = False
    """Show all that Ray says, and the whole of an error."""

    def __post_init__(self) -> None:
        check_range(self, "points", low=1)
        for word in self.set:
            if "=" not in word:
                raise ValueError(f"set holds {word!r}; write SECTION.OPTION=VALUE")


def main(config: Decide) -> None:
    """Print what would move, which filters overlap, and the yield at each threshold."""
    store, before, old = open_curation(config.run_dir)
    # As on the command line of the run's job, so that the same checks answer.
    words = [part for word in config.set for part in (f"--{word.partition('=')[0]}", word.partition("=")[2])]
    _, after, new = open_curation(config.run_dir, words)
    # Of no inputs: options are compared, not what was listed.
    if changes := difference(old.fingerprint(""), new.fingerprint("")):
        raise ValueError(f"{'; '.join(changes)}: that changes the scores, not the verdicts; it needs a new run")
    sweeps = tuple(_sweeps(config, before, after, new))
    with hold(store):  # so that nobody deletes what is not yet named
        journal = Journal(store)
        audit.check(journal, only="verdicts/")  # no more is made here
        with ray_session(before.ray, verbose=config.verbose):
            names = [old.decide(journal), new.decide(journal)]
            found = survey.survey(journal, new.rules, new.schema, sweeps)
    _moves(*[decide.verdicts(journal, name) for name in names])
    for unit, pairs in found.objections.items():
        _matrix(unit, pairs, found.alone[unit])
    for sweep, points in zip(sweeps, found.yields, strict=True):
        say()
        say(f"{sweep.unit} rows that pass every filter, by {sweep.field}:")
        for value, rows, hours in points:
            say(f"  {value:<12g} {rows:>9} rows {hours:>10.3f} h")
    say()
    say(
        f"verdicts {names[1]} (were {names[0]}); to export them, run the job with " + (" ".join(words) or "its options")
    )


def _moves(before: pa.Table, after: pa.Table) -> None:
    """What is kept of each unit, and which rows end otherwise, from the verdicts of the run and of the replay."""
    books = decide.books(before)
    for unit, book in decide.books(after).items():
        was = books[unit]
        say(
            f"{unit}: kept {was.kept} -> {book.kept} of {book.in_}, "
            f"{was.hours.get(STATES[0], 0):.3f} -> {book.hours.get(STATES[0], 0):.3f} hours"
        )
    for (unit, end, now), rows in sorted(survey.moved(before, after).items()):
        say(f"  {rows} {unit} rows: {end} -> {now}")


def _sweeps(config: Decide, before: Any, after: Any, curation: Curation) -> list[survey.Sweep]:
    sweeps = []
    for word in config.set:
        section, _, name = word.partition("=")[0].replace("-", "_").partition(".")
        old, new = (getattr(getattr(c, section, None), name, None) for c in (before, after))
        spots = [
            (rule.unit, i)
            for rule in curation.rules
            for i, f in enumerate(rule.filters)
            # The very object: two filters may have equal options.
            if f is getattr(after, section)
        ]
        if spots and isinstance(old, int | float) and isinstance(new, int | float) and old != new:
            # Whole numbers between two near ones repeat.
            values = np.unique(
                np.linspace(old, new, config.points).astype(int if isinstance(new, int) else float)
            ).tolist()
            sweeps.append(survey.Sweep(unit=spots[0][0], place=spots[0][1], field=name, values=tuple(values)))
    return sweeps


def _matrix(unit: str, pairs: Counter[tuple[str, str]], alone: Counter[str]) -> None:
    names = sorted({name for name, _ in pairs}, key=lambda name: -pairs[name, name])
    if names:
        say()
        say(f"{unit} rows that both object to; alone: that no other objects to")
        say(f"{'':<28}" + "".join(f"{i + 1:>8}" for i in range(len(names))) + f"{'alone':>8}")
        for i, name in enumerate(names):
            say(f"{i + 1:>2} {name:<25}" + "".join(f"{pairs[name, other]:>8}" for other in names) + f"{alone[name]:>8}")


if __name__ == "__main__":
    run(Decide, main, "run-dir")
