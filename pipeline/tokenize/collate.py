"""Rows to micro-batches, one collate per network.

Each is a frozen dataclass, called with a table of n rows and a `Draw`, and returns CPU tensors. All randomness of a
sample (order, dropped condition, noise, timestep, corruption) comes from the Draw, under a purpose named here, so a
sample's tensors never depend on its neighbours.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.models.config import NUM_TIMESTEPS
from pipeline.tokenize.grammar import Grammar, Segment
from pipeline.tokenize.package import Tokenizer
from pipeline.tokenize.packing import pack
from pipeline.tokenize.pixels import from_png
from pipeline.tokenize.text import TextTokenizer


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


def pictures(table: pa.Table, channels: int, size: int) -> Tensor:
    """The column `image` as (n, C, size, size) float32 in [-1, 1]; ValueError names the key of a broken one."""
    out = np.empty((table.num_rows, channels, size, size), np.float32)
    for i, data in enumerate(table["image"].to_pylist()):
        try:
            out[i] = from_png(data, channels, size)
        except (ValueError, TypeError) as error:
            raise ValueError(f"image {table['key'][i].as_py()}: {error}") from error
    return torch.from_numpy(out)


@dataclass(frozen=True, kw_only=True)
class ImageCollate:
    """IMAGE rows -> {"x": (n, C, H, W)}, for the DVAE."""

    channels: int
    size: int

    def __call__(self, table: pa.Table, draw: Draw) -> dict[str, Tensor]:
        """One micro-batch; nothing is drawn."""
        return {"x": pictures(table, self.channels, self.size)}


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
    text_weight: float = 0.125
    """Loss weight of a token of text, markers included, against 1 for all others."""

    def __call__(self, table: pa.Table, draw: Draw) -> dict[str, Tensor]:
        """One micro-batch of at most n rows of seq_len tokens; ValueError names a row that does not fit."""
        first, drop = draw.uniform("text_first") < self.text_first, draw.uniform("drop_condition") < self.drop_condition
        pairs = [self._sequence(row, first[i], drop[i]) for i, row in enumerate(table.to_pylist())]
        batch = pack([ids for ids, _ in pairs], [weights for _, weights in pairs], self.seq_len)
        if batch["documents"].max(initial=0) <= 1:
            del batch["documents"]
        batch["modality"] = self.grammar.modalities(batch["targets"])
        return {name: torch.from_numpy(value) for name, value in batch.items()}

    def _sequence(self, row: dict, text_first: bool, drop: bool) -> tuple[np.ndarray, np.ndarray]:
        if row["tokenizer_sha256"] != self.tokenizer_sha256:
            raise ValueError(
                f"row {row['key']} was made with tokenizer {row['tokenizer_sha256']}, but the model reads "
                f"codes of {self.tokenizer_sha256}; run jobs.tokenize_corpus again"
            )
        text = Segment("text", self.text.encode(row["text"]) if row["text"] else None)
        shape = tuple(row["shape"]) if row["modality"] == "image" else None
        media = Segment(row["modality"], tuple(row["codes"]), shape)
        segments = [text, media] if text_first else [media, text]
        if drop and row["text"]:
            segments[0] = Segment(segments[0].modality, None)
        try:
            ids = self.grammar.build(segments)
        except ValueError as error:
            raise ValueError(f"row {row['key']}: {error}") from error
        if len(ids) - 1 > self.seq_len:
            raise ValueError(
                f"row {row['key']} has {len(ids)} tokens, too many for seq_len {self.seq_len}; raise "
                "seq_len or shorten its text"
            )
        return ids, self._weights(segments)

    def _weights(self, segments: list[Segment]) -> np.ndarray:
        parts = [np.ones(1, np.float32)]
        for segment in segments:
            weight = self.text_weight if segment.modality == "text" else 1.0
            weight = 0.0 if segment.codes is None else weight
            parts.append(np.full(len(self.grammar.build_segment(segment)), weight, np.float32))
        return np.concatenate([*parts, np.ones(1, np.float32)])


@dataclass(frozen=True, kw_only=True)
class DecoderCollate:
    """IMAGE rows -> what the denoiser learns from: x, noise, t, codes, recon, corruption.

    Three samples in four keep their codes; in the others a share of up to `max_corruption` is replaced by random codes,
    and the share is told to the network: a transformer's codes have errors too. With more of them, their large errors
    would drown the fine ones of clean codes. `recon` is decoded from the replaced codes. A column `codes`, where there
    is one, saves encoding.
    """

    tokenizer: Tokenizer
    max_corruption: float = 0.2

    def __call__(self, table: pa.Table, draw: Draw) -> dict[str, Tensor]:
        """One micro-batch of n rows."""
        config = self.tokenizer.config
        x = pictures(table, config.channels, config.image_size)
        if "codes" in table.column_names:
            codes = torch.tensor(table["codes"].to_pylist()).view(len(x), *self.tokenizer.code_shape)
        else:
            codes = self.tokenizer.encode(x)
        shape = tuple(codes.shape[1:])
        corruption = self.max_corruption * np.maximum(0, 4 * draw.uniform("corruption") - 3)
        wrong = torch.from_numpy(draw.uniform("corrupt", shape) < corruption[:, None, None])
        codes = torch.where(wrong, torch.from_numpy(draw.integers("code", self.tokenizer.codebook_size, shape)), codes)
        return {
            "x": x,
            "codes": codes,
            "recon": self.tokenizer.decode(codes),
            "corruption": torch.from_numpy(corruption.astype(np.float32)),
            "noise": torch.from_numpy(draw.normal("noise", tuple(x.shape[1:]))),
            "t": torch.from_numpy(draw.integers("timestep", NUM_TIMESTEPS)),
        }
