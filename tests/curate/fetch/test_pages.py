"""Pages of captioned pictures."""

import json
import time

import pytest

from pipeline.curate.fetch.html_reader import Page
from pipeline.curate.fetch.pages import parse_page, read_page
from pipeline.curate.stage import Leave
from pipeline.curate.work import to_table
from pipeline.records import INPUT, key_of
from tests.curate.fetch import page_kinds
from tests.curate.fetch.page_kinds import KINDS, Kind

URL = "http://pics.example/gallery/page.html?s=1"


def found(html: str, headers: dict[str, str] | None = None) -> list[tuple[str, str]]:
    rows = read_page(html.encode(), URL, headers or {})
    return [(row["url"], row["text"]) for row in rows if row["state"] is None]


def captions(page: Page) -> list[tuple[str, str | None]]:
    return [(picture.best.url, picture.caption) for picture in page.pictures]


def described(kind: Kind, headers: dict[str, str] | None = None) -> tuple[list, list, list]:
    """(kept, passed over, licences of what is kept) as a Kind says it."""
    rows = read_page(kind.html.encode(), page_kinds.URL, headers or {})
    short = [(row["url"].removeprefix("http://pics.example/"), row) for row in rows]
    kept = [(name, row["text"]) for name, row in short if row["state"] is None]
    passed = [(name, row["reason"]) for name, row in short if row["state"] is not None]
    assert {row["state"] for row in rows} <= {None, "dropped"}
    assert all(row["text"] is None and row["detail"] for row in rows if row["state"])
    assert len({row["key"] for row in rows}) == len(rows) and to_table(rows, INPUT).num_rows == len(rows)
    return kept, passed, [row["license"] for row in rows if row["state"] is None]


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_each_kind_of_page(kind):
    kept, passed, licenses = described(kind)
    assert (kept, passed) == (list(kind.kept), list(kind.passed))
    assert kind.licenses is None or licenses == list(kind.licenses)
    assert described(kind) == (kept, passed, licenses)


OPT_OUTS = [
    ("<meta name=robots content=noai>", "noai"),
    ("<meta name=ROBOTS content='index, noimageai'>", "noimageai"),
    ("<meta name=triptych content=none>", "robots_tag_none"),
    ("<meta name=tdm-reservation content=1>", "tdm_reserved"),
    ("<meta property=robots content=noai>", "noai"),
    ("<meta http-equiv=X-Robots-Tag content=noai>", "noai"),
    ("<noscript><meta name=robots content=noai></noscript>", "noai"),
    ("<template><meta name=robots content=noai></template>", "noai"),
    ("<div><p>in the body <meta name=robots content=noai>", "noai"),
]


@pytest.mark.parametrize(("meta", "reason"), OPT_OUTS)
def test_an_opt_out_holds_for_every_kind_of_picture(meta, reason):
    for kind in KINDS:
        with pytest.raises(Leave) as leave:
            read_page((kind.html + meta if "body" in meta else meta + kind.html).encode(), URL, {})
        assert (leave.value.state, leave.value.reason) == ("dropped", reason), kind.name


def test_what_link_headers_say():
    headers = {"Link": '<https://a.example/x>; title="a, b"; rel=license, <page-2.html>; rel="prev next"'}
    page = parse_page(b"<img src=a.png alt='a cat'>", headers)
    assert (page.license, page.next_url) == ("https://a.example/x", "page-2.html")
    assert parse_page(b"<a rel=next href=2>older</a><link rel=next href=3>", {}).next_url == "2"


def test_credits_are_carried_along():
    said = (
        '{"@type": "ImageObject", "contentUrl": "a.png", "creditText": "J. Doe", "acquireLicensePage": "/buy?token=t"}'
    )
    html = f"<script type='application/ld+json'>{said}</script><img src=a.png alt='a cat'>"
    (row,) = read_page(html.encode(), URL, {})
    assert json.loads(row["extra"])["creditText"] == "J. Doe" and "token=t" not in row["extra"]


