"""Rows as they enter the tables."""
import pyarrow as pa

from pipeline.curate.fetch.rows import episode_row, image_row, input_row, listing_row
from pipeline.curate.stage import Leave
from pipeline.records import CLIP, IMAGE, INPUT, key_of


def test_rows_fit_their_tables_whether_they_left_or_not():
    good = input_row("a.png", base="http://e.example/p", source="s", text="a cat", language="en", transcript_url="http://e.example/t")
    bad = input_row("ftp://me:pw@e.example/a?sig=1", base="http://e.example/p", source="s", text="a cat")
    gone = listing_row("http://e.example/feed?x=1", Leave("failed", "timeout", retryable=True, detail="d"))
    rows = [good, bad, gone]
    pa.Table.from_pylist(rows, schema=INPUT)
    for make, schema, unit in ((image_row, IMAGE, "image"), (episode_row, CLIP, "episode")):
        made = [make(row) for row in rows]
        assert all(set(row) == set(schema.names) for row in made)
        pa.Table.from_pylist(made, schema=schema)
        for row, source in zip(made, rows, strict=True):
            assert (row["key"], row["input_key"], row["unit"]) == (source["key"], source["key"], unit)
            assert (row["state"], row["reason"], row["url"]) == (source["state"], source["reason"], source["url"])
    assert image_row(good)["caption"] == "a cat" and episode_row(good)["text"] is None
    assert episode_row(good)["language"] == "en" and episode_row(good)["transcript_url"] == "http://e.example/t"
    assert bad["reason"] == "bad_url" and "pw" not in bad["url"] and "sig" not in bad["url"]
    assert (gone["state"], gone["retryable"], gone["source"]) == ("failed", True, "http://e.example/feed")


def test_keys_come_from_url_and_caption():
    first = input_row("a.png#top", base="http://e.example/", source="s", text="x")
    assert first["key"] == input_row("http://E.example:80/a.png", base="http://z.example", source="t", text="x")["key"]
    assert first["key"] != input_row("a.png", base="http://e.example/", source="s", text="y")["key"]
    assert input_row("a.mp3", base="http://e.example/", source="s")["key"] == key_of("http://e.example/a.mp3")
