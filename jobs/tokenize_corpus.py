"""Turn a curated corpus into integers with a trained tokenizer, and train the text tokenizer on its captions.

python -m jobs.tokenize_corpus jobs/configs/tokenize_corpus_demo.toml
python -m jobs.tokenize_corpus --run-dir s3://b/codes --images s3://b/images --tokenizer s3://b/dvae/tokenizer
python -m jobs.tokenize_corpus ... --views 8 --held-out 0.1    # for a small corpus, which is soon known by heart
"""

from dataclasses import dataclass, field

from jobs._main import open_run, run
from jobs._ray import RayConfig, ray_session
from pipeline.log import logger
from pipeline.manifest import read_manifest
from pipeline.ranges import check_range
from pipeline.storage import Store


@dataclass(frozen=True, kw_only=True)
class TokenizeCorpus:
    """Encode every exported sample of a curation run."""

    run_dir: str
    """Where the tables of codes go."""
    images: str
    """Folder of a finished jobs.curate_images run."""
    tokenizer: str
    """Tokenizer package, as jobs.train_dvae leaves it."""
    views: int = 1
    """Encodings of each sample: the first as it is, the others slightly changed, so that a network cannot learn the
    codes of a small corpus by heart."""
    held_out: float = 0.0
    """Share of the samples that goes to held_out/ in the run_dir, for jobs.train_gpt --held-out; the others are trained
    on."""
    text_vocab_size: int = 512
    """Most ids that the text tokenizer may use; 256 of them are bytes."""
    text: str | None = None
    """Folder of an earlier jobs.tokenize_corpus run whose text tokenizer is used here too, so that both can be
    mixed."""
    ray: RayConfig = field(default_factory=RayConfig)
    verbose: bool = False
    """Show all that Ray says, and the whole of an error."""

    def __post_init__(self) -> None:
        check_range(self, "views", low=1, high=1000)
        check_range(self, "held_out", low=0, below=1)


def main(config: TokenizeCorpus) -> None:
    """Tokenize, or say that it is done."""
    from pipeline.tokenize import corpus  # torch: a mistake in an option is told before it is imported
    from pipeline.tokenize.text import TextTokenizer
    from pipeline.tokenize.tokenizer import load_tokenizer

    source = Store(config.images)
    tokenizer = load_tokenizer(Store(config.tokenizer))
    files = corpus.source_files(source, tokenizer.medium, tokenizer.medium.text_column)
    # Not before the inputs are known to be right: what is refused leaves no folder.
    store = open_run(config.run_dir, config)
    text = TextTokenizer.load(Store(config.text)) if config.text else None
    recipe = corpus.Recipe(views=config.views, held_out=config.held_out)
    identity = corpus.identity(files, tokenizer.sha256, recipe, config.text_vocab_size, text)
    manifest = read_manifest(store, corpus.MANIFEST, corpus.Corpus)
    if manifest and manifest.identity == identity:
        logger.info("tokenize_corpus: nothing left to do in %s", config.run_dir)
        return
    with ray_session(config.ray, verbose=config.verbose):
        corpus.tokenize(
            source,
            files,
            config.tokenizer,
            tokenizer,
            store,
            text_vocab_size=config.text_vocab_size,
            text=text,
            recipe=recipe,
        )


if __name__ == "__main__":
    run(TokenizeCorpus, main)
