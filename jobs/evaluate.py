"""Judge the demo's networks: reconstructions of held-out digits, and whether generated digits are read as asked.

    python -m jobs.evaluate jobs/configs/evaluate_demo.toml

A support-vector machine trained on the real training digits reads them; its score on the held-out real digits is the
ceiling that stands beside.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from jobs._main import open_run, run
from pipeline.demo import corpus
from pipeline.log import logger
from pipeline.models.config import DecodingConfig, SamplingConfig
from pipeline.ranges import check_range
from pipeline.storage import Store, write_json

if TYPE_CHECKING:
    from pipeline.generate.load import Stack

SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Judge the demo's networks on digits that no network has seen."""

    run_dir: str = "runs/demo/evaluation"
    """Folder for the figures and pictures, any fsspec URL."""
    tokenizer: str = "runs/demo/dvae/tokenizer"
    """Tokenizer package, as jobs.train_dvae leaves it."""
    gpt: str = "runs/demo/gpt"
    """Folder of a jobs.train_gpt run."""
    decoder: str = "runs/demo/decoder"
    """Folder of a jobs.train_decoder run."""
    per_digit: int = 20
    """Generated images of each digit."""
    seed: int = 1
    """Number that the random numbers of the generated images are computed from."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    verbose: bool = False
    """Show the whole of an error."""

    def __post_init__(self) -> None:
        check_range(self, "per_digit", low=1)


def reconstructions(config: Evaluate, stack: "Stack", store: Store) -> dict[str, dict[str, float]]:
    """PSNR of the DVAE and of the decoder behind it, use of the codebook, and bits per code, on held-out digits."""
    # Imported here: torch takes seconds, and a mistake in an option is told before that.
    import torch

    from pipeline.generate.evaluate import bits_per_code, codebook_use
    from pipeline.generate.sample import decode
    from pipeline.tokenize.collate import CodesRow

    images, labels = corpus.heldout()
    # Pictures that were on no page of the demo's web.
    truth = torch.from_numpy(images)
    medium = stack.tokenizer.medium
    codes = stack.tokenizer.encode(truth)
    blurry = stack.tokenizer.decode(codes)
    sharp = decode(stack, blurry, codes, config.decoding, seed=config.seed)
    for name, batch in (("original", truth), ("dvae", blurry), ("decoder", sharp)):
        for i, image in enumerate(batch[:SHOWN].numpy()):
            store.write(f"reconstructions/{i:02d}-{name}.png", medium.write(image))
    rows = [
        CodesRow(
            modality=medium.modality,
            text=corpus.prompt(int(label)),
            codes=grid.flatten().tolist(),
            shape=tuple(grid.shape),
        )
        for label, grid in zip(labels, codes, strict=True)
    ]
    use = codebook_use(codes, stack.tokenizer.codebook_size)
    of_blurry = medium.measure(blurry, truth)
    of_sharp = medium.measure(sharp, truth)
    return {
        "dvae": of_blurry | {"codebook_usage": use.usage, "codebook_perplexity": use.perplexity},
        "gpt": {"bits_per_code": bits_per_code(stack.gpt, stack.grammar, stack.text, rows)},
        "decoder": of_sharp | {f"{name}_dvae": value for name, value in of_blurry.items()},
    }


def generation(config: Evaluate, stack: "Stack", store: Store) -> dict[str, float]:
    """Share of generated digits that are read as their prompt says, and of real ones that are read right."""
    import torch

    from pipeline.demo.judge import DigitJudge
    from pipeline.demo.results import write_generated
    from pipeline.generate.sample import generate

    training, training_labels = corpus.training()
    judge = DigitJudge(torch.from_numpy(training), training_labels)
    heldout, heldout_labels = corpus.heldout()
    # Each digit as often as every other: the share is then no matter of which are easy.
    digits = np.repeat(np.arange(10), config.per_digit)
    prompts = [corpus.prompt(int(digit), corpus.PROMPTS[i % len(corpus.PROMPTS)]) for i, digit in enumerate(digits)]
    drawn = generate(stack, prompts, sampling=config.sampling, decoding=config.decoding, seed=config.seed)
    write_generated(store.sub("generated"), drawn.samples.numpy(), prompts)
    return {
        "digit_accuracy": judge.accuracy(drawn.samples, digits),
        "digit_accuracy_dvae": judge.accuracy(drawn.recon, digits),
        "digit_accuracy_real": judge.accuracy(torch.from_numpy(heldout), heldout_labels),
        "n": len(digits),
    }


def main(config: Evaluate) -> None:
    """Evaluate, or say that it is done."""
    from pipeline.generate.load import load_stack

    stack = load_stack(config.tokenizer, config.gpt, config.decoder)
    store = open_run(config.run_dir, config)
    if store.exists("metrics.json"):
        logger.info("evaluate: nothing left to do in %s", config.run_dir)
        return
    figures = reconstructions(config, stack, store) | {"generation": generation(config, stack, store)}
    write_json(store, "metrics.json", figures)
    for name, values in figures.items():
        logger.info("evaluate: %s %s", name, "  ".join(f"{key} {value:.4g}" for key, value in values.items()))


if __name__ == "__main__":
    run(Evaluate, main)
