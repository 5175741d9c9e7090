"""Which file of a picture is fetched; whole pages are in `page_kinds`."""

import pytest

from pipeline.curate.fetch.candidates import best, ending, is_stand_in, linked, of_srcset, offered


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" , ,, ", []),
        ("a.jpg", [("a.jpg", 1)]),
        ("a.jpg,b.jpg 2x", [("a.jpg,b.jpg", 2)]),
        ("a.jpg, b.jpg 2x", [("a.jpg", 1), ("b.jpg", 2)]),
        ("a.jpg 100w,b.jpg 200w", [("a.jpg", 100), ("b.jpg", 200)]),
        ("a,b,,c,", [("a,b,,c", 1)]),
        ("a, b,, c,", [("a", 1), ("b", 1), ("c", 1)]),
        ("a (b,c),d", [("d", 1)]),
        ("a (b,c", []),
        ("data:image/png;base64,AA== 2x,b 1x", [("data:image/png;base64,AA==", 2), ("b", 1)]),
        ("a .5x, b 1e1x, c 1.x, d +1x, e nanx, f 1_0x, g 0x", [("a", 0.5), ("b", 10), ("g", 0)]),
        ("a 0w, b -1w, c 1.5w, d 010w", [("d", 10)]),
        ("a 1w 2w, b 1x 2x, c 1w 1x, d 5h, e 9w 5h", [("e", 9)]),
        ("a\u00a02x", [("a\u00a02x", 1)]),
        ("null", []),
    ],
)
def test_srcsets_are_read_as_browsers_do(text, expected):
    assert [(candidate.url, candidate.width) for candidate in of_srcset(text, 1.0)] == expected


def test_a_set_of_any_length_is_bounded():
    assert len(of_srcset("a 1w," * 100_000, 1.0)) == 500


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        *(
            (name, True)
            for name in ("/spinner.gif", "blank.png?v=2", "/i/1x1.gif", "/img/placeholder.jpg", "t/grey.gif")
        ),
        *((name, True) for name in ("/no-image-available.jpg", "/lazy-load.svg", "/article-placeholder.png")),
        *((name, True) for name in ("https://via.placeholder.com/300x200", "/spacer_10x20.gif", "ajax-loader.gif")),
        *(
            (name, False)
            for name in ("/a.jpg", "/loading-dock.jpg", "/loading.jpg", "/pixel-phone.png", "/gray-wolf.jpg")
        ),
        *((name, False) for name in ("/clear-sky.png", "/", "", "/photo.jpg", "/300x200.jpg", "/icon-dog.png")),
    ],
)
def test_stand_ins_by_their_names(url, expected):
    assert is_stand_in(url) is expected


@pytest.mark.parametrize(
    ("href", "is_original"),
    [
        ("/a.jpg", True),
        ("https://cdn.example/a.JPEG?w=9#x", True),
        ("//cdn.example/a.webp", True),
        ("/a.html", False),
        ("/a", False),
        ("https://photos.jpg", False),
        ("/wiki/Datei:Katze.jpg", False),
        ("https://code.example/o/r/blob/main/a.png", False),
        ("http://1.bp.example/_x/s1600-h/a.jpg", False),
        ("/filters:quality(80)/a.jpg", True),
        ("javascript:show('a.jpg')", False),
        ("/a.svg", False),
        ("", False),
    ],
)
def test_links_to_originals(href, is_original):
    assert bool(linked(href)) is is_original


def test_the_best_is_the_first_of_equals():
    assert best(offered({"src": "/a.jpg", "data-src": "/b.jpg", "data-original": "/c.jpg"})).url == "/b.jpg"
    assert best(offered({"src": "about:blank", "data-src": "ftp://x/b.jpg", "srcset": "/c.svg"})).url == "/c.svg"
    assert [ending(url) for url in ("/a.JPG?x=.png", "/.jpg", "http://a.b", "a.b/c")] == ["jpg", "", "", ""]
