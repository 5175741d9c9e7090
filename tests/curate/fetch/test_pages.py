"""Pages of captioned pictures."""

import time

import pytest

from pipeline.curate.fetch.pages import parse_page, read_page
from pipeline.curate.stage import Leave
from pipeline.records import key_of

URL = "http://pics.example/gallery/page.html?s=1"


def found(html: str, headers: dict[str, str] | None = None) -> list[tuple[str, str]]:
    return [(row["url"], row["text"]) for row in read_page(html.encode(), URL, headers or {})]


def test_alt_texts_and_captions():
    html = """<html lang=en><link rel="license stylesheet" href="http://cc.example/by"><body>
    <img src=a.png alt=" A  cat &amp; dog ">
    <figure><img src=b.png alt="alt"><figcaption>A <b>tall</b>
      tower</figcaption></figure><figure><figcaption>Above</figcaption><img src='/c.png'></figure>
    <figure><img src=d.png alt="only alt"></figure><img src=e.png alt=""><img src=f.png>
    <img src="data:image/png;base64,xx" alt=data>
    <script>document.write('<img src=g.png alt=script>')</script><img alt="no source">
    <noscript><img src=h.png alt="lazy"></noscript>"""
    base = "http://pics.example"
    assert found(html) == [
        (f"{base}/gallery/a.png", "A cat & dog"),
        (f"{base}/gallery/b.png", "A tall tower"),
        (f"{base}/c.png", "Above"),
        (f"{base}/gallery/d.png", "only alt"),
        (f"{base}/gallery/h.png", "lazy"),
    ]
    row = read_page(html.encode(), URL, {})[0]
    assert (row["language"], row["license"], row["page_url"]) == ("en", "http://cc.example/by", URL)
    assert row["source"] == "http://pics.example/gallery/page.html" and row["key"] == key_of(row["url"], row["text"])


def test_one_caption_for_all_pictures_of_a_figure_and_figures_within_figures():
    html = (
        "<figure><img src=1 alt=x><img src=2><figcaption>both</figcaption></figure>"
        "<figure><figure><img src=3><figcaption>inner</figcaption></figure>"
        "<img src=4><figcaption>outer</figcaption></figure>"
    )
    assert [(url[-1], text) for url, text in found(html)] == [
        ("1", "both"),
        ("2", "both"),
        ("3", "inner"),
        ("4", "outer"),
    ]


def test_repeated_pictures_count_once_and_unusable_ones_are_rows():
    html = (
        "<img src=a alt=x><img src=a#b alt=x><img src=a alt=y>"
        "<img src='ftp://x/y' alt=z><img src='blob:http://x/1' alt=w>"
    )
    rows = read_page(html.encode(), URL, {})
    assert [(row["text"], row["reason"]) for row in rows] == [
        ("x", None),
        ("y", None),
        ("z", "bad_url"),
        ("w", "bad_url"),
    ]


def test_secrets_of_the_page_are_not_kept():
    html = "<a rel=license href='http://cc.example/?id=7&token=t'></a><img src='a.png?sig=s' alt=x>"
    (row,) = read_page(html.encode(), URL + "&token=t", {})
    assert (row["page_url"], row["source"]) == (URL + "&token=REDACTED", URL.partition("?")[0])
    assert (row["url"], row["license"]) == (
        "http://pics.example/gallery/a.png?sig=s",
        "http://cc.example/?id=7&token=REDACTED",
    )


def test_base_and_broken_html():
    assert found("<base href='//cdn.example/d/'><figure><img src=a.png alt=fine><b></i>") == [
        ("http://cdn.example/d/a.png", "fine")
    ]


@pytest.mark.parametrize(
    ("head", "charset"), [("", "latin-1"), ("<meta charset='windows-1252'>", None), ("<meta charset=nonsense>", None)]
)
def test_encodings(head, charset):
    headers = {"Content-Type": f"text/html; charset={charset}"} if charset else {}
    page = parse_page(f"{head}<img src=a alt='café'>".encode("latin-1"), headers)
    assert page.pictures == [("a", "café")]  # what is no encoding of the web is read as browsers do


@pytest.mark.parametrize(
    ("html", "state", "reason"),
    [
        ("<meta name=robots content='index, noai'><img src=a alt=b>", "dropped", "noai"),
        ("<META NAME=TDM-Reservation CONTENT=1><img src=a alt=b>", "dropped", "tdm_reserved"),
        ("<p>no pictures</p>", "failed", "listing_empty"),
        ("", "failed", "listing_empty"),
    ],
)
def test_pages_that_give_no_rows(html, state, reason):
    with pytest.raises(Leave) as leave:
        read_page(html.encode(), URL, {})
    assert (leave.value.state, leave.value.reason) == (state, reason)


def test_only_encodings_of_the_web_are_read():
    """`punycode` takes quadratic time, `idna` and `undefined` fail; browsers know none of them."""
    body = '<img src="a.png" alt="caf\u00e9 at night"><p>'.encode() + b"x-" * 200_000
    for charset in ("punycode", "idna", "undefined", "utf-7", "unicode_escape", "none-such"):
        began_s = time.process_time()
        page = parse_page(body, {"Content-Type": f"text/html; charset={charset}"})
        assert page.pictures == [("a.png", "caf\u00e9 at night")] and time.process_time() - began_s < 5
    page = parse_page(b"\xff\xfe" + '<img src="a.png" alt="in UTF-16 with a mark">'.encode("utf-16-le"), {})
    assert page.pictures == [("a.png", "in UTF-16 with a mark")]
