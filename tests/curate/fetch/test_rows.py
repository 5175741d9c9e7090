"""Rows as they enter the tables."""

import pytest

from pipeline.curate.fetch.rows import declared_bytes, input_row, listing_row
from pipeline.curate.stage import Leave
from pipeline.curate.work import start, to_table
from pipeline.records import CLIP, IMAGE, INPUT, key_of


def test_rows_fit_their_tables_whether_they_left_or_not():
    good = input_row(
        "a.png", base="http://e.example/p", source="s", text="a cat", language="en", transcript_url="http://e.example/t"
    )
    bad = input_row("ftp://me:pw@e.example/a?sig=1", base="http://e.example/p", source="s", text="a cat")
    gone = listing_row("http://e.example/feed?x=1", Leave("failed", "timeout", retryable=True, detail="d"))
    rows = [good, bad, gone]
    inputs = to_table(rows, INPUT)
    pictures = start(inputs, IMAGE, unit="image", caption="text").to_pylist()
    episodes = start(inputs, CLIP, unit="episode").to_pylist()
    for made, unit in ((pictures, "image"), (episodes, "episode")):
        for row, source in zip(made, rows, strict=True):
            assert (row["key"], row["input_key"], row["unit"]) == (source["key"], source["key"], unit)
            assert (row["state"], row["reason"], row["url"]) == (source["state"], source["reason"], source["url"])
    assert pictures[0]["caption"] == "a cat" and episodes[0]["transcript_url"] == "http://e.example/t"
    assert episodes[0]["language"] == "en"
    assert bad["reason"] == "bad_url" and "pw" not in bad["url"] and "sig" not in bad["url"]
    assert (gone["state"], gone["retryable"], gone["source"]) == ("failed", True, "http://e.example/feed")


def test_what_left_keeps_no_secret():
    url = "http://e.example/feed?id=7&token=hunter"
    gone = listing_row(url, Leave("failed", "odd", retryable=True, detail=f"at {url}\x1b[2J " + "x" * 9999))
    assert (gone["url"], gone["key"]) == ("http://e.example/feed?id=7&token=REDACTED", key_of(url))
    assert gone["source"] == "http://e.example/feed"
    assert "hunter" not in gone["detail"] and gone["detail"].isprintable() and len(gone["detail"]) == 500
    for bad in (
        "http://me:hun/ter@h/a",
        "http://me:hunter@℀/",
        "http://me:hunter@[/",
        "http://me:hunter@h:99999/?sig=hunter",
        "http://me:hunter@h/",
    ):
        row = input_row(bad, base="http://me:hunter@b.example/?token=hunter", source="s")
        assert row["reason"] == "bad_url" and "hun" not in str(row) and "ter@" not in str(row)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("1234", 1234),
        (" 7 ", 7),
        (None, None),
        ("", None),
        ("0", None),
        ("-3", None),
        ("1e6", None),
        ("٣", None),
        ("9" * 16, None),
    ],
)
def test_a_declared_size_is_a_number_of_bytes_or_nothing(text: str | None, size_bytes: int | None) -> None:
    assert declared_bytes(text) == size_bytes


def test_keys_come_from_url_and_caption():
    first = input_row("a.png#top", base="http://e.example/", source="s", text="x")
    assert first["key"] == input_row("http://E.example:80/a.png", base="http://z.example", source="t", text="x")["key"]
    bad = [input_row(f"ftp://e.example/a?id={n}", base="http://e.example/", source="s") for n in (1, 2)]
    assert bad[0]["url"] == bad[1]["url"] and bad[0]["key"] != bad[1]["key"]
    assert first["key"] != input_row("a.png", base="http://e.example/", source="s", text="y")["key"]
    assert input_row("a.mp3", base="http://e.example/", source="s")["key"] == key_of("http://e.example/a.mp3")
