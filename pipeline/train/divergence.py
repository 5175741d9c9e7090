"""Steps that went wrong: losses or gradients that are not finite, and losses far above those just before.

Guarantees: what is judged depends on the losses alone, so all ranks judge alike, and `state` in a checkpoint makes a
resumed run judge as an uninterrupted one. A spike is counted and named but not undone: its update was clipped.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Fault = Literal["not_finite", "spike"]

FEWEST = 16
"""Losses needed before one can be called a spike."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """What a run must remember to judge its next step; kept in its checkpoints."""

    bad_in_row: int = 0
    """Steps up to the last one that were not finite."""
    spikes: int = 0
    """Of the whole run."""
    spiked: tuple[int, ...] = ()
    """Steps within the window that spiked."""
    recent: tuple[float, ...] = ()
    """The last sound losses."""


class Divergence:
    """Judges each step. A spike is a loss above the median of the last `window` sound ones by more than `spike_factor`
    times their spread: 1.4826 times the median distance from the median, as the standard deviation of a normal
    distribution, or 1 % of the median if that is more."""

    def __init__(
        self,
        *,
        max_bad_steps: int,
        spike_factor: float,
        window: int,
        max_spikes: int,
        health: Health = Health(),
    ) -> None:
        self._max_bad_steps = max_bad_steps
        self._factor = spike_factor
        self._window = window
        self._max_spikes = max_spikes
        self._bad_in_row = health.bad_in_row
        self.spikes = health.spikes
        self._spiked = list(health.spiked)
        self._recent = list(health.recent)

    def state(self) -> Health:
        """What a resumed run must know."""
        return Health(
            bad_in_row=self._bad_in_row, spikes=self.spikes, spiked=tuple(self._spiked), recent=tuple(self._recent)
        )

    def judge(self, step: int, loss: float, grad_norm: float) -> Fault | None:
        """What is wrong with the `step`-th step."""
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            self._bad_in_row += 1
            return "not_finite"
        self._bad_in_row = 0
        self._spiked = [s for s in self._spiked if s > step - self._window]
        if self._is_spike(loss):
            self.spikes += 1
            self._spiked.append(step)
            return "spike"
        if self._factor:
            self._recent = [*self._recent, loss][-self._window :]
        return None

    def _is_spike(self, loss: float) -> bool:
        if not self._factor or len(self._recent) < FEWEST:
            return False
        middle = float(np.median(self._recent))
        # Medians, as a spike must not widen what it is measured by; 1.4826 makes theirs the unit of a normal spread.
        spread = 1.4826 * float(np.median(np.abs(np.asarray(self._recent) - middle)))
        return loss > middle + self._factor * max(spread, 0.01 * abs(middle))

    def stop_at_limit(self, step: int, ids: np.ndarray, *, last: bool = False) -> None:
        """FloatingPointError, with the step and its samples, if too many steps went wrong, or the last one of all
        did."""
        if last and self._bad_in_row:
            raise FloatingPointError(
                f"training came to its last step, and loss or gradient were not finite from "
                f"step {step - self._bad_in_row + 1} to {step} ({first_ids(ids)}); no weights are exported: "
                "lower --train.optim.lr, or look at these samples"
            )
        if self._bad_in_row >= self._max_bad_steps:
            raise FloatingPointError(
                f"loss or gradient was not finite for {self._bad_in_row} steps in a row, up to step {step} "
                f"({first_ids(ids)}); lower --train.optim.lr, or look at these samples"
            )
        if len(self._spiked) > self._max_spikes:
            raise FloatingPointError(
                f"the loss spiked at {len(self._spiked)} of the last {self._window} steps, the last time at "
                f"step {step} ({first_ids(ids)}); lower --train.optim.lr, look at these samples, or raise "
                "--train.max-spikes"
            )


def first_ids(ids: np.ndarray) -> str:
    """The first of these sample ids, for a message."""
    return f"sample ids {', '.join(map(str, ids[:8].tolist()))}{', …' if len(ids) > 8 else ''}"
