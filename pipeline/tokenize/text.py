"""Captions and transcripts to integers: byte-level BPE, trained on the corpus at hand.

Every string has an encoding, because all 256 bytes are in the vocabulary, and decodes to itself. Training depends on
the texts and their counts alone, never on their order.
"""
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pipeline.storage import Store


@dataclass(frozen=True)
class TextTokenizer:
    """A trained tokenizer, as the JSON that the `tokenizers` library reads; cheap to pickle."""

    json: str

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "TextTokenizer":
        """Learn at most `vocab_size` - 256 merges; ValueError if the bytes alone do not fit."""
        if vocab_size < 256:
            raise ValueError(f"vocab_size {vocab_size} is too small: the 256 bytes alone need 256")
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False,
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        tokenizer.train_from_iterator(sorted(texts), trainer)
        return cls(tokenizer.to_str())

    @classmethod
    def load(cls, store: Store, name: str = "text.json") -> "TextTokenizer":
        """Read what `save` wrote."""
        return cls(store.read(name).decode())

    def save(self, store: Store, name: str = "text.json") -> None:
        """Write it as one JSON file."""
        store.write(name, self.json.encode())

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_str(self.json)

    def __getstate__(self) -> dict[str, str]:
        return {"json": self.json}

    def __setstate__(self, state: dict[str, str]) -> None:
        object.__setattr__(self, "json", state["json"])

    @cached_property
    def vocab_size(self) -> int:
        """Number of ids, from 256 up to what training was allowed."""
        return self._tokenizer.get_vocab_size()

    @cached_property
    def sha256(self) -> str:
        """Names the tokenizer in what was trained with it."""
        return hashlib.sha256(self.json.encode()).hexdigest()

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of a text."""
        return tuple(self._tokenizer.encode(text).ids)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How many ids each text has; in several threads."""
        return [len(encoding) for encoding in self._tokenizer.encode_batch(list(texts))]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; bytes that form no UTF-8 become the replacement character."""
        return self._tokenizer.decode(list(ids))
