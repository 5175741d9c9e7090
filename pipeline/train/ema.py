"""An exponential moving average of the weights, kept where the optimizer's state is kept.

Each rank averages the fp32 masters of the slices that it owns, so the average is right under any sharding, costs
4 bytes per parameter over all ranks together, and needs no communication until someone wants it whole.
"""

import torch

from pipeline.train.slices import Fragments, Slice, fragments


class Ema:
    """After n updates with masters m_1 .. m_n: v_n = d_n v_(n-1) + (1 - d_n) m_n, with v_0 the initial weights.

    d_n = min(decay, (1 + n) / (10 + n)), so that the first updates are not drowned by the initial weights.
    """

    def __init__(self, slices: list[Slice], decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"--train.ema-decay is {decay}; use a number between 0 and 1, or 0 for no average")
        self.decay = decay
        self._slices = slices
        self.values = [s.master.clone() for s in slices]

    def update(self, updates: int) -> None:
        """Take in the weights after the `updates`-th update."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(self.values, [s.master for s in self._slices], 1 - decay)

    def pieces(self) -> Fragments:
        """This rank's share of the average."""
        return fragments(self._slices, self.values)
