"""The whole stack on one machine: a small web on loopback, both curations, the three networks, pictures, a report.

    python -m jobs.demo                                        # into runs/demo, fifteen to twenty minutes on two cores
    python -m jobs.demo --profile debug --run-dir /tmp/demo    # a reduced size: shows that it runs, learns little
Run it again after a kill: it goes on. Run it again when it is done: it says so and changes nothing.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs._main import open_run, run
from pipeline.config import digest
from pipeline.demo.report import render
from pipeline.demo.runner import Meter, run_job
from pipeline.log import logger
from pipeline.storage import Store, read_json, write_json

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Run every job of the project on the embedded demo corpus."""

    run_dir: str = "runs/demo"
    """A local folder."""
    profile: Literal["demo", "debug"] = "demo"
    """Which configs to use: jobs/configs/*_demo.toml, or *_debug.toml for a reduced size."""
    port: int = 8765
    """Port of the demo's web, which takes the next one too, on 127.0.0.1 only; URLs, and so keys, hold it."""
    verbose: bool = False
    """Show the whole of an error."""


def main(config: Demo) -> None:
    """Run what is left to do."""
    # Imported here: torch takes seconds, and a mistake in an option is told before that.
    from pipeline.demo import results

    store = Store(config.run_dir)
    identity = digest({"profile": config.profile, "port": config.port})
    if (
        store.exists("report.json")
        and store.exists("report.html")
        and read_json(store, "demo.json")["identity"] == identity
    ):
        logger.info("demo: nothing left to do; open %s/report.html", config.run_dir)
        return
    store = open_run(config.run_dir, config)
    write_json(store, "demo.json", {"identity": identity})
    with Meter(store) as meter:
        _curate(config)
        _train(config)
        report = results.collect(store, wall_s=meter.wall_s, peak_rss_gb=meter.peak_rss_gb)
    store.write("report.html", render(report.page).encode())
    write_json(store, "report.json", report.figures)
    generation = report.evaluation["generation"]
    logger.info(
        "demo: done in %.0f s; %.1f %% of %d generated digits read as asked (real ones: %.1f %%), %.1f %% of them "
        "copies; open %s/report.html",
        report.figures["wall_s"],
        100 * generation["digit_accuracy"],
        generation["n"],
        100 * generation["digit_accuracy_real"],
        100 * generation["copies"],
        config.run_dir,
    )


def _curate(config: Demo) -> None:
    from pipeline.demo import site
    from pipeline.demo.server import DemoServer

    if all(Store(f"{config.run_dir}/{corpus}").exists("ledger.json") for corpus in ("images", "speech")):
        return
    with DemoServer(config.port) as server:
        sources = {"images": site.image_sources(), "speech": site.speech_sources()}
        for corpus, listings in sources.items():
            _job(
                config,
                f"curate_{corpus}",
                corpus,
                "--sources",
                *(f"{kind}={server.url(path)}" for kind, path in listings),
            )


def _train(config: Demo) -> None:
    at = config.run_dir
    as_fast = () if multiplies_bf16() else ("--train.engine.precision", "fp32")
    _job(config, "train_dvae", "dvae", "--images", f"{at}/images", *as_fast)
    _job(config, "tokenize_corpus", "codes", "--images", f"{at}/images", "--tokenizer", f"{at}/dvae/tokenizer")
    _job(config, "train_gpt", "gpt", "--codes", f"{at}/codes", "--held-out", f"{at}/codes/held_out", *as_fast)
    _job(
        config, "train_decoder", "decoder", "--images", f"{at}/images", "--tokenizer", f"{at}/dvae/tokenizer", *as_fast
    )
    models = ("--tokenizer", f"{at}/dvae/tokenizer", "--gpt", f"{at}/gpt", "--decoder", f"{at}/decoder")
    # It would be drawn anew each time, and a demo that is done changes no byte.
    if not Store(at).exists("grid.png"):
        options = ("--prompt", "a handwritten seven", "--num", "16", "--out", f"{at}/grid.png")
        run_job("generate", [str(CONFIGS / f"generate_{config.profile}.toml"), *models, *options])
    _job(config, "evaluate", "evaluation", *models, "--codes", f"{at}/codes")


def multiplies_bf16() -> bool:
    """True if this CPU has instructions for bf16; without them products in bf16 take 40 times as long as in fp32."""
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8").split()
    except OSError:
        return False
    return not {"amx_bf16", "avx512_bf16", "bf16"}.isdisjoint(flags)


def _job(config: Demo, name: str, folder: str, *options: str) -> None:
    verbose = ["--verbose"] if config.verbose else []
    arguments = [
        str(CONFIGS / f"{name}_{config.profile}.toml"),
        "--run-dir",
        f"{config.run_dir}/{folder}",
        *options,
        *verbose,
    ]
    print(f"$ python -m jobs.{name} {' '.join(arguments)}", file=sys.stderr)
    run_job(name, arguments)


if __name__ == "__main__":
    run(Demo, main)
