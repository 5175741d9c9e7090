"""Captions."""

import pytest

from pipeline.curate.stage import Leave
from pipeline.curate.text.captions import (
    DropFilenameCaption,
    DropLongCaption,
    DropShortCaption,
    ScoreCaption,
    is_filename,
)

NAMES = [
    "IMG_2031.jpg",
    "digit-0042.png",
    "DSC0001",
    "DSC_0001",
    "image (3)",
    "image3",
    "IMG-20210304-WA0007",
    "P1010023",
    "photo 12",
    "Screenshot 2021-03-04 at 10.15.22",
    "Screen Shot 2021-03-04 at 10.15.22 AM",
    "20210304_101522",
    "untitled-1",
    "2031",
    "my holiday.jpeg",
    "cat.PNG",
    "DSCN1234 copy",
    "PXL_20210304_101522123",
    "d41d8cd98f00b204e9800998ecf8427e",
    "scan_7",
    "550e8400-e29b-41d4-a716-446655440000",
    "GOPR0123.JPG",
    "page 1",
    "image",
    "Photo",
    "img",
    "Untitled",
    "placeholder",
    "enter image description here",
    "Featured image",
    "alt text",
    "Image alt text",
    "https://pics.example/a/b?id=7",
    "//cdn.example/a",
    "www.pics.example/gallery",
    "https://pics.example/" + "x" * 300,
]
CAPTIONS = [
    "a handwritten seven",
    "the digit 7, written by hand",
    "7",
    "A photo",
    "Image of a cat",
    "photo of 3 dogs",
    "boeing-747",
    "F-16 over Nevada",
    "covid-19",
    "Apollo 11",
    "picture perfect",
    "Screenshot of the login page",
    "deadbeef",
    "",
    "1984 by Orwell",
    "The file README.md explained in a long caption about images.png",
    "Route 66",
    "facade",
    "decade-long",
    "scanned letter, 1912",
    "no image of the comet survives",
    "a description of a storm",
    "caption contest",
    "photographer",
    "See https://pics.example/a for more",
]


@pytest.mark.parametrize("caption", NAMES)
def test_file_names(caption):
    assert is_filename(caption)


@pytest.mark.parametrize("caption", CAPTIONS)
def test_captions(caption):
    assert not is_filename(caption)


def test_scores_and_filters():
    scored = [ScoreCaption().map({"caption": caption}) for caption in ("  a \n cat ", None, "IMG_1.png", "x" * 300)]
    assert scored[0] == {"caption": "a cat", "caption_chars": 5, "caption_words": 2, "caption_is_filename": False}
    assert scored[1] == {"caption": "", "caption_chars": 0, "caption_words": 0, "caption_is_filename": False}
    assert [DropFilenameCaption().reason(row) for row in scored] == [None, None, "caption_is_filename", None]
    assert [DropShortCaption(min_chars=3, min_words=2).reason(row) for row in scored] == [None] + [
        "caption_too_short"
    ] * 3
    assert [DropLongCaption(max_chars=200).reason(row) for row in scored] == [None] * 3 + ["caption_too_long"]


@pytest.mark.parametrize("stage", [DropFilenameCaption(), DropShortCaption(), DropLongCaption()])
def test_a_missing_score_is_unknown(stage):
    with pytest.raises(Leave, match="unknown: caption_.*_missing"):
        stage.reason({"caption_chars": None, "caption_words": None, "caption_is_filename": None})
