"""Pictures in JSON-LD; whole pages are in `page_kinds`."""

import json

import pytest

from pipeline.curate.fetch.linked_data import described, plain_text

IMAGE = {"@type": "ImageObject", "contentUrl": "/a.jpg", "caption": "A cat"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps(IMAGE), [("/a.jpg", "A cat")]),
        (json.dumps([IMAGE, {"@graph": [{"x": {"y": [IMAGE]}}]}]), [("/a.jpg", "A cat")] * 2),
        (json.dumps(IMAGE | {"caption": ["null", "A cat"]}), [("/a.jpg", "A cat")]),
        (json.dumps(IMAGE | {"caption": None, "name": "A dog"}), [("/a.jpg", "A dog")]),
        (json.dumps(IMAGE | {"@type": "VideoObject"}), []),
        (json.dumps({"image": ["/a.jpg", IMAGE, 7, None, ""]}), [("/a.jpg", None), ("/a.jpg", "A cat")]),
        (json.dumps({"logo": IMAGE}), [("/a.jpg", None)]),
        (json.dumps({"thumbnail": IMAGE}), []),
        ('{"image": "/a.jpg"', []),
        ("", []),
        ("null", []),
        ("[" * 100_000, []),
        ('{"a":' * 100_000, []),
        ('{"image": "\\ud800/a.jpg", "x": 1e999}', [("\ud800/a.jpg", None)]),
    ],
)
def test_blocks(text, expected):
    assert [(picture.best.url, picture.caption) for picture in described(text)] == expected


def test_terms_and_credits():
    (picture,) = described(json.dumps(IMAGE | {"license": {"@id": "/by"}, "creditText": "J.", "copyrightNotice": 7}))
    assert (picture.license, picture.credit) == ("/by", {"creditText": "J."})
    assert plain_text("<p>Tom &amp; Jerry</p><br>x < 5") == "Tom & Jerry x < 5"
