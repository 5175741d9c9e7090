"""Rows to micro-batches, one collate per network.

Each is a frozen dataclass, called with a table of n rows and a `Draw`, and returns CPU tensors. All randomness of a
sample (order, dropped condition, noise, timestep, corruption) comes from the Draw, under a purpose named here, so a
sample's tensors never depend on its neighbours.

Letters: n rows of a table, C channels, H, W pixels, h, w codes, K components of a code vector, T tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.models.config import NUM_TIMESTEPS, DVAEConfig, Modality
from pipeline.tokenize.grammar import Grammar, Segment
from pipeline.tokenize.media import Medium
from pipeline.tokenize.packing import pack
from pipeline.tokenize.text import TextTokenizer
from pipeline.tokenize.tokenizer import Tokenizer


class Draw(Protocol):
    """Random numbers of the n rows of a table, each a function of (seed, epoch, sample, purpose)."""

    def uniform(self, purpose: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        """(n, *shape) float32 in [0, 1)."""
        ...

    def normal(self, purpose: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        """(n, *shape) float32 of mean 0 and variance 1."""
        ...

    def integers(self, purpose: str, high: int, shape: tuple[int, ...] = ()) -> np.ndarray:
        """(n, *shape) int64 in [0, high)."""
        ...


@dataclass(frozen=True, kw_only=True)
class CodesRow:
    """A row of CODES."""

    key: str = ""
    modality: Modality
    text: str | None
    codes: Sequence[int]
    """In raster order."""
    shape: Sequence[int]
    """(h, w) of the codes."""
    tokenizer_sha256: str = ""

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "CodesRow":
        """A row out of a table, which may have more columns."""
        return cls(**{field.name: entry[field.name] for field in fields(cls)})

    def segments(self, text: TextTokenizer) -> tuple[Segment, Segment]:
        """The row's text, or its absence, and its codes."""
        said = Segment("text", text.encode(self.text) if self.text else None)
        return said, Segment.of_codes(self.modality, self.codes, self.shape)


@dataclass(frozen=True, kw_only=True)
class MediaCollate:
    """Exported rows -> {"x": (n, C, H, W)}, for the DVAE."""

    medium: Medium
    config: DVAEConfig

    def __call__(self, table: pa.Table, draw: Draw) -> dict[str, Tensor]:
        """One micro-batch; nothing is drawn."""
        return {"x": torch.from_numpy(self.medium.samples(table, self.config))}


