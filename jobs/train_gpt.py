"""Train the causal transformer on tables of codes.

python -m jobs.train_gpt jobs/configs/train_gpt_demo.toml
python -m jobs.train_gpt --run-dir s3://b/gpt --codes s3://b/codes --size base --cluster.num-workers 8 --cluster.use-gpu
python -m jobs.train_gpt --run-dir runs/gpt --codes runs/digits/codes runs/photos/codes --weights 0.2 0.8
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jobs._main import run
from jobs._training import TrainJob
from pipeline.config import to_json
from pipeline.models.config import SIZES, GPTConfig
from pipeline.ranges import check_range
from pipeline.storage import Store
from pipeline.train.data.mixture import check_weights

if TYPE_CHECKING:
    from pipeline.exported import NetworkSpec
    from pipeline.tokenize.collate import SequenceCollate
    from pipeline.tokenize.corpus import Corpus
    from pipeline.train.loop import Supervisor
    from pipeline.train.preflight import Workload


@dataclass(frozen=True, kw_only=True)
class TrainGPT(TrainJob):
    """Train the causal transformer."""

    codes: tuple[str, ...]
    """Folder of a finished jobs.tokenize_corpus run; or of several, made with the same tokenizers."""
    weights: tuple[float, ...] = ()
    """Share of the samples of each of `codes`; by default each row comes once an epoch."""
    size: Literal["tiny", "small", "base", "large", "xl"] = "tiny"
    """A row of pipeline.models.config.SIZES."""
    seq_len: int | None = None
    """Longest row in tokens; the size's own by default."""
    text_first: float = 0.5
    """Share of samples whose text comes first, and so conditions the codes."""
    text_weight: float = 0.5
    """Loss weight of a token of text, against 1 of a code: with little of it a model learns to draw, and not to
    read."""
    drop_condition: float = 0.1
    """Share of samples that lose their first segment, for classifier-free guidance."""

    def __post_init__(self) -> None:
        if not self.codes:
            raise ValueError("codes is empty; name a folder, or several")
        if self.weights:
            check_weights(self.weights, self.codes)
        check_range(self, "seq_len", low=1)
        check_range(self, "text_first", "drop_condition", low=0, high=1)
        check_range(self, "text_weight", low=0)

    def model(self, vocab_size: int) -> GPTConfig:
        """Sizes of the network."""
        named = GPTConfig(vocab_size=vocab_size, **SIZES[self.size])
        return dataclasses.replace(named, seq_len=self.seq_len or named.seq_len)

    @property
    def named(self) -> tuple[str, ...]:
        """All folders of codes, the one to evaluate on last."""
        return (*self.codes, self.held_out) if self.held_out else self.codes


def collate_of(config: TrainGPT, corpus: "Corpus", seq_len: int) -> "SequenceCollate":
    """How rows of the corpora become sequences."""
    # Imported here and below: torch and Ray take seconds, and a mistake in an option is told before that.
    from pipeline.tokenize.collate import SequenceCollate
    from pipeline.tokenize.grammar import Grammar
    from pipeline.tokenize.text import TextTokenizer

    return SequenceCollate(
        grammar=Grammar.from_layout(corpus.grammar),
        text=TextTokenizer.load(Store(config.codes[0])),
        tokenizer_sha256=corpus.tokenizer_sha256,
        seq_len=seq_len,
        text_first=config.text_first,
        drop_condition=config.drop_condition,
        text_weight=config.text_weight,
    )


def workload(config: TrainGPT, vocab_size: int | None = None) -> "Workload":
    """The network and the shapes of a row, for a plan; the vocabulary is that of the corpus unless it is given."""
    import torch

    from pipeline.tokenize.corpus import read_corpora
    from pipeline.train.preflight import Workload

    model = config.model(vocab_size or read_corpora(config.named).grammar.vocab_size)
    # Any ids do: what a step costs does not depend on them.
    tokens = torch.arange(model.seq_len)[None] % model.vocab_size  # (1, T)
    row = {"tokens": tokens, "targets": tokens, "weights": torch.ones(1, model.seq_len)}
    return Workload.of("gpt", model, row)


def spec_of(model: GPTConfig, corpus: "Corpus") -> "NetworkSpec":
    """What the weights mean: the sizes, and digests of all that made the sequences."""
    from pipeline.exported import NetworkSpec
    from pipeline.generate.load import TrainedOn

    trained_on = TrainedOn(
        tokenizer_sha256=corpus.tokenizer_sha256, text_sha256=corpus.text_sha256, grammar=corpus.grammar
    )
    return NetworkSpec(kind="gpt", model=to_json(model), facts=to_json(trained_on))


def worker(config: TrainGPT, supervisor: "Supervisor") -> None:
    """What each worker runs."""
    import torch

    from jobs._train import accept
    from pipeline.models.gpt import GPT, gpt_loss
    from pipeline.tokenize.corpus import MANIFEST, read_corpora
    from pipeline.train import ranks
    from pipeline.train.data.mixture import MixedRows
    from pipeline.train.data.rows import Rows
    from pipeline.train.heldout import held_out
    from pipeline.train.loop import Run, train

    corpus = read_corpora(config.named)
    stores = [Store(url) for url in config.named]
    # 1 GiB for a worker, however many corpora there are.
    rows = [Rows.committed(store, MANIFEST, cache_bytes=(1 << 30) // len(stores)) for store in stores]
    # The last one, see `named`.
    unseen = MixedRows([rows.pop()]) if config.held_out else None
    model = config.model(corpus.grammar.vocab_size)
    collate = collate_of(config, corpus, model.seq_len)
    device = ranks.device(config.cluster.use_gpu)
    # Every rank builds the same weights.
    torch.manual_seed(config.train.seed)
    train(
        Run(
            config=config.train,
            network=spec_of(model, corpus),
            store=Store(config.run_dir),
            device=device,
            supervisor=supervisor,
            accepted=lambda: accept(config),
        ),
        model=GPT(model),
        loss_fn=gpt_loss,
        rows=MixedRows(rows, config.weights),
        collate=collate,
        evaluate=held_out(unseen, collate, gpt_loss, config.train, device) if unseen else None,
    )


def main(config: TrainGPT) -> None:
    """Train, or say that it is done."""
    from jobs._train import launch  # torch, as above
    from pipeline.tokenize.corpus import check_rows, read_corpora
    from pipeline.tokenize.text import TextTokenizer

    corpus = read_corpora(config.named)
    check_rows(corpus, config.model(corpus.grammar.vocab_size).seq_len)
    store = Store(config.run_dir)
    if launch(worker, config, "train_gpt") or not store.exists("text.json"):
        TextTokenizer.load(Store(config.codes[0])).save(store)  # so that the folder alone is enough to generate


if __name__ == "__main__":
    run(TrainGPT, main)
