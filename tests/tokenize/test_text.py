import pickle
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.storage import Store
from pipeline.tokenize.text import TextTokenizer

WORDS = "zero one two three four five six seven eight nine".split()
CAPTIONS = [form.format(word) for word in WORDS
            for form in ("a handwritten {}", "the digit {}, written by hand", "{} in ink")]
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
