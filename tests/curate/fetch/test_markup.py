"""HTML tokens, compared with the standard library's parser where a page is in order."""

import html
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.curate.fetch.markup import Tag, tokens


class Reference(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[Tag | str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values: dict[str, str] = {}
        for name, value in attrs:
            values.setdefault(name, value or "")
        self.found.append(Tag(name=tag, values=values))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(Tag(name=tag, is_end=True))

    def handle_data(self, data: str) -> None:
        if self.found and isinstance(self.found[-1], str):
            data = self.found.pop() + data
        self.found.append(data)


def joined(text: str) -> list[Tag | str]:
    out: list[Tag | str] = []
    for token in tokens(text):
        if isinstance(token, str) and out and isinstance(out[-1], str):
            out[-1] += token
        else:
            out.append(token)
    return out


names = st.sampled_from(["p", "IMG", "figure", "a", "h1", "x-y"])
words = st.text("abc é&;\u20ac", min_size=1, max_size=8)
quoted = st.builds('{}="{}"'.format, st.sampled_from(["src", "ALT", "data-x"]), words) | st.builds(
    "{} = '{}'".format, st.sampled_from(["alt", "href"]), words
)
attributes = quoted | st.sampled_from(["src=a.png", "hidden", "title=x&amp;y", "alt=''"])
starts = st.builds(
    lambda name, attrs: f"<{name}{''.join(' ' + a for a in attrs)}>", names, st.lists(attributes, max_size=3)
)
pieces = starts | names.map("</{}>".format) | words | st.just("<!-- <img src=x> -->") | st.just("<!doctype html>")


@settings(deadline=None)
@given(st.lists(pieces, max_size=12).map("".join))
def test_the_same_tokens_as_the_standard_library(text):
    reference = Reference()
    reference.feed(text)
    reference.close()
    assert joined(text) == reference.found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a < b <3 <> c", ["a < b <3 <> c"]),
        ("<br/><img src=a.png/>", [Tag(name="br"), Tag(name="img", values={"src": "a.png/"})]),
        ("<script>if (a<b) '<img src=x>'</script >x", [Tag(name="script"), Tag(name="script", is_end=True), "x"]),
        ("<TITLE><b></tItle>", [Tag(name="title"), Tag(name="title", is_end=True)]),
        ("x<!-- never closed <p>", ["x"]),
        ("x<style><p>", ["x", Tag(name="style")]),
        ("x<p class='", ["x"]),
        ("<p a=1 a=2 =b>", [Tag(name="p", values={"a": "1"})]),
        ("<a href='x&quot;y'>", [Tag(name="a", values={"href": 'x"y'})]),
        ("<?php x ?><p>", [Tag(name="p")]),
        ("<iframe><img src=x></iframe>", [Tag(name="iframe"), Tag(name="iframe", is_end=True)]),
    ],
)
def test_oddities(text, found):
    assert joined(text) == found


def test_scripts_are_kept_to_the_letter():
    (script, end), (open_one,) = tokens("<script>a<b &amp; c</script>"), tokens("<script>a<b")
    assert isinstance(script, Tag) and script.raw == "a<b &amp; c" and end == Tag(name="script", is_end=True)
    assert isinstance(open_one, Tag) and open_one.raw == "a<b"


@pytest.mark.parametrize(
    "piece",
    [
        "<!--",
        "<",
        "<a ",
        "<!",
        "<![CDATA[",
        "&#",
        "<a href='",
        '<a href="',
        "</",
        "<script>",
        "<?",
        "<figure>",
        " x",
        "<a x= ",
        "<a\n",
    ],
)
def test_hostile_pages_cost_linear_time(piece):
    text = "<a " + piece * (1_000_000 // len(piece)) if piece == " x" else piece * (1_000_000 // len(piece))
    began_s = time.process_time()
    for _ in tokens(text):
        pass
    assert time.process_time() - began_s < 10


@settings(deadline=None)
@given(st.text("<>/!-='\"abp &;?", max_size=60))
def test_any_text_is_read_to_its_end(text):
    # Text before the first "<" comes out whole, and a tag that is appended to closed text is always found.
    found = list(tokens(text))
    plain = text.partition("<")[0]
    assert not plain or found[0] == html.unescape(plain)
    assert sum(len(token) for token in found if isinstance(token, str)) <= len(text)
    assert list(tokens(plain + "<b>"))[-1] == Tag(name="b")
