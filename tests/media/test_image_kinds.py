"""Every kind of picture that the public stumbled over, to the value that is right."""

import re

import numpy as np
import pytest
from PIL import Image

from pipeline.media.error import MediaError
from pipeline.media.image import read_picture
from tests.media.image_kinds import Kind, kinds

KINDS = list(kinds())


def colours(picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """The means of both halves along the longer side, away from their edges."""
    pixels = np.asarray(picture).astype(float).reshape(picture.height, picture.width, -1)
    pixels = pixels if picture.width > picture.height else pixels.transpose(1, 0, 2)
    length = pixels.shape[1]
    halves = pixels[4:-4, 4 : length // 2 - 4], pixels[4:-4, length // 2 + 4 : -4]
    return halves[0].mean(axis=(0, 1)), halves[1].mean(axis=(0, 1))


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_a_kind(kind: Kind) -> None:
    data = kind.make()
    if kind.reason is None:
        picture = read_picture(data)
        assert picture.pixels.mode == ("L" if len(kind.left) == 1 else "RGB") and picture.pixels.size == kind.size
        for found, right in zip(colours(picture.pixels), (kind.left, kind.right), strict=True):
            assert np.abs(found - right).max() <= kind.off, (found, right)
        assert (picture.num_frames, picture.orientation, picture.profile) == (
            kind.frames,
            kind.orientation,
            kind.profile,
        )
        return
    with pytest.raises(MediaError) as caught:
        read_picture(data)
    assert caught.value.reason == kind.reason and kind.words in caught.value.detail
    assert not re.search(r"0x|\\x|<|Errno|Error|\berror\b|(?=\d*[a-f])[0-9a-f]{8}", caught.value.detail)