@dataclass(frozen=True, kw_only=True)
class SequenceCollate:
    """CODES rows -> packed rows of tokens for the transformer, text and codes in random order.

    The segment that comes first is the condition of the other; it is left out (`<null>`) with probability
    `drop_condition`, as it is where a row has no text, and its weights are 0 then. `documents` is present only where
    a row holds more than one sample: otherwise causality is enough, and faster.
    """

    grammar: Grammar
    text: TextTokenizer
    tokenizer_sha256: str
    """What the codes must have been made with."""
    seq_len: int
    text_first: float = 0.5
    """Share of samples whose text comes first."""
    drop_condition: float = 0.1
    text_weight: float = 0.5
    """Loss weight of a token of text, markers included, against 1 for all others."""

    def __call__(self, table: pa.Table, draw: Draw) -> dict[str, Tensor]:
        """One micro-batch of at most n rows of seq_len tokens; ValueError names a row that does not fit."""
        is_text_first = draw.uniform("text_first") < self.text_first  # (n,)
        is_dropped = draw.uniform("drop_condition") < self.drop_condition  # (n,)
        sequences: list[np.ndarray] = []
        weights: list[np.ndarray] = []
        for i, entry in enumerate(table.to_pylist()):
            row = CodesRow.of(entry)
            segments = self._segments(row, bool(is_text_first[i]), bool(is_dropped[i]))
            sequences.append(self._ids(row, segments))
            weights.append(self._weights(segments))
        batch = pack(sequences, weights, self.seq_len)
        if batch["documents"].max(initial=0) <= 1:
            del batch["documents"]
        batch["modality"] = self.grammar.modalities(batch["targets"])
        return {name: torch.from_numpy(value) for name, value in batch.items()}

    def _segments(self, row: CodesRow, text_first: bool, drop: bool) -> list[Segment]:
        """Text and codes in the drawn order, the first of them perhaps left out."""
        if row.tokenizer_sha256 != self.tokenizer_sha256:
            raise ValueError(
                f"row {row.key} was made with tokenizer {row.tokenizer_sha256}, but the model reads "
                f"codes of {self.tokenizer_sha256}; run jobs.tokenize_corpus again"
            )
        text, media = row.segments(self.text)
        segments = [text, media] if text_first else [media, text]
        if drop and row.text:  # without a text the row has lost one of the two already
            segments[0] = Segment(segments[0].modality, None)
        return segments

    def _ids(self, row: CodesRow, segments: list[Segment]) -> np.ndarray:
        """(T,) int64."""
        try:
            ids = self.grammar.build(segments)
        except ValueError as error:
            raise ValueError(f"row {row.key}: {error}") from error
        if len(ids) - 1 > self.seq_len:
            raise ValueError(
                f"row {row.key} has {len(ids)} tokens, too many for seq_len {self.seq_len}; raise "
                "seq_len or shorten its text"
            )
        return ids

    def _weights(self, segments: list[Segment]) -> np.ndarray:
        """(T,) float32, one for each id of the sequence."""
        edge = np.ones(1, np.float32)  # <bos> and <eos>
        parts = [edge]
        for segment in segments:
            weight = self.text_weight if segment.modality == "text" else 1.0
            if segment.codes is None:
                weight = 0.0
            parts.append(np.full(len(self.grammar.build_segment(segment)), weight, np.float32))
        return np.concatenate([*parts, edge])


@dataclass(frozen=True, kw_only=True)
class DecoderCollate:
    """Exported rows -> what the denoiser learns from: x, noise, t, vectors, recon, corruption.

    Three samples in four keep their codes; in the others a share of up to `max_corruption` is replaced by random codes,
    and the share is told to the network: a transformer's codes have errors too. With more of them, their large errors
    would drown the fine ones of clean codes. `recon` is decoded from the replaced codes, and `vectors` are theirs, as
    the tokenizer's own quantizer gives them. A column `codes`, where there is one, saves encoding.
    """

    tokenizer: Tokenizer
    max_corruption: float = 0.2

    def __call__(self, table: pa.Table, draw: Draw) -> dict[str, Tensor]:
        """One micro-batch of n rows."""
        tokenizer = self.tokenizer
        x = torch.from_numpy(tokenizer.medium.samples(table, tokenizer.config))  # (n, C, H, W)
        if "codes" in table.column_names:
            codes = torch.tensor(table["codes"].to_pylist()).view(len(x), *tokenizer.code_shape)
        else:
            codes = tokenizer.encode(x)  # (n, h, w)
        shape = tuple(codes.shape[1:])
        # 0 for three uniform numbers in four, and from 0 to max_corruption for the rest.
        corruption = self.max_corruption * np.maximum(0, 4 * draw.uniform("corruption") - 3)  # (n,)
        share = corruption.reshape(-1, *[1] * len(shape))  # (n, 1, 1)
        is_wrong = torch.from_numpy(draw.uniform("corrupt", shape) < share)  # (n, h, w)
        others = torch.from_numpy(draw.integers("code", tokenizer.codebook_size, shape))  # (n, h, w)
        codes = torch.where(is_wrong, others, codes)
        return {
            "x": x,
            "vectors": tokenizer.vectors(codes),  # (n, K, h, w)
            "recon": tokenizer.decode(codes),  # (n, C, H, W)
            "corruption": torch.from_numpy(corruption.astype(np.float32)),  # (n,)
            "noise": torch.from_numpy(draw.normal("noise", tuple(x.shape[1:]))),  # (n, C, H, W)
            "t": torch.from_numpy(draw.integers("timestep", NUM_TIMESTEPS)),  # (n,)
        }
