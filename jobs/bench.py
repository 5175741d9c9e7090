"""Measure the project on this machine, each part beside its peer, its baseline or its limit.

    python -m jobs.bench train_step --device cuda --models small base large decoder --variants plain compile
    python -m jobs.bench ddp            # the loop under Ray and DeepSpeed against bare torch DDP, in turn
    python -m jobs.bench loader         # batches of committed tables against other ways to read the same rows
    python -m jobs.bench recovery       # seconds from a worker's death to the next step
    python -m jobs.bench overhead       # waves against one plain Ray Data pass, in turn
    python -m jobs.bench resume         # a finished run of 10^4, 10^5 and 10^6 inputs
    python -m jobs.bench flaky          # 5 % and 20 % of storage requests answered 503 or reset
    python -m jobs.bench disk_full      # a full tmpfs; needs root
    python -m jobs.bench two_drivers    # a second driver on one run
    python -m jobs.bench workers        # the same bytes from 1, 2 and 4 workers
    python -m jobs.bench politeness     # one host asked by 1, 4 and 16 processes
    python -m jobs.bench consent        # what publishers say, in every spelling; beside it what --peers PYTHON reads
    python -m jobs.bench signals        # SIGTERM and SIGINT at random moments of the example, or of a --command

`--out FILE.json` or `FILE.md` keeps the result. train_step runs where there is only torch, so its options are read by
argparse, and nothing else is imported for it.
"""

import argparse
import sys
from typing import Any

from pipeline import signals
from pipeline.bench import report
from pipeline.bench.config import MODELS, VARIANTS, TrainStep

COUNTS = ("batch", "seq_len", "vocab_size", "warmup", "steps", "rounds")


def main(argv: list[str]) -> None:
    """Measure what the first word names; ValueError for what the user can mend."""
    trial, *options = argv or ["--help"]
    if trial in ("--help", "-h"):
        print(f"usage: python -m jobs.bench TRIAL [options], TRIAL --help for those of a trial\n\n{__doc__}")
    elif trial == "train_step":
        train_step(options)
    else:
        from jobs import _trials

        _trials.start(trial, options)


def train_step(options: list[str]) -> None:
    """One optimizer step of the real networks; see `pipeline.bench.train_step`."""
    default = TrainStep()
    parser = argparse.ArgumentParser(
        "python -m jobs.bench train_step", description=train_step.__doc__, argument_default=argparse.SUPPRESS
    )
    parser.add_argument("--out", help="keep the result in this file, .json or .md")
    parser.add_argument("--device", choices=("cpu", "cuda"), help=f"default: {default.device}")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help=f"default: {default.precision}")
    parser.add_argument("--models", nargs="+", help=f"of {', '.join(MODELS)}; default: {' '.join(default.models)}")
    parser.add_argument("--variants", nargs="+", help=f"of {', '.join(VARIANTS)}; default: {default.variants[0]}")
    parser.add_argument("--peak-tflops", type=float, help="a data sheet's figure, for a second MFU")
    for name in COUNTS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"default: {getattr(default, name)}")
    words: dict[str, Any] = vars(parser.parse_args(options))
    # argparse makes lists, and a config is frozen.
    words |= {name: tuple(words[name]) for name in ("models", "variants") if name in words}
    # Its checks raise ValueError, which `cli` tells in one line.
    config = TrainStep(**words)
    from pipeline.bench.train_step import measure  # torch: not before the options are read

    report.publish(f"python -m jobs.bench train_step {' '.join(options)}", measure(config), config.out)


def cli(argv: list[str]) -> None:
    """`main` as a command; what the user can mend is one line and status 2."""
    try:
        signals.work()
        main(argv)
    except signals.Stopped:
        signals.end()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    cli(sys.argv[1:])