def test_a_page_is_read_even_if_all_of_it_is_passed_over_and_has_a_bound(monkeypatch):
    (row,) = read_page(b"<img src=a.png>", URL, {})
    assert (row["state"], row["reason"], row["retryable"]) == ("dropped", "picture_uncaptioned", False)
    (again,) = read_page(b"<p>text<img src=a.png alt=''>", URL, {})
    assert again["key"] == row["key"] != key_of(row["url"])
    monkeypatch.setattr("pipeline.curate.fetch.pages._MAX_ROWS", 5)
    rows = read_page(b"".join(b"<img src=%d>" % i for i in range(9)), URL, {})
    assert [row["reason"] for row in rows] == ["picture_uncaptioned"] * 5 + ["listing_cut"]
    monkeypatch.setattr("pipeline.curate.fetch.html_reader._MAX_PICTURES", 3)
    rows = read_page(b"".join(b"<img src=%d>" % i for i in range(9)), URL, {})
    assert [row["reason"] for row in rows] == ["picture_uncaptioned"] * 3 + ["listing_cut"]


HOSTILE = {
    "attributes": "<img " + "x=1 " * 250_000 + ">",
    "attributes with files": "<img alt=cat " + "".join(f"data-a{i}=/b{i}.jpg " for i in range(15_000)) + ">",
    "commas": '<img alt=cat srcset="' + "," * 1_000_000 + '">',
    "candidates": '<img alt=cat srcset="' + "a 1w," * 200_000 + '">',
    "brackets": '<img alt=cat srcset="' + "a (," * 250_000 + '">',
    "figures": "<figure><img src=a alt='b c'>" * 10_000,
    "items": "<div itemscope itemtype=ImageObject><img src=a>" * 6_000,
    "deep JSON": "<script type=application/ld+json>" + '{"image":' * 100_000 + "</script>",
    "deep lists": "<script type=application/ld+json>" + "[" * 1_000_000 + "</script>",
    "long integer": "<script type=application/ld+json>[" + "9" * 1_000_000 + "]</script>",
    "noscripts": "<noscript>" + "&lt;noscript&gt;" * 60_000,
    "references": "<img src=a aria-labelledby=x>" * 5_000 + "<p id=x>" * 20_000,
    "ends": "<div itemscope>" * 64 + "<p></p>" * 40_000,
    "a link of colons": '<a href="' + ":" * 1_000_000 + '/a.jpg"><img src=b alt=cat>',
    "sources": "<picture>" + '<source srcset="a 1w">' * 15_000 + "<img src=x alt=cat>",
    "og:images": "".join(f"<meta property=og:image content=/{i}>" for i in range(25_000)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pages_cost_linear_time(name):
    began_s = time.process_time()
    try:
        rows = read_page(HOSTILE[name].encode(), URL, {})
    except Leave:
        rows = []
    assert time.process_time() - began_s < 10 and len(rows) <= 10_001


def test_halves_of_characters_cost_nothing_but_themselves():
    said = [
        {"@type": "ImageObject", "url": url, "caption": "A cat \ud800", "creditText": "\udfff", "license": "\ud800"}
        for url in ("data:image/png;base64,\ud800", "/a\ud800.jpg", "http://a.example\ud800/b.jpg")
    ]
    html = f'<script type="application/ld+json">{json.dumps(said)}</script><img src=/c.jpg alt="A dog">'
    rows = read_page(html.encode(), URL, {})
    assert [row["reason"] for row in rows] == [None, "picture_inline", None, "bad_url"]
    assert to_table(rows, INPUT).num_rows == 4


def test_what_stands_beside_every_picture_is_short():
    long = "x" * 100_000
    head = f"<html lang={long}><base href='/{long}'><link rel=license href='http://a.example/{long}'>"
    figure = f"<figure><figcaption>{long}</figcaption>" + "".join(f"<img src=/{i}>" for i in range(500)) + "</figure>"
    rows = read_page((head + figure).encode(), URL, {})
    assert len(rows) == 500 and all(len(str(row)) < 6_000 and row["state"] is None for row in rows)


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
    assert captions(page) == [("a", "café")]  # what is no encoding of the web is read as browsers do


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
        assert captions(page) == [("a.png", "caf\u00e9 at night")] and time.process_time() - began_s < 5
    page = parse_page(b"\xff\xfe" + '<img src="a.png" alt="in UTF-16 with a mark">'.encode("utf-16-le"), {})
    assert captions(page) == [("a.png", "in UTF-16 with a mark")]
