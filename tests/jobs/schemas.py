"""The options of every job, as its command line has them."""

import dataclasses
import importlib
import re
import typing
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("*.py") if not path.stem.startswith("_"))


def schema(job: str) -> type | None:
    """The config that a job hands to `run`; None for one that reads its options otherwise."""
    call = re.search(r"^    run\((\w+), main", (ROOT / "jobs" / f"{job}.py").read_text("utf-8"), re.MULTILINE)
    return getattr(importlib.import_module(f"jobs.{job}"), call[1]) if call else None


SCHEMAS = {job: kind for job in JOBS if (kind := schema(job)) is not None}


def fields(kind: type, prefix: str = "--") -> Iterator[tuple[str, type, str, object]]:
    """Option, the dataclass that has it, its field's name and type, for each option."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from fields(hint, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}".replace("_", "-"), kind, field.name, hint
