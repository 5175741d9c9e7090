"""Reads the demo's digits: whether a generated picture shows what was asked for."""

import numpy as np
import torch.nn.functional as F
from torch import Tensor


class DigitJudge:
    """Reads handwritten digits with a support-vector machine, at the 8x8 pixels of scikit-learn's digits."""

    def __init__(self, images: Tensor, labels: np.ndarray) -> None:
        from sklearn.svm import SVC  # only the demo needs scikit-learn

        # By its defaults it reads more than 95 % of the held-out digits.
        self._svm = SVC().fit(features(images), labels)

    def read(self, images: Tensor) -> np.ndarray:
        """The digits (N,) that pictures (N, 1, H, W) in [-1, 1] show."""
        return self._svm.predict(features(images))

    def accuracy(self, images: Tensor, labels: np.ndarray) -> float:
        """Share of pictures that are read as `labels` (N,)."""
        return float((self.read(images) == np.asarray(labels)).mean())


def features(images: Tensor) -> np.ndarray:
    """What the judge sees of pictures (N, 1, H, W) in [-1, 1]: (N, 64) from 0 to 16, each the mean over its area."""
    # As the scans themselves were made: counts over blocks of 4x4 in 32x32.
    return F.interpolate((images.float() + 1) * 8, size=8, mode="area").flatten(1).numpy()
