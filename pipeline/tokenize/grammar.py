"""The sequence grammar: text, pictures and sound as one stream of integers, segments in any order.

    <bos> (<text> … </text> | <image> h w … </image> | <audio> … </audio>)* <eos>

One vocabulary holds, in this order: control ids, sizes (h and w, from 1), text ids, image codes, audio codes, and
unused ids up to a multiple of 64. The body of any segment may be `<null>` instead: the condition left out, for
classifier-free guidance. An image holds exactly h * w codes.

Guarantees: `build` makes legal sequences and `parse` inverts it; following `allowed` from `START`, a sampler can make
nothing else; ids of one kind can never be taken for another's.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from pipeline.models.config import MAX_CODES, MODALITIES, Modality

PAD, BOS, EOS, NULL = range(4)
_OPEN: dict[Modality, int] = {"text": 4, "image": 6, "audio": 8}
_CLOSE: dict[Modality, int] = {"text": 5, "image": 7, "audio": 9}
SHAPED: frozenset[Modality] = frozenset({"image"})
"""Modalities whose segments begin with their height and width; the others say where they end."""
_CONTROL = 16
"""Ids kept for control; those above the last one named are for later use."""


@dataclass(frozen=True)
class Segment:
    """One piece of a sequence. `codes` None is the condition left out; `shape` (h, w) belongs to SHAPED alone."""

    modality: Modality
    codes: tuple[int, ...] | None
    shape: tuple[int, int] | None = None

    @classmethod
    def of_codes(cls, modality: Modality, codes: Sequence[int], shape: Sequence[int]) -> "Segment":
        """The segment of a sample whose codes, in raster order, have this shape."""
        if modality not in SHAPED:
            return cls(modality, tuple(codes))
        height, width = shape
        return cls(modality, tuple(codes), (height, width))


@dataclass(frozen=True)
class State:
    """Where in a sequence one is: made by `Grammar.step`, starting with `START`."""

    place: Literal["start", "outside", "body", "height", "width", "close", "end"]
    modality: Modality = "text"
    """Within a segment: whose; elsewhere without meaning."""
    count: int = 0
    """In an image the number of codes still to come (or its height, before the width); in others that of ids so far."""


START = State("start")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A vocabulary as it is saved beside what was made with it."""

    text_size: int
    image_size: int
    audio_size: int
    max_side: int
    offsets: Mapping[str, int]
    """The first id of each modality."""
    vocab_size: int

    def __post_init__(self) -> None:
        for name in ("text_size", "image_size", "audio_size", "max_side"):
            size = getattr(self, name)
            if not 0 <= size <= MAX_CODES:
                raise ValueError(
                    f"the {name} of the vocabulary is {size!r:.60}, and no integer from 0 to {MAX_CODES}; make the "
                    "corpus or the model again"
                )


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
    def of(cls, sizes: Mapping[Modality, int], max_side: int) -> "Grammar":
        """The grammar of modalities with so many ids each."""
        return cls(**{f"{name}_size": size for name, size in sizes.items()}, max_side=max_side)

    @classmethod
    def from_layout(cls, layout: Layout) -> "Grammar":
        """The grammar of a saved layout; ValueError if its offsets are not those that this code computes."""
        grammar = cls(
            text_size=layout.text_size,
            image_size=layout.image_size,
            audio_size=layout.audio_size,
            max_side=layout.max_side,
        )
        if grammar.layout != layout:
            raise ValueError(
                f"the vocabulary was laid out otherwise: {layout!s:.400} is not {grammar.layout}; make the "
                "corpus or the model again"
            )
        return grammar

    @property
    def layout(self) -> Layout:
        """The sizes, with the offsets spelt out."""
        return Layout(
            text_size=self.text_size,
            image_size=self.image_size,
            audio_size=self.audio_size,
            max_side=self.max_side,
            offsets={name: self.offset(name) for name in MODALITIES},
            vocab_size=self.vocab_size,
        )

    def size(self, modality: Modality) -> int:
        """Number of ids of a modality."""
        return {"text": self.text_size, "image": self.image_size, "audio": self.audio_size}[modality]

    def offset(self, modality: Modality) -> int:
        """The first id of a modality."""
        return _CONTROL + self.max_side + sum(self.size(m) for m in MODALITIES[: MODALITIES.index(modality)])

    @property
    def vocab_size(self) -> int:
        """Number of ids, a multiple of 64."""
        return -(-self._end // 64) * 64

    @property
    def _end(self) -> int:
        """The first id after the last modality."""
        last = MODALITIES[-1]
        return self.offset(last) + self.size(last)

    def modalities(self, ids: np.ndarray) -> np.ndarray:
        """For ids of any shape, 1 + the place of each one's modality in MODALITIES as int8; 0 for control, sizes and
        unused ids."""
        starts = [self.offset(name) for name in MODALITIES] + [self._end]
        interval = np.searchsorted(starts, ids, side="right")  # 0 before the first modality, 1 + their number after all
        return (interval % (len(MODALITIES) + 1)).astype(np.int8)

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
        head = self.build_head(name, segment.shape)
        if segment.shape is not None and math.prod(segment.shape) != codes.size:
            raise ValueError(
                f"an {name} of shape {segment.shape} has {math.prod(segment.shape)} codes, not {codes.size}"
            )
        return np.concatenate([head, codes + self.offset(name), [_CLOSE[name]]]).astype(np.int64)

    def build_head(self, modality: Modality, shape: tuple[int, ...] | None) -> list[int]:
        """The ids of a segment up to where its codes begin; ValueError for a shape (h, w) that an image cannot have."""
        if modality not in SHAPED:
            return [_OPEN[modality]]
        if shape is None or len(shape) != 2 or not all(1 <= side <= self.max_side for side in shape):
            raise ValueError(f"an {modality} needs a shape (h, w) from 1 to {self.max_side}, not {shape}")
        return [_OPEN[modality], *(_CONTROL + side - 1 for side in shape)]

    def parse(self, ids: Sequence[int] | np.ndarray) -> list[Segment]:
        """The segments of a whole sequence; ValueError names the place of an illegal id."""
        segments: list[Segment] = []
        body: list[int] = []
        state = START
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
        if modality not in SHAPED:
            return Segment(modality, tuple(i - self.offset(modality) for i in body))
        height, width, *codes = body
        shape = (height - _CONTROL + 1, width - _CONTROL + 1)
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
                if name in SHAPED:
                    return (span,) if count else _one(_CLOSE[name])
                return (span, *_one(_CLOSE[name]))
            case "close":
                return _one(_CLOSE[name])
            case "end":
                return _one(PAD)

    def step(self, state: State, token: int) -> State:
        """The state after `token`; ValueError if it is illegal here."""
        name, count = state.modality, state.count
        is_first = state.place == "height" or (state.place == "body" and name not in SHAPED and count == 0)
        if token == NULL and is_first:
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
                return State("height" if opened in SHAPED else "body", opened)
            case "height":
                return State("width", name, token - _CONTROL + 1)
            case "width":
                return State("body", name, count * (token - _CONTROL + 1))
            case "body" if token != _CLOSE[name]:
                return State("body", name, count - 1 if name in SHAPED else count + 1)
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
