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
        "page_url": "http://example.com/lists/all.jsonl",
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


SECRET = "hunter2SECRETx"
BAD_LINES = [
    f'{{"url": "http://me:{SECRET}@h/a"',
    f'["{SECRET}"]',
    f'{{"uri": "http://h/?sig={SECRET}"}}',
    f'{{"url": "\t{SECRET}"}}',
    f"{SECRET}",
    f'{{"url": 7, "password": "{SECRET}"}}',
    f'{{"url": "a", "n": {"9" * 5000}, "x": "{SECRET}"}}',
]


def test_a_bad_line_is_named_by_its_number_and_not_repeated():
    rows = read_list("\n".join(['{"url": "a.png"}', "", *BAD_LINES]).encode(), BASE)[1:]
    assert [row["detail"] for row in rows[:6]] == [
        "line 3: Expecting ',' delimiter at column 39",
        "line 4: not a JSON object",
        "line 5: no url",
        "line 6: Invalid control character at at column 10",
        "line 7: Expecting value at column 1",
        "line 8: no url",
    ]
    assert rows[6]["detail"].startswith("line 9: Exceeds the limit")
    assert len({row["key"] for row in rows}) == 7 and SECRET not in str(rows)


def test_a_table_repeats_no_line_either():
    rows = read_list(f"url,caption\n,{SECRET}\n\n,other {SECRET}\na.png,\0{SECRET}\n".encode(), BASE)
    assert [row["detail"] for row in rows[:2]] == ["line 2: no url", "line 4: no url"]
    assert len({row["key"] for row in rows}) == len(rows)
    assert not any(SECRET in str(row) for row in rows if row["state"])
    with pytest.raises(Leave, match="its first line has 2 columns") as leave:
        read_list(f"http://me:{SECRET}@h/a,{SECRET}\n".encode(), BASE)
    assert SECRET not in leave.value.detail


def test_what_is_to_be_fetched_stays_whole_and_what_is_shown_loses_its_secrets():
    line = {
        "url": "http://h/a.mp3?sig=s",
        "transcript_url": "/a.vtt?sig=s",
        "page_url": "http://me:pw@h/p?id=7&token=t#x",
        "license": "CC0, see http://h/l?auth=a",
    }
    (row,) = read_list(json.dumps(line).encode(), BASE)
    assert (row["url"], row["transcript_url"]) == ("http://h/a.mp3?sig=s", "http://example.com/a.vtt?sig=s")
    assert (row["page_url"], row["license"]) == ("http://h/p?id=7&token=REDACTED", "CC0, see http://h/l?auth=REDACTED")


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
