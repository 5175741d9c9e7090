"""The state of an optimizer as flat pieces of named parameters, however an engine has sharded it.

Checkpoints, averages and exports know slices and nothing of ranks or ZeRO stages.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

Fragments = Mapping[str, list[tuple[int, torch.Tensor]]]
"""Parameter -> (start, values): what a rank has of one number for each element of its flattened parameters."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """`master`, `exp_avg` and `exp_avg_sq`: 1-D fp32 views of elements [start, start + n) of a flattened parameter."""

    name: str
    start: int
    master: torch.Tensor
    exp_avg: torch.Tensor
    exp_avg_sq: torch.Tensor

    @property
    def stop(self) -> int:
        """End of the slice within the flattened parameter."""
        return self.start + self.master.numel()

    def values(self, kind: str) -> torch.Tensor:
        """One of the three, by its name."""
        return {"master": self.master, "exp_avg": self.exp_avg, "exp_avg_sq": self.exp_avg_sq}[kind]

    def part(self, start: int, stop: int) -> "Slice":
        """Elements [start, stop) of the flattened parameter."""
        here = slice(start - self.start, stop - self.start)
        return Slice(
            name=self.name,
            start=start,
            master=self.master[here],
            exp_avg=self.exp_avg[here],
            exp_avg_sq=self.exp_avg_sq[here],
        )


def fragments(slices: Iterable[Slice], values: Iterable[torch.Tensor]) -> Fragments:
    """One tensor for each slice, by the slices' names."""
    by_name: dict[str, list[tuple[int, torch.Tensor]]] = {}
    for piece, tensor in zip(slices, values, strict=True):
        by_name.setdefault(piece.name, []).append((piece.start, tensor))
    return by_name


def masters(slices: list[Slice]) -> Fragments:
    """The fp32 weights themselves."""
    return fragments(slices, [piece.master for piece in slices])
