import numpy as np
import torch
from sklearn.datasets import load_digits

from pipeline.demo.judge import DigitJudge, features

torch.set_num_threads(1)


def test_the_judge_reads_real_digits_and_not_noise() -> None:
    digits = load_digits()
    images = torch.nn.functional.interpolate(
        torch.tensor(digits.images / 8 - 1, dtype=torch.float32)[:, None], size=32, mode="nearest"
    )
    train = np.arange(len(images)) % 5 != 0
    judge = DigitJudge(images[train], digits.target[train])
    assert judge.accuracy(images[~train], digits.target[~train]) > 0.97
    assert judge.accuracy(images[~train], (digits.target[~train] + 1) % 10) < 0.03
    noise = torch.rand(200, 1, 32, 32) * 2 - 1
    assert judge.accuracy(noise, np.arange(200) % 10) < 0.3


def test_the_judge_sees_the_mean_of_each_area() -> None:
    values = torch.arange(64.0).view(1, 1, 8, 8) / 32 - 1
    blocks = values.repeat_interleave(4, 2).repeat_interleave(4, 3)
    np.testing.assert_allclose(features(blocks)[0], np.arange(64) / 4, atol=1e-6)
