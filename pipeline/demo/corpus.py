"""The demo's pictures: scanned handwritten digits with English captions, a fifth of them held out for judging.

Guarantees: the same bytes on every run; a picture whose index is a multiple of `HELDOUT_EVERY` has no place on the
demo's site; what `training` and `heldout` return is pixel for pixel what the PNG files hold. The digits come from
scikit-learn (E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, CC BY 4.0). Costs 0.5 s, once.
"""

import functools
import hashlib
import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image

IMAGE_SIZE = 32
# A fifth: 360 pictures, of which a percent is more than three.
HELDOUT_EVERY = 5
LIST_IMAGES = 1200
"""How many training pictures the URL list names; the others stand in galleries."""
IMAGES_PER_GALLERY = 48
LICENSE = "CC-BY-4.0"

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

PROMPTS = (
    "a handwritten {word}",
    "a handwritten {digit}",
    "the digit {digit}, written by hand",
    "the number {word} in handwriting",
)
"""Caption templates to generate from; the first is the canonical one."""

# Often enough to learn the prompt that is judged, beside others to learn the words from.
_CANONICAL_SHARE = 0.4
_TEMPLATES = (
    *PROMPTS[1:],
    "a scan of a handwritten {word}",
    "someone wrote the digit {word}",
    "{word}, drawn with a pen",
    "the numeral {digit} on paper",
    "a small grey picture of the number {word}",
    "handwriting that shows the digit {digit}",
    "a hand-drawn {word}",
    "the figure {digit} in pencil",
    "the number {digit} as somebody wrote it",
)

# Where each planted trouble has to end, by the path of its file. `state` and `reason` are those of the ledger.
PLANTED_IMAGES: dict[str, tuple[str, str]] = {
    "/images/copy.png": ("dropped", "duplicate_image"),
    "/images/dot.png": ("dropped", "image_too_small"),
    "/images/IMG_2041.png": ("dropped", "caption_is_filename"),
    "/images/optout.png": ("dropped", "noai"),
    "/private/sketch.png": ("dropped", "robots_disallowed"),
    "/images/truncated.png": ("failed", "image_truncated"),
    "/images/missing.png": ("failed", "http_404"),
    "/slow/picture.png": ("failed", "timeout"),
    "/redirect/intranet.png": ("failed", "private_address"),
    "/redirect/metadata.png": ("failed", "private_address"),
    "/busy/picture.png": ("deferred", "retry_after"),
}
PLANTED_SPEECH: dict[str, tuple[str, str]] = {
    "/podcast/lower-case.mp3": ("dropped", "transcript_lower_case"),
    "/podcast/all-caps.mp3": ("dropped", "transcript_upper_case"),
    "/talks/rolling.mp3": ("dropped", "transcript_rolling_captions"),
    "/podcast/french-transcript.mp3": ("dropped", "language_mismatch"),
    "/podcast/bread-again.mp3": ("dropped", "duplicate_audio"),
    "/podcast/truncated.mp3": ("failed", "audio_truncated"),
    "/podcast/missing.mp3": ("failed", "http_404"),
    "/slow/episode.mp3": ("failed", "timeout"),
    "/podcast/hum.mp3": ("unknown", "language_unknown"),
}
PLANTED = PLANTED_IMAGES | PLANTED_SPEECH

TWINS = {"/images/copy.png": "/images/0001.png", "/podcast/bread-again.mp3": "/podcast/bread.mp3"}
"""Of a duplicate and its original, one has to go; a pipeline may choose either."""


@functools.cache
def pixels() -> NDArray[np.uint8]:
    """All pictures, uint8 (N, 32, 32); 0 is paper, 255 ink. Scaled from 8x8 by Pillow's bicubic filter, clamped."""
    size = (IMAGE_SIZE, IMAGE_SIZE)
    ink = _digits()[0].astype(np.float32) / 16  # (N, 8, 8) in [0, 1]
    # In floats: sixteen levels of ink become bytes once, after the filter.
    scaled = [np.asarray(Image.fromarray(scan).resize(size, Image.Resampling.BICUBIC)) for scan in ink]
    return np.round(np.clip(np.stack(scaled), 0, 1) * 255).astype(np.uint8)


def labels() -> NDArray[np.int64]:
    """The digit of each picture, int64 (N,)."""
    return _digits()[1]


def is_heldout(index: int) -> bool:
    """True for a picture that is kept for judging."""
    return index % HELDOUT_EVERY == 0


def training() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pictures that are served, float32 (N, 1, 32, 32) in [-1, 1], and their digits, int64 (N,)."""
    return _select(heldout=False)


def heldout() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pictures that are never served, as `training` returns them."""
    return _select(heldout=True)


def caption(index: int) -> str:
    """What a picture's publisher says of it; about `_CANONICAL_SHARE` of them say it in the canonical words."""
    # By the index alone: a picture has its caption on every run, whatever else is served.
    digest = hashlib.sha256(f"caption {index}".encode()).digest()
    draw = int.from_bytes(digest[:4], "big") / 2**32
    other = _TEMPLATES[int.from_bytes(digest[4:8], "big") % len(_TEMPLATES)]
    return prompt(int(labels()[index]), PROMPTS[0] if draw < _CANONICAL_SHARE else other)


def prompt(digit: int, template: str = PROMPTS[0]) -> str:
    """A template filled in."""
    return template.format(digit=digit, word=WORDS[digit])


def digit_of(caption: str) -> int:
    """The digit that a caption of this corpus names."""
    words = re.findall(r"[a-z]+|\d", caption)
    return next(int(word) if word.isdigit() else WORDS.index(word) for word in words if word in WORDS or word.isdigit())


def _select(heldout: bool) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    selected = np.array([is_heldout(index) == heldout for index in range(len(pixels()))])
    images = pixels()[selected].astype(np.float32) / 127.5 - 1
    return images[:, None], labels()[selected]  # (n, 32, 32) -> (n, 1, 32, 32)


@functools.cache
def _digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scans (N, 8, 8) from 0 to 16, and what they show (N,)."""
    from sklearn.datasets import load_digits  # a second of imports that only the demo pays

    digits = load_digits()
    return digits.images, digits.target.astype(np.int64)
