"""Words of libraries, for who reads a reason."""

import io

import av
import pytest
from PIL import UnidentifiedImageError

from pipeline.media.error import plain


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (av.InvalidDataError(1094995529, "Invalid data found when processing input", "x"), ": Invalid data found"),
        (OSError("image file is truncated (3 bytes not processed)"), ": image file is truncated (3 bytes not"),
        (ValueError("no audio track"), ": no audio track"),
        (UnidentifiedImageError(f"cannot identify image file {io.BytesIO()!r}"), ""),
        (SyntaxError("broken PNG file (chunk b'\\x00\\x01')"), ""),
        (OSError("decoder error -2"), ""),
        (KeyError(274), ""),
        (ValueError(""), ""),
        (ValueError("starts with 6a756e6b0a"), ""),
        (ValueError("too large for PngImagePlugin.MAX_TEXT_CHUNK"), ""),
    ],
)
def test_only_what_a_reader_understands_is_passed_on(error: Exception, words: str) -> None:
    found = plain(error)
    assert found.startswith(words) and bool(found) == bool(words)


def test_words_are_few() -> None:
    assert len(plain(ValueError("word " * 999))) < 200
