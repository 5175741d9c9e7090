import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.storage import CorruptFileError, Store
from pipeline.tokenize.text import TextTokenizer

WORDS = "zero one two three four five six seven eight nine".split()
CAPTIONS = [
    form.format(word) for word in WORDS for form in ("a handwritten {}", "the digit {}, written by hand", "{} in ink")
]
TOKENIZER = TextTokenizer.train(CAPTIONS, 400)


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_every_string_survives_the_round_trip(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert all(0 <= i < TOKENIZER.vocab_size for i in ids)
    assert TOKENIZER.decode(ids) == text


def test_training_depends_on_the_texts_and_not_on_their_order() -> None:
    shuffled = CAPTIONS.copy()
    random.Random(0).shuffle(shuffled)
    assert TextTokenizer.train(shuffled, 400) == TOKENIZER
    assert TextTokenizer.train(CAPTIONS + ["a handwritten seven"] * 50, 400) != TOKENIZER


def test_known_words_become_few_tokens_and_unknown_ones_bytes() -> None:
    assert 256 < TOKENIZER.vocab_size <= 400
    assert len(TOKENIZER.encode("a handwritten seven")) == 3
    assert len(TOKENIZER.encode("ж")) == 2


def test_saved_and_pickled_it_is_the_same(tmp_path: object) -> None:
    store = Store(str(tmp_path))
    TOKENIZER.save(store)
    for again in (TextTokenizer.load(store), pickle.loads(pickle.dumps(TOKENIZER))):
        assert again == TOKENIZER and again.sha256 == TOKENIZER.sha256
        assert again.encode("two in ink") == TOKENIZER.encode("two in ink")


def test_a_vocabulary_smaller_than_the_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="vocab_size 255"):
        TextTokenizer.train(CAPTIONS, 255)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(padding={"strategy": {"Fixed": 10**12}}),
        lambda value: value.update(truncation={"max_length": 0}),
        lambda value: value.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a*)*b"}}),
        lambda value: value.update(normalizer={"type": "Lowercase"}),
        lambda value: value.update(more=1),
        lambda value: value.update(normalizer={"type": "Lowercase"}, model=value["model"] | {"normalizer": None}),
        lambda value: value.update(added_tokens=[{"id": 10**9, "content": "a"}]),
        lambda value: value.update(model=[]),
        lambda value: value["model"].update(type="WordPiece"),
        lambda value: value["model"].update(dropout=0.5),
        lambda value: value["model"].update(vocab=[]),
        lambda value: value["model"].update(vocab={}),
        lambda value: value["model"]["vocab"].update({"!": 2**31}),
        lambda value: value["model"]["vocab"].update({"!": "0"}),
        lambda value: value["model"]["vocab"].update({"!": 1}),
        lambda value: value["model"]["merges"].append(["zz", "zzz"]),
        lambda value: value["model"].update(merges=[1]),
        lambda value: value["model"].pop("merges"),
    ],
)
def test_a_file_of_another_tokenizer_is_refused_before_the_library_reads_it(
    tmp_path: Path, change: Callable[[Any], Any]
) -> None:
    change(value := json.loads(TOKENIZER.json))
    (tmp_path / "text.json").write_text(json.dumps(value))
    with pytest.raises(CorruptFileError, match=r"text\.json is not a text tokenizer of jobs.tokenize_corpus: .*; name"):
        TextTokenizer.load(Store(str(tmp_path)))


@pytest.mark.parametrize("data", [b"", b"nonsense", b"[]", b"\xff\xfe\x00", b"[" * 10**5])
def test_what_is_no_tokenizer_is_named(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"there is no text tokenizer at .*text\.json; run jobs.tokenize_corpus"):
        TextTokenizer.load(Store(str(tmp_path)))
    (tmp_path / "text.json").write_bytes(data)
    with pytest.raises(CorruptFileError, match=r"text\.json (is not valid JSON|holds a list)"):
        TextTokenizer.load(Store(str(tmp_path)))
