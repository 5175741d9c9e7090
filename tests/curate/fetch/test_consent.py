"""Opt-out signals: a conformance table."""

import pytest

from pipeline.curate.fetch.consent import header_reason, meta_reason, origin_of

TAGS = [
    ("noai", "noai"),
    ("NoAI", "noai"),
    ("noimageai", "noimageai"),
    ("noml", "noml"),
    ("none", "robots_tag_none"),
    ("noindex, noai", "noai"),
    ("noai, noindex", "noai"),
    (" noai ", "noai"),
    ("noindex,noimageai,nofollow", "noimageai"),
    # directives with a value must not hide what follows them
    ("max-snippet: 0, noai", "noai"),
    ("noai, max-snippet: 0", "noai"),
    ("max-image-preview: none, noai", "noai"),
    ("max-video-preview: -1, noml", "noml"),
    ("max-image-preview: none", None),
    ("max-snippet:0,noai", "noai"),
    ("unavailable_after: 25 Jun 2030 15:00:00 PST, noai", "noai"),
    ("unavailable_after: Saturday, 25-Jun-30 15:00:00 PST, noai", "noai"),
    ("unavailable_after: Tue, 25 Jun 2030 15:00:00 GMT, none", "robots_tag_none"),
    ("unavailable_after: 2030-06-25T15:00:00-08:00, noai", "noai"),
    ("unavailable_after: 2030-06-25T15:00:00-08:00", None),
    # scopes
    ("googlebot: noai", None),
    ("triptych: noai", "noai"),
    ("Triptych: noindex, noai", "noai"),
    ("*: noai", "noai"),
    ("triptych/1.0: noai", "noai"),
    ("googlebot: nofollow, noai", None),
    ("googlebot: noindex, triptych: noai", "noai"),
    ("triptych: nofollow, googlebot: noai", None),
    ("noai, googlebot: noindex", "noai"),
    ("googlebot: max-snippet: 0, noai", None),
    ("triptych: max-snippet: 0, noai", "noai"),
    ("badbot: unavailable_after: 25 Jun 2030 15:00:00 PST, noai", None),
    ("otherbot: noindex, *: noai", "noai"),
    ("GPTBot: noai", None),
    ("google-extended: noai", None),
    # nothing of the kind
    ("", None),
    ("all", None),
    ("noindex, nofollow", None),
    ("noaix", None),
    ("xnoai", None),
    ("noarchive", None),
    ("noai=false", None),
    (":", None),
    (",,,", None),
    ("index, follow, max-snippet:-1", None),
]


@pytest.mark.parametrize(("value", "expected"), TAGS)
def test_x_robots_tag(value, expected):
    assert header_reason([("Content-Type", "image/png"), ("X-Robots-Tag", value)]) == expected


def test_each_header_line_has_its_own_scope():
    assert header_reason([("x-robots-tag", "googlebot: nofollow"), ("x-robots-tag", "noai")]) == "noai"
    assert header_reason([("X-ROBOTS-TAG", "googlebot: noai"), ("x-robots-tag", "bingbot: noai")]) is None


@pytest.mark.parametrize(
    ("value", "expected"), [("1", "tdm_reserved"), (" 1 ", "tdm_reserved"), ("0", None), ("", None)]
)
def test_tdm_reservation(value, expected):
    assert header_reason([("tdm-reservation", value)]) == expected
    assert meta_reason([("tdm-reservation", value)]) == expected


def test_meta_tags():
    assert meta_reason([("viewport", "noai"), ("ROBOTS", "index, noai")]) == "noai"
    assert meta_reason([("triptych", "noml")]) == "noml"
    assert meta_reason([("googlebot", "noai"), ("robots", "index")]) is None


@pytest.mark.parametrize(
    ("rules", "path", "allowed"),
    [
        ("User-agent: *\nDisallow: /*.mp3$", "/a.mp3", False),
        ("User-agent: *\nDisallow: /*.mp3$", "/a.mp3?x", True),
        ("User-agent: *\nDisallow: /private\nAllow: /private/ok", "/private/ok/1", True),
        ("User-agent: *\nDisallow: /private\nAllow: /private/ok", "/private/1", False),
        ("User-agent: other\nDisallow: /", "/a", True),
        ("User-agent: TRIPTYCH\nDisallow: /a", "/a", False),
        ("User-agent: *\nDisallow: /\n\nUser-agent: triptych\nAllow: /", "/a", True),
        ("User-agent: *\nDisallow:", "/a", True),
        ("", "/a", True),
        ("<html>not found</html>", "/a", True),
        ("User-agent: *\nDisallow: /%7Ejoe", "/~joe/x", False),
        ("user-agent:*\ndisallow:/a #note", "/a", False),
        ("\ufeffUser-agent: *\nDisallow: /a", "/a", False),
    ],
)
def test_robots_txt(rules, path, allowed):
    reason = origin_of(rules.encode()).reason(f"http://example.com{path}")
    assert reason == (None if allowed else "robots_disallowed")


def test_no_robots_txt_allows_everything():
    assert origin_of(None).reason("http://example.com/a") is None


@pytest.mark.parametrize(
    "body",
    [
        b'[{"location": "https://example.com/", "tdm-reservation": 1}]',
        b'[{"location": "https://example.com", "tdm-reservation": 1}]',
        b'[{"location": ["/b", "/a"], "tdm-reservation": 1}]',
    ],
)
def test_a_location_is_told_however_it_is_written(body):
    assert origin_of(None, None, body).is_reserved("https://example.com/a.jpg")


@pytest.mark.parametrize("rules", ["Disallow: *.JPG", "Disallow: /*.Jpg$", "Disallow: *.jpg"])
@pytest.mark.parametrize("path", ["/a.jpg", "/a.JPG"])
def test_endings_in_ai_txt_are_of_either_case(rules, path):
    origin = origin_of(None, f"User-Agent: *\n{rules}\nAllow: *.txt\n".encode())
    assert origin.reason(f"https://example.com{path}") == "ai_txt_disallowed"


def test_a_reservation_may_stand_in_quotes():
    assert header_reason([("TDM-Reservation", '"1"')]) == "tdm_reserved"
