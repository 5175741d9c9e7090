import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from pipeline.demo import corpus
from pipeline.demo.report import Fact, Generated, Ledger, Reconstruction, Report, Sample, Step, render
from pipeline.media.image import encode_png
from pipeline.page import chart

HOSTILE = "</p><script>alert(1)</script><img src=x onerror=alert(2)> \" ' & \u202ereversed\x00\x1b[31m \ud800"
PNG = encode_png(corpus.pixels()[1])
STEP = Step.of(
    "fetch",
    {
        "in": 10,
        "kept": 5,
        "dropped": {"noai": 1, "robots_disallowed": 1},
        "failed": {"timeout": 1},
        "unknown": {"language_unknown": 1},
        "deferred": {"retry_after": 1},
    },
)


def _report(text: str) -> Report:
    """Every part of a page, with `text` wherever text can stand."""
    step = replace(STEP, name=text, dropped={text: 2})
    return Report(
        title=text,
        subtitle=text,
        facts=(Fact(label=text, value=text, note=text),),
        ledgers=(Ledger(title=text, unit=text, steps=(step,)),),
        charts=(
            chart.Chart(title=text, x_label=text, y_label=text, lines=(chart.Line(name=text, xs=[0, 1], ys=[2, 1]),)),
        ),
        reconstructions=(Reconstruction(original=PNG, dvae=PNG, decoder=PNG),),
        generated=(Generated(prompt=text, images=(PNG, PNG)),),
        kept=(Sample(text=text, note=text, url=f"http://me:secret@host/{text}?key=1", media=b"fLaC!"),),
        left=(
            Sample(text=text, state="failed", reason=text),
            Sample(text=text, state="dropped", reason=text, media=PNG, media_type="image/png"),
        ),
    )


class _Page(HTMLParser):
    VOID = {"meta", "img", "br", "path"}

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def harmless() -> _Page:
    return _Page(render(_report("a caption")))


def test_hostile_text_adds_no_tag_and_no_attribute(harmless):
    rendered = render(_report(HOSTILE))
    page = _Page(rendered)
    assert [(tag, sorted(attributes)) for tag, attributes in page.tags] == [
        (tag, sorted(attributes)) for tag, attributes in harmless.tags
    ]
    assert "<script>alert(1)</script>" in " ".join(page.words)
    assert not re.search("[\u202e\x00\x1b]", rendered)
    rendered.encode()  # a lone surrogate would fail here


def test_loads_nothing_and_runs_nothing(harmless):
    tags = {tag for tag, _ in harmless.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base", "a"}
    for tag, attributes in harmless.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("href", "srcset", "action")], tag
        assert attributes.get("src", "data:").startswith("data:")
    (policy,) = [a["content"] for tag, a in harmless.tags if a.get("http-equiv") == "Content-Security-Policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'" and "script-src" not in directives
    assert directives["img-src"] == directives["media-src"] == "data:"
    style = "".join(re.findall(r"<style>(.*?)</style>", render(_report("x")), re.S))
    assert "url(" not in style and "@import" not in style and "prefers-color-scheme: dark" in style


def test_media_arrive_whole(harmless):
    sources = [(tag, attributes["src"]) for tag, attributes in harmless.tags if "src" in attributes]
    assert [tag for tag, _ in sources] == ["img"] * 5 + ["audio", "img"]
    for tag, source in sources:
        kind, body = source.removeprefix("data:").split(";base64,")
        assert (kind, base64.b64decode(body)) == (("image/png", PNG) if tag == "img" else ("audio/flac", b"fLaC!"))


def test_urls_lose_their_secrets():
    page = render(_report("x"))
    assert "http://host/x" in page and "secret" not in page and "key=1" not in page


def test_ledger_shows_every_count_and_reason():
    page = render(Report(title="t", ledgers=(Ledger(title="Images", unit="pictures", steps=(STEP, STEP)),)))
    (row,) = set(re.findall(r"<tr><td>fetch</td>(.*?)<td class=\"share\">", page))
    assert re.findall(r">(\d+)<", row) == ["10", "5", "2", "1", "1", "1"]
    for reason in ("noai", "robots_disallowed", "timeout", "language_unknown", "retry_after"):
        assert f"<code>{reason}</code> <b>2</b>" in page  # summed over both steps
    shares = [int(n) for n in re.findall(r'style="flex: (\d+)"', page)]
    assert shares == [5, 2, 1, 1, 1] * 2
    assert "does not balance" not in page


def test_books_that_do_not_balance_are_marked():
    assert STEP.missing == 0
    for wrong in (11, 9):
        step = replace(STEP, incoming=wrong)
        page = render(Report(title="t", ledgers=(Ledger(title="Images", unit="pictures", steps=(step,)),)))
        assert f"fetch does not balance: {wrong - 10} of {wrong} unaccounted for" in page


def test_empty_parts_are_left_out_and_long_texts_are_cut():
    page = render(Report(title="t"))
    assert not re.search(r"<h2>|<section>|<table>|<svg", page)
    assert len(render(Report(title="t", kept=(Sample(text="word " * 10_000),)))) < len(page) + 1500


def test_media_types_that_browsers_cannot_play_are_refused():
    with pytest.raises(ValueError, match="text/html.*audio/flac"):
        Sample(text="x", media=b"<script>", media_type="text/html")


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://me:pw@[x/?k=v", "//", "", "\x1b]0;x\x07", "http://h:port/", "\ud800"]
)
def test_a_url_that_is_none_costs_no_page(url):
    page = render(Report(title="t", left=(Sample(text="x", url=url, state="failed", reason="bad_url"),)))
    assert "pw" not in page and "k=v" not in page and not re.search("[\x00\x07\x1b]", page)


# Everything that a terminal or a browser obeys or hides: C0, C1, DEL, bidi marks, embeddings, overrides and isolates,
# zero width, line and paragraph separators, byte order mark, tags, a private and an unassigned character, a lone
# surrogate.
UNSEEN = [
    *map(chr, range(32)),
    *map(chr, range(127, 160)),
    *"\u061c\u200b\u200d\u200e\u200f\u2028\u2029\u2060\ufeff",
    *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    "\U000e0041",
    "\ue000",
    "\U000e0fff",
    "\udc80",
]


def test_no_character_acts_unseen():
    for unseen in UNSEEN:
        page = render(_report(f"a{unseen}b"))
        assert unseen == "\n" or unseen not in page, ascii(unseen)
        page.encode()


def test_each_text_is_bounded_however_long_and_however_it_grows():
    short = len(render(_report("x")))
    places = render(_report("qqq")).count("qqq")
    for text in (
        "y" * 100_000,
        "\x1b" * 100_000,
        "&" * 100_000,
        "<b>" * 100_000,
        " \n" * 100_000 + "z",
        "\u202e" * 100_000,
    ):
        assert len(render(_report(text))) < short + places * 400 * len(
            "&quot;"
        )  # 400 characters, each an entity at worst


def test_notes_lose_their_secrets():
    note = "http_403 https://me:pw@h/a?sig=abc&id=7 Cookie: sid=1"
    page = render(Report(title="t", left=(Sample(text="x", note=note, state="failed", reason="http_403"),)))
    assert "http_403 https://h/a?sig=REDACTED&amp;id=7 Cookie: REDACTED" in page
