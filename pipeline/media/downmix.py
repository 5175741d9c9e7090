"""Any number of channels to one, so that speech stays audible wherever it was put.

Where each channel stands is known: the centre counts 1, left and right -3 dB, those around and above -6 dB, the bass
channel nothing (ITU-R BS.775, 3/2 to mono; what libswresample does). Where it is not: all alike. Weights add up to 1,
so that nothing can clip, and a channel that is silent throughout takes no share. Where the sum cancels out, as with two
channels of opposite sign, the loudest channel stands for all. Both are known at the end only: see `Downmix.revised`.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Layout = tuple[str, ...]
"""What each channel is, by libav's names: FL, FC, LFE, …; NONE where the file does not say."""

MAX_CHANNELS = 64
"""libswresample's own limit."""

_FRONT, _AROUND = math.sqrt(0.5), 0.5
_WEIGHTS = (
    {"FC": 1.0, "LFE": 0.0, "LFE2": 0.0}
    | dict.fromkeys(("FL", "FR", "FLC", "FRC", "DL", "DR", "WL", "WR"), _FRONT)
    | dict.fromkeys(("BL", "BR", "BC", "SL", "SR", "SDL", "SDR"), _AROUND)
    | dict.fromkeys(("TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR", "TSL", "TSR", "BFC", "BFL", "BFR"), _AROUND)
)
# Files that do not say where their channels stand, as ffmpeg takes them: by their number.
_GUESSED: dict[int, Layout] = {
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
# -60 dB below the loudest channel: dither, not sound.
_SILENT = 1e-6
# Two channels count as opposite where ffmpeg's `aphasemeter` says so: beyond 170 degrees. Their correlation is then
# cos(170°), and the energy of their mean this share of theirs.
_OPPOSITE = (1 + math.cos(math.radians(170))) / 2


@dataclass(frozen=True, kw_only=True)
class Downmix:
    """Mixes chunk by chunk, and remembers for each layout met how loud its channels and their mix were."""

    weights: dict[Layout, NDArray[np.float32]] = field(default_factory=dict)
    _energy: dict[Layout, NDArray[np.float64]] = field(default_factory=dict)
    _mixed: dict[Layout, float] = field(default_factory=dict)

    def mix(self, samples: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
        """Samples (T, C) as (T,); the mean for two channels."""
        if len(layout) == 1:
            return samples[:, 0]
        if layout not in self.weights:
            self.weights[layout] = _shares(_placed(layout))
        weights = self.weights[layout]
        mono: NDArray[np.float32] = samples @ weights  # (T, C) -> (T,)
        loud = (samples.T @ samples).diagonal().astype(np.float64)  # (C,)
        self._energy[layout] = self._energy.get(layout, 0.0) + loud
        self._mixed[layout] = self._mixed.get(layout, 0.0) + float(mono @ mono)
        return mono

    def revised(self) -> "Downmix | None":
        """With better weights, now that the channels are known: to be used from the start again. None: these do."""
        better = {layout: self._better(layout) for layout in self._energy}
        is_same = all(np.array_equal(better[layout], self.weights[layout]) for layout in better)
        return None if is_same else Downmix(weights=better)

    def _better(self, layout: Layout) -> NDArray[np.float32]:
        energy, weights = self._energy[layout], self.weights[layout]
        heard = energy > _SILENT * energy.max()
        if len(layout) > 2 and heard.any():  # of two, a silent one still says that the other is to one side
            placed = _placed(layout) * heard
            weights = _shares(placed if placed.any() else heard.astype(np.float64))
        share = float(self.weights[layout][heard].sum())
        mixed = self._mixed[layout] / share**2 if share else math.inf
        if mixed < _OPPOSITE * float(weights @ energy):
            weights = np.zeros(len(layout), np.float32)
            weights[int(energy.argmax())] = 1
        return weights


def _placed(layout: Layout) -> NDArray[np.float64]:
    """What each channel counts (C,), by where it stands."""
    if set(layout) == {"NONE"}:
        layout = _GUESSED.get(len(layout), layout)
    if layout[0] == "AMBI0":  # of a sound field the first component has no direction: it is the whole, in mono
        return np.array([1.0] + [0.0] * (len(layout) - 1))
    placed = np.array([_WEIGHTS.get(name, math.nan) for name in layout])
    return np.ones(len(layout)) if np.isnan(placed).any() or not placed.any() else placed


def _shares(placed: NDArray[np.float64]) -> NDArray[np.float32]:
    return (placed / placed.sum()).astype(np.float32)
