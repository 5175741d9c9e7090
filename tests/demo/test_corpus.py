import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from pipeline import records
from pipeline.demo import corpus
from pipeline.media.image import encode_png


def _area_8x8(images: np.ndarray) -> np.ndarray:
    return ((images[:, 0] + 1) / 2 * 16).reshape(-1, 8, 4, 8, 4).mean((2, 4)).reshape(-1, 64)


def test_a_fifth_is_held_out_and_nothing_is_lost_or_shared():
    (train, train_labels), (held, held_labels) = corpus.training(), corpus.heldout()
    assert (len(train), len(held)) == (1437, 360)
    assert train.shape[1:] == held.shape[1:] == (1, 32, 32)
    assert train.dtype == held.dtype == np.float32 and train_labels.dtype == np.int64
    assert -1 <= train.min() < -0.99 and 0.99 < train.max() <= 1
    seen = {image.tobytes() for image in train}
    assert len(seen) == 1437 and not seen & {image.tobytes() for image in held}
    truth = load_digits().target
    assert np.array_equal(held_labels, truth[::5])
    assert np.array_equal(train_labels, np.delete(truth, np.arange(0, 1797, 5)))


def test_a_classifier_of_the_original_scans_reads_the_scaled_pictures():
    digits = load_digits()
    kept = np.arange(len(digits.data)) % 5 != 0
    judge = SVC().fit(digits.data[kept], digits.target[kept])
    images, labels = corpus.heldout()
    assert judge.score(_area_8x8(images), labels) > 0.97


def test_png_files_hold_the_very_pixels_that_are_returned():
    images, _ = corpus.heldout()
    files = [encode_png(image) for index, image in enumerate(corpus.pixels()) if corpus.is_heldout(index)]
    assert len(files) == len(images)
    decoded = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded.astype(np.float32) / 127.5 - 1, images[:, 0])


def test_captions_name_their_digit_and_vary():
    labels = corpus.labels()
    captions = [corpus.caption(index) for index in range(len(labels))]
    for text, label in zip(captions, labels, strict=True):
        named = [d for d in range(10) if str(d) in text or corpus.WORDS[d] in text.replace(",", "").split()]
        assert named == [label], text
    assert len(set(captions)) == 10 * 13
    for digit in range(10):
        mine = [text for text, label in zip(captions, labels, strict=True) if label == digit]
        assert mine.count(f"a handwritten {corpus.WORDS[digit]}") / len(mine) > 0.3


def test_prompt_fills_every_template():
    assert corpus.prompt(7) == "a handwritten seven"
    assert corpus.prompt(7, corpus.PROMPTS[2]) == "the digit 7, written by hand"
    assert len({corpus.prompt(3, template) for template in corpus.PROMPTS}) == len(corpus.PROMPTS)


@pytest.mark.parametrize("path", corpus.PLANTED)
def test_expectations_use_the_states_of_the_ledger(path: str):
    state, reason = corpus.PLANTED[path]
    assert state in records.STATES and state != "kept"
    assert reason == reason.lower() and reason.replace("_", "").isalnum()
