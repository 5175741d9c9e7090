"""Captions and transcripts to integers: byte-level BPE, trained on the corpus at hand.

Every string has an encoding, because all 256 bytes are in the vocabulary, and decodes to itself. Training depends on
the texts and their counts alone, never on their order. A file that was not written here is read with suspicion.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pipeline import foreign
from pipeline.storage import CorruptFileError, Store

_FILE_BYTES = 16 << 20
"""A vocabulary of 250,000 ids takes as much."""


@dataclass(frozen=True)
class TextTokenizer:
    """A trained tokenizer, as the JSON that the `tokenizers` library reads; cheap to pickle."""

    json: str

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "TextTokenizer":
        """Learn at most `vocab_size` - 256 merges; ValueError if the bytes alone do not fit."""
        if vocab_size < 256:
            raise ValueError(f"vocab_size {vocab_size} is too small: the 256 bytes alone need 256")
        tokenizer = _untrained()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
        tokenizer.train_from_iterator(sorted(texts), trainer)
        return cls(tokenizer.to_str())

    @classmethod
    def load(cls, store: Store, name: str = "text.json") -> "TextTokenizer":
        """Read what `save` wrote; ValueError if there is none, CorruptFileError if it is anything else.

        The library knows far more kinds of tokenizers, and some take memory or time without end; so only a vocabulary
        and its merges may differ from what `train` makes.
        """
        where = f"{store.url}/{name}"
        try:
            data = foreign.read(store, name, _FILE_BYTES)
        except FileNotFoundError as error:
            raise ValueError(f"there is no text tokenizer at {where}; run jobs.tokenize_corpus") from error
        fault = _fault(foreign.parsed(data, where))
        if not fault:
            try:
                loaded = cls(data.decode())
                loaded.vocab_size  # noqa: B018 - the library reads it, and checks the merges
                return loaded
            except Exception as error:  # noqa: BLE001 - it raises nothing narrower
                fault = f"{error!s:.160}"
        raise CorruptFileError(
            f"{where} is not a text tokenizer of jobs.tokenize_corpus: {fault}; name the folder of a finished run"
        )

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


def _untrained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _fault(values: Mapping[str, object]) -> str | None:
    """What makes the JSON of a tokenizer another thing than `train` leaves, but for its vocabulary and merges."""
    ours = json.loads(_untrained().to_str())
    model = values.get("model")
    if not isinstance(model, dict):
        return f"its model is a {type(model).__name__}"
    for own, given in ((ours | {"model": model}, values), (ours["model"], model)):
        for key in sorted(given.keys() - {"vocab", "merges"}):  # what another version of the library lacks is no matter
            if key not in own or given[key] != own[key]:
                return f"its {foreign.shown(key)} is {foreign.shown(given[key])}"
    vocab = model.get("vocab")
    if not isinstance(vocab, dict) or not all(type(i) is int for i in vocab.values()):
        return "its vocabulary does not map pieces to ids"
    if sorted(vocab.values()) != list(range(len(vocab))):
        return f"its {len(vocab)} ids are not those from 0 on, each once"
    if missing := set(pre_tokenizers.ByteLevel.alphabet()) - vocab.keys():
        return f"its vocabulary lacks {len(missing)} of the 256 bytes"
    return None
