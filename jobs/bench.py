"""Measure the training engine on this machine, each part beside its peer or its limit.

    python -m jobs.bench train_step --device cuda --models small base large decoder --variants plain compile
    python -m jobs.bench ddp            # the loop under Ray and DeepSpeed against bare torch DDP, in turn
    python -m jobs.bench loader         # batches of committed tables against other ways to read the same rows
    python -m jobs.bench recovery       # seconds from a worker's death to the next step

`--out FILE.json` or `FILE.md` keeps the result. Options are read by argparse: train_step runs where there is only
torch.
"""

import argparse
import contextlib
import importlib
import inspect
import itertools
import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pipeline import signals

TRIALS, NEEDS_RAY = ("train_step", "ddp", "loader", "recovery"), ("ddp", "recovery")
CONFIGS = {"train_step": "TrainStep", "ddp": "Ddp"}
"""Modules of pipeline.bench whose `measure` takes a config; that of the others takes the options themselves."""


def machine() -> dict[str, Any]:
    """Hardware, versions and date: what a figure means nothing without."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    out = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "gpu": gpu,
        "python": platform.python_version(),
    }
    for name in ("torch", "ray", "deepspeed"):
        with contextlib.suppress(PackageNotFoundError):
            out[name] = version(name)
    return out


def add_options(parser: argparse.ArgumentParser, takes: Callable[..., Any]) -> None:
    """One flag for each parameter of `takes`: a number, a word, several words."""
    hints = get_type_hints(takes.__init__ if inspect.isclass(takes) else takes)
    for name, parameter in inspect.signature(takes).parameters.items():
        hint, default = hints[name], parameter.default
        required = default is parameter.empty
        number = next((kind for kind in (hint, *get_args(hint)) if kind in (int, float)), str)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=number,
            nargs="+" if get_origin(hint) is tuple else None,
            required=required,
            choices=get_args(hint) if get_origin(hint) is Literal else None,
            default=None if required else default,
            help="required" if required else f"default: {default}",
        )


def document(facts: dict[str, Any], lines: list[dict[str, Any]]) -> str:
    """A result as Markdown: one table for each run of lines with the same names."""
    parts = [
        f"# `{facts['command']}`",
        ", ".join(f"{name} {value}" for name, value in facts.items() if name != "command"),
    ]
    for names, group in itertools.groupby(lines, key=tuple):
        rows = [names, ["---"] * len(names), *(line.values() for line in group)]
        parts.append("\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows))
    return "\n\n".join(parts) + "\n"


def main(argv: list[str]) -> None:
    """Print the machine, then one JSON object a measurement; ValueError for what the user can mend."""
    parser = argparse.ArgumentParser(
        "python -m jobs.bench", None, __doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("trial", choices=TRIALS)
    trial = parser.parse_args(argv[:1]).trial
    module = importlib.import_module(f"pipeline.bench.{trial}")
    takes = getattr(module, CONFIGS[trial]) if trial in CONFIGS else module.measure
    parser = argparse.ArgumentParser(f"python -m jobs.bench {trial}", None, module.__doc__)
    parser.add_argument("--out", help="keep the result in this file, .json or .md")
    add_options(parser, takes)
    options = {name: tuple(v) if isinstance(v, list) else v for name, v in vars(parser.parse_args(argv[1:])).items()}
    out = Path(options.pop("out") or "")
    if out.name and (out.suffix not in (".json", ".md") or any(folder.is_file() for folder in out.parents)):
        raise ValueError(f"--out {out} must end in .json or .md, and no folder of it may be a file")
    out.parent.mkdir(parents=True, exist_ok=True)
    work = takes(**options)
    facts, lines = {"command": f"python -m jobs.bench {' '.join(argv)}"} | machine(), []
    print(json.dumps(facts), flush=True)
    with contextlib.ExitStack() as stack:
        if trial in NEEDS_RAY:
            from jobs._ray import RayConfig, ray_session

            stack.enter_context(ray_session(RayConfig(), verbose=False, min_cpus=options.get("workers", 2)))
        for line in module.measure(work) if trial in CONFIGS else work:
            print(json.dumps(line), flush=True)
            lines.append(line)
            if out.name:  # after each line: what follows may fail
                out.write_text(
                    document(facts, lines) if out.suffix == ".md" else json.dumps(facts | {"lines": lines}, indent=2)
                )


if __name__ == "__main__":
    try:
        signals.work()
        main(sys.argv[1:])
    except signals.Stopped:
        signals.end()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
