"""The sequence grammar: text, pictures and sound as one stream of integers, segments in any order.

    <bos> (<text> … </text> | <image> h w … </image> | <audio> … </audio>)* <eos>

One vocabulary holds, in this order: control ids, sizes (h and w, from 1), text ids, image codes, audio codes, and
unused ids up to a multiple of 64. The body of any segment may be `<null>` instead: the condition left out, for
classifier-free guidance. An image holds exactly h * w codes.

Guarantees: `build` makes legal sequences and `parse` inverts it; following `allowed` from `START`, a sampler can make
nothing else; ids of one kind can never be taken for another's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np

Modality = Literal["text", "image", "audio"]

MODALITIES: tuple[Modality, ...] = get_args(Modality)
PAD, BOS, EOS, NULL = range(4)
_OPEN: dict[Modality, int] = {"text": 4, "image": 6, "audio": 8}
_CLOSE: dict[Modality, int] = {"text": 5, "image": 7, "audio": 9}
_CONTROL = 16
"""Ids kept for control; those above the last one named are for later use."""
_MOST = 1 << 24
"""Ids of a modality in a saved layout: a quantizer counts in float32, which goes no further."""


@dataclass(frozen=True)
class Segment:
    """One piece of a sequence. `codes` None is the condition left out; `shape` (h, w) belongs to images alone."""

    modality: Modality
    codes: tuple[int, ...] | None
    shape: tuple[int, int] | None = None


@dataclass(frozen=True)
class State:
    """Where in a sequence one is: made by `Grammar.step`, starting with `START`."""

    place: Literal["start", "outside", "body", "height", "width", "close", "end"]
    modality: Modality | None = None
    count: int = 0
    """In an image the number of codes still to come (or its height, before the width); in others that of ids so far."""


START = State("start")


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """The layout of the vocabulary. A size of 0 leaves a modality out."""

    text_size: int
    image_size: int = 0
    audio_size: int = 0
    max_side: int = 64
    """Largest height and width of an image, in codes."""

    def __post_init__(self) -> None:
        if min(self.text_size, self.image_size, self.audio_size, self.max_side) < 0 or not self.max_side:
            raise ValueError(f"sizes must not be negative, and max_side at least 1: {self}")

    @classmethod
    def from_json(cls, layout: Any) -> "Grammar":
        """The grammar of a saved layout; ValueError if it is none, or its offsets are not those that this code
        computes."""
        if not isinstance(layout, dict):
            raise ValueError(
                f"the vocabulary is laid out in a {type(layout).__name__}; make the corpus or the model again"
            )
        sizes = {name: layout.get(name) for name in ("text_size", "image_size", "audio_size", "max_side")}
        for name, size in sizes.items():
            if type(size) is not int or not 0 <= size <= _MOST:
                raise ValueError(
                    f"the {name} of the vocabulary is {size!r:.60}, and no integer from 0 to {_MOST}; make the "
                    "corpus or the model again"
                )
        grammar = cls(**sizes)
        if grammar.to_json() != layout:
            raise ValueError(
                f"the vocabulary was laid out otherwise: {layout!s:.400} is not {grammar.to_json()}; make the "
                "corpus or the model again"
            )
        return grammar

    def to_json(self) -> dict[str, Any]:
        """The layout with its offsets spelt out, as JSON types."""
        return {
            "text_size": self.text_size,
            "image_size": self.image_size,
            "audio_size": self.audio_size,
            "max_side": self.max_side,
            "offsets": {name: self.offset(name) for name in MODALITIES},
            "vocab_size": self.vocab_size,
        }

    def size(self, modality: Modality) -> int:
        """Number of ids of a modality."""
        return {"text": self.text_size, "image": self.image_size, "audio": self.audio_size}[modality]

    def offset(self, modality: Modality) -> int:
        """The first id of a modality."""
        return _CONTROL + self.max_side + sum(self.size(m) for m in MODALITIES[: MODALITIES.index(modality)])

    @property
    def vocab_size(self) -> int:
        """Number of ids, a multiple of 64."""
        return -(-(self.offset("audio") + self.audio_size) // 64) * 64

    def modalities(self, ids: np.ndarray) -> np.ndarray:
        """Of each id, 1 + the place of its modality in MODALITIES as int8; 0 for control, sizes and unused ids."""
        starts = [self.offset(name) for name in MODALITIES] + [self.offset("audio") + self.audio_size]
        return (np.searchsorted(starts, ids, side="right") % (len(MODALITIES) + 1)).astype(np.int8)

    def build(self, segments: Iterable[Segment]) -> np.ndarray:
        """The ids (T,) int64 of a sequence; ValueError names a code or a shape that does not fit."""
        parts = [np.array([BOS]), *(self.build_segment(s) for s in segments), np.array([EOS])]
        return np.concatenate(parts).astype(np.int64)

    def build_segment(self, segment: Segment) -> np.ndarray:
        """The ids of one segment, its markers included."""
        name = segment.modality
        if segment.codes is None:
            return np.array([_OPEN[name], NULL, _CLOSE[name]])
        codes = np.asarray(segment.codes, dtype=np.int64)
        if codes.size and not (0 <= codes.min() and codes.max() < self.size(name)):
            raise ValueError(f"{name} codes from {codes.min()} to {codes.max()} do not fit into {self.size(name)}")
        head = [_OPEN[name]] + (self.build_shape(segment.shape, codes.size) if name == "image" else [])
        return np.concatenate([head, codes + self.offset(name), [_CLOSE[name]]]).astype(np.int64)

    def build_shape(self, shape: tuple[int, int] | None, num_codes: int) -> list[int]:
        """The two ids of an image's shape; ValueError if it is not that of `num_codes` codes."""
        if shape is None or len(shape) != 2 or not all(1 <= side <= self.max_side for side in shape):
            raise ValueError(f"an image needs a shape (h, w) from 1 to {self.max_side}, not {shape}")
        if shape[0] * shape[1] != num_codes:
            raise ValueError(f"an image of shape {shape} has {shape[0] * shape[1]} codes, not {num_codes}")
        return [_CONTROL + side - 1 for side in shape]

    def parse(self, ids: Sequence[int] | np.ndarray) -> list[Segment]:
        """The segments of a whole sequence; ValueError names the place of an illegal id."""
        segments: list[Segment] = []
        state, body = START, []
        for position, token in enumerate(int(i) for i in ids):
            try:
                after = self.step(state, token)
            except ValueError as error:
                raise ValueError(f"position {position}: {error}") from error
            if after.place == "outside" and state.place != "start":
                segments.append(self._segment(state.modality, body))
                body = []
            elif state.place in ("body", "height", "width"):
                body.append(token)
            state = after
        if state.place != "end":
            raise ValueError(f"the sequence of {len(ids)} ids stops before <eos>")
        return segments

    def _segment(self, modality: Modality, body: list[int]) -> Segment:
        if body == [NULL]:
            return Segment(modality, None)
        shape = (body[0] - _CONTROL + 1, body[1] - _CONTROL + 1) if modality == "image" else None
        codes = body[2:] if modality == "image" else body
        return Segment(modality, tuple(i - self.offset(modality) for i in codes), shape)

    def allowed(self, state: State) -> tuple[tuple[int, int], ...]:
        """The ids that may come next, as ranges [start, end). `<null>` is legal too but is never offered: it is an
        input, not something to be said."""
        name, count = state.modality, state.count
        match state.place:
            case "start":
                return _one(BOS)
            case "outside":
                return *(span for m in MODALITIES if self.size(m) for span in _one(_OPEN[m])), *_one(EOS)
            case "height" | "width":
                return ((_CONTROL, _CONTROL + self.max_side),)
            case "body":
                span = (self.offset(name), self.offset(name) + self.size(name))
                if name == "image":
                    return (span,) if count else _one(_CLOSE[name])
                return (span, *_one(_CLOSE[name]))
            case "close":
                return _one(_CLOSE[name])
            case "end":
                return _one(PAD)

    def step(self, state: State, token: int) -> State:
        """The state after `token`; ValueError if it is illegal here."""
        name, count = state.modality, state.count
        if token == NULL and (state.place == "height" or (state.place == "body" and name != "image" and not count)):
            return State("close", name)
        if not any(start <= token < end for start, end in self.allowed(state)):
            raise ValueError(f"id {token} cannot follow in {state}; allowed are {self.allowed(state)}")
        match state.place:
            case "start":
                return State("outside")
            case "outside":
                opened = next((m for m in MODALITIES if _OPEN[m] == token), None)
                if opened is None:
                    return State("end")
                return State("height" if opened == "image" else "body", opened)
            case "height":
                return State("width", name, token - _CONTROL + 1)
            case "width":
                return State("body", name, count * (token - _CONTROL + 1))
            case "body" if token != _CLOSE[name]:
                return State("body", name, count - 1 if name == "image" else count + 1)
            case "body" | "close":
                return State("outside")
        return state  # padding after the end

    def mask(self, state: State) -> np.ndarray:
        """`allowed` as a read-only array (vocab_size,) of bool."""
        return _mask(self.vocab_size, self.allowed(state))


def _one(token: int) -> tuple[tuple[int, int], ...]:
    return ((token, token + 1),)


@lru_cache(maxsize=256)
def _mask(vocab_size: int, spans: tuple[tuple[int, int], ...]) -> np.ndarray:
    mask = np.zeros(vocab_size, dtype=bool)
    for start, end in spans:
        mask[start:end] = True
    mask.flags.writeable = False
    return mask
