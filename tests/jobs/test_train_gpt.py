"""The transformer on several corpora, in one process and without Ray."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from jobs.train_gpt import TrainGPT, worker
from pipeline import records
from pipeline.config import to_json
from pipeline.manifest import write_sealed
from pipeline.storage import Store, read_json, write_parquet
from pipeline.tokenize.grammar import Grammar
from pipeline.tokenize.text import TextTokenizer
from pipeline.train import metrics
from pipeline.train.config import EngineConfig, TrainConfig
from pipeline.train.loop import Supervisor

torch.set_num_threads(1)
TOKENIZER = "f" * 64


def corpus(folder: Path, rows: int, words: str = "a picture") -> str:
    """A tokenized corpus of pictures of 2 x 2 codes below 16."""
    store, noise = Store(str(folder)), np.random.default_rng(rows)
    table = pa.Table.from_pylist(
        [
            {
                "key": f"{folder.name}-{i}",
                "modality": "image",
                "text": f"picture {i}",
                "codes": noise.integers(0, 16, 4).tolist(),
                "shape": [2, 2],
                "tokenizer_sha256": TOKENIZER,
            }
            for i in range(rows)
        ],
        schema=records.CODES,
    )
    text = TextTokenizer.train([words], 260)
    text.save(store)
    grammar = Grammar(text_size=text.vocab_size, image_size=16, max_side=2)
    write_sealed(
        store,
        "manifest.json",
        {
            "identity": folder.name,
            "tokenizer_sha256": TOKENIZER,
            "text_sha256": text.sha256,
            "grammar": to_json(grammar.layout),
            "files": [asdict(write_parquet(store, "codes/{sha256}.parquet", table, 8))],
        },
    )
    return store.url


def test_two_corpora_are_mixed_by_weight_and_the_mix_is_part_of_the_run(tmp_path: Path) -> None:
    train = TrainConfig(steps=4, global_batch=10, log_every=2, checkpoint_every=2, engine=EngineConfig(backend="torch"))
    codes = corpus(tmp_path / "a", 20), corpus(tmp_path / "b", 50)
    config = TrainGPT(run_dir=str(tmp_path / "run"), codes=codes, weights=(3, 2), seq_len=64, train=train)
    worker(config, Supervisor())
    store = Store(config.run_dir)
    assert [line["step"] for line in metrics.read(store) if "loss" in line] == [2, 4]
    assert read_json(store, "model/config.json")["facts"]["tokenizer_sha256"] == TOKENIZER
    longer = replace(config, train=replace(train, steps=6))
    for other in (replace(longer, weights=(2, 3)), replace(longer, weights=()), replace(longer, codes=codes[::-1])):
        with pytest.raises(ValueError, match="trained on other samples: the dataset, a weight"):
            worker(other, Supervisor())
    worker(replace(longer, weights=(0.6, 0.4)), Supervisor())  # the same shares
    with pytest.raises(ValueError, match=r"/c and .*/a were made with different tokenizers \(text_sha256"):
        worker(replace(config, codes=(codes[0], corpus(tmp_path / "c", 20, "other words"))), Supervisor())


@pytest.mark.parametrize(
    ("name", "value"),
    [("seq_len", 0), ("seq_len", -5), ("text_first", 1.5), ("drop_condition", -0.1), ("text_first", float("nan"))],
)
def test_bad_values_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} is {value}; use "):
        TrainGPT(run_dir="r", codes=("a",), **{name: value})


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="codes is empty"):
        TrainGPT(run_dir="r", codes=())
    with pytest.raises(ValueError, match=r"weights are \(1.0,\) for 2 datasets"):
        TrainGPT(run_dir="r", codes=("a", "b"), weights=(1.0,))
