"""Judge the demo's networks: reconstructions of held-out digits, and digits drawn from text.

    python -m jobs.evaluate jobs/configs/evaluate_demo.toml

A support-vector machine trained on the real training digits reads what is drawn; its score on the held-out real digits
is the ceiling that stands beside. A judge rewards copies, so their share stands beside too, and how far the drawn
digits are from held-out ones as a set, and what a table of frequencies would have made of the held-out codes.
"""

from dataclasses import dataclass, field

from jobs._main import open_run, run
from pipeline.log import logger
from pipeline.models.config import DecodingConfig, SamplingConfig
from pipeline.ranges import check_range
from pipeline.storage import Store, write_json


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Judge the demo's networks on digits that no network has seen."""

    run_dir: str = "runs/demo/evaluation"
    """Folder for the figures and pictures, any fsspec URL."""
    tokenizer: str = "runs/demo/dvae/tokenizer"
    """Tokenizer package, as jobs.train_dvae leaves it."""
    gpt: str = "runs/demo/gpt"
    """Folder of a jobs.train_gpt run."""
    codes: str = "runs/demo/codes"
    """Folder of the jobs.tokenize_corpus run that the transformer was trained on."""
    decoder: str = "runs/demo/decoder"
    """Folder of a jobs.train_decoder run."""
    per_digit: int = 36
    """Generated images of each digit."""
    seed: int = 1
    """Number that the random numbers of the generated images are computed from."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    verbose: bool = False
    """Show the whole of an error."""

    def __post_init__(self) -> None:
        check_range(self, "per_digit", low=1)


def main(config: Evaluate) -> None:
    """Evaluate, or say that it is done."""
    # Imported here: torch takes seconds, and a mistake in an option is told before that.
    from pipeline.demo import evaluation, results
    from pipeline.generate.load import load_stack
    from pipeline.tokenize.collate import CodesRow
    from pipeline.tokenize.corpus import read_rows

    stack = load_stack(config.tokenizer, config.gpt, config.decoder)
    known = [CodesRow.of(row) for row in read_rows(Store(config.codes))]
    store = open_run(config.run_dir, config)
    if store.exists("metrics.json"):
        logger.info("evaluate: nothing left to do in %s", config.run_dir)
        return
    samples = evaluation.generated(stack, config.per_digit, config.sampling, config.decoding, config.seed)
    figures = evaluation.reconstructions(stack, config.decoding, config.seed, store.sub("reconstructions"))
    figures |= {"gpt": evaluation.likelihood(stack, known)}
    figures |= {"generation": evaluation.generation(stack, samples, known, config.seed)}
    results.write_generated(store.sub("generated"), samples.drawn.samples.numpy(), samples.prompts)
    write_json(store, "metrics.json", figures)
    for name, values in figures.items():
        logger.info("evaluate: %s %s", name, "  ".join(f"{key} {value:.4g}" for key, value in values.items()))


if __name__ == "__main__":
    run(Evaluate, main)
