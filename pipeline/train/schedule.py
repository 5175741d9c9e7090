"""Learning rates as pure functions of the step: the value after a resume is the value without one."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pipeline.ranges import check_range


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Warm up linearly over `warmup_steps`, then follow `kind` down to `final_ratio` of the peak at the last step."""

    kind: Literal["constant", "cosine", "wsd"] = "cosine"
    """Shape after the warmup; wsd stays at the peak and decays at the end (warmup, stable, decay)."""
    warmup_steps: int = 0
    """Steps until the peak learning rate."""
    final_ratio: float = 0.1
    """Share of the peak that is left at the end (cosine, wsd)."""
    decay_ratio: float = 0.2
    """Share of all steps over which wsd decays."""

    def __post_init__(self) -> None:
        check_range(self, "warmup_steps", low=0)
        check_range(self, "final_ratio", low=0, high=1)
        check_range(self, "decay_ratio", above=0, high=1)


def _constant(config: ScheduleConfig, step: int, steps: int) -> float:
    return 1.0


def _cosine(config: ScheduleConfig, step: int, steps: int) -> float:
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.final_ratio + (1 - config.final_ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _wsd(config: ScheduleConfig, step: int, steps: int) -> float:
    """Warmup, stable, decay (Hu et al., "MiniCPM", 2024), with a linear decay."""
    left = (steps - step) / max(1.0, config.decay_ratio * steps)
    return config.final_ratio + (1 - config.final_ratio) * min(1.0, max(0.0, left))


SCHEDULES: dict[str, Callable[[ScheduleConfig, int, int], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "wsd": _wsd,
}


def factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """The share of the peak learning rate used by the update from step `step` to `step + 1`, of `steps` in all."""
    warmup = min(1.0, (step + 1) / (config.warmup_steps + 1))
    return warmup * SCHEDULES[config.kind](config, step, steps) if step >= config.warmup_steps else warmup
