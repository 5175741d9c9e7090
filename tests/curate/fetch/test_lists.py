"""URL lists."""

import json

import pytest

from pipeline.curate.fetch.lists import read_list
from pipeline.curate.stage import Leave
from pipeline.records import INPUT, key_of

BASE = "http://example.com/lists/all.jsonl?token=secret"


def test_json_lines():
    lines = [
        {"url": "../a.png#x", "caption": " a cat ", "license": "CC0", "width": 3, "size_bytes": 70},
        {"url": "http://b.example/b.png"},
    ]
    rows = read_list("\n\n".join(map(json.dumps, lines)).encode(), BASE)
    assert [row["url"] for row in rows] == ["http://example.com/a.png", "http://b.example/b.png"]
    assert rows[0] | {"key": 0} == dict.fromkeys(INPUT.names) | {
        "key": 0,
        "url": "http://example.com/a.png",
        "text": "a cat",
        "license": "CC0",
        "expected_bytes": 70,
        "page_url": BASE,
        "source": "http://example.com/lists/all.jsonl",
    }
    assert rows[0]["key"] == key_of("http://example.com/a.png", "a cat")
    assert rows[1]["key"] == key_of("http://b.example/b.png") and rows[1]["text"] is None


@pytest.mark.parametrize(
    "text",
    [
        'url,caption\na.png,"one, two"\nb.png,three\n',
        "URL\tCaption\r\na.png\tone, two\r\nb.png\tthree\r\n",
        '\ufeffcaption,url\n"one, two",a.png\nthree,b.png',
    ],
)
def test_tables(text):
    rows = read_list(text.encode(), "http://example.com/list")
    assert [(row["url"], row["text"]) for row in rows] == [
        ("http://example.com/a.png", "one, two"),
        ("http://example.com/b.png", "three"),
    ]


def test_episodes_may_name_their_transcripts():
    rows = read_list(
        b"url,language,transcript_url,transcript_type,transcript_kind\na.mp3,en,a.vtt,vtt,manual\n",
        "http://e.example/l",
    )
    assert rows[0]["transcript_url"] == "http://e.example/a.vtt" and rows[0]["transcript_kind"] == "manual"
    assert rows[0]["key"] == key_of("http://e.example/a.mp3")


def test_a_bad_line_costs_one_line():
    rows = read_list(
        b'{"url": "a.png", "caption": "x"}\n{oops\n[]\n{"url": 3}\n{"url": "ftp://x/y"}\n{"url": "b.png"}\n',
        "http://e.example/l",
    )
    assert [row["reason"] for row in rows] == [None, *["list_line_unreadable"] * 3, "bad_url", None]
    assert {row["state"] for row in rows} == {None, "failed"} and len({row["key"] for row in rows}) == 6
    assert [row["reason"] for row in read_list(b"url,caption\n,no url\na.png,x\n", "http://e.example/l")] == [
        "list_line_unreadable",
        None,
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xff\xfe\x00", "list_unreadable"),
        (b"caption\nx\n", "list_unreadable"),
        (b"<html>404</html>", "list_unreadable"),
        (b"", "list_unreadable"),
        (b"url,caption\n", "listing_empty"),
    ],
)
def test_what_is_no_list_leaves(body, reason):
    with pytest.raises(Leave) as leave:
        read_list(body, BASE)
    assert (leave.value.state, leave.value.reason) == ("failed", reason) and "secret" not in leave.value.detail
