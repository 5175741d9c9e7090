"""Player pages through yt-dlp, whose every request must be ours."""

from dataclasses import replace

import pytest

from pipeline.curate.fetch.discover import DiscoverConfig
from pipeline.curate.fetch.video import choose_track, read_video_page
from pipeline.curate.stage import Leave
from pipeline.records import key_of

EXTRACTORS = DiscoverConfig().extractors
PAGE = """<!doctype html><html lang="en-GB"><head><title>T</title>
<link rel=license href="http://cc.example/by"></head><body>
<audio controls src="one.mp3"><track kind="captions" srclang="de" src="one.de.vtt">
<track kind="captions" srclang="en" src="one.vtt">
<track kind="chapters" src="chapters.vtt"></audio>
<video><source src="/two.webm" type="video/webm"></video></body></html>"""


def test_players_with_and_without_tracks(site, config):
    site.pages["/show/page"] = {"text": PAGE, "content_type": "text/html"}
    one, two = read_video_page(f"{site.url}/show/page", config, EXTRACTORS)
    assert (one["url"], one["transcript_url"]) == (f"{site.url}/show/one.mp3", f"{site.url}/show/one.vtt")
    assert (one["transcript_type"], one["transcript_kind"], one["language"]) == ("vtt", "manual", "en-GB")
    assert one["key"] == key_of(one["url"]) and one["license"] == "http://cc.example/by" and one["text"] is None
    assert (two["url"], two["transcript_url"], two["transcript_kind"]) == (f"{site.url}/two.webm", None, None)
    about = {"/robots.txt", "/ai.txt", "/.well-known/tdmrep.json"}
    assert set(site.hits) == about | {"/show/page"}  # media and captions are for later


def test_secrets_of_the_page_are_not_kept(site, config):
    site.pages["/show/page"] = {"text": PAGE, "content_type": "text/html"}
    site.pages["/none"] = {"text": "<p>", "content_type": "text/html"}
    one, _ = read_video_page(f"{site.url}/show/page?id=7&token=hunter", config, EXTRACTORS)
    assert (one["page_url"], one["source"]) == (f"{site.url}/show/page?id=7&token=REDACTED", f"{site.url}/show/page")
    with pytest.raises(Leave) as leave:
        read_video_page(f"{site.url}/none?id=7&x=hunter", config, EXTRACTORS)
    assert "hunter" not in leave.value.detail and f"{site.url}/none" in leave.value.detail


def test_no_program_is_run(site, config, monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"a program was started: {args}")

    monkeypatch.setattr("subprocess.Popen", refuse)
    monkeypatch.setattr("os.posix_spawn", refuse)
    monkeypatch.setattr("yt_dlp.utils.Popen", refuse)
    site.pages["/page"] = {"text": PAGE, "content_type": "text/html"}
    assert len(read_video_page(f"{site.url}/page", config, EXTRACTORS)) == 2


def test_robots_and_opt_outs_hold(site, config):
    site.pages |= {
        "/robots.txt": "User-agent: *\nDisallow: /no$\n",
        "/no": PAGE,
        "/missing": {"status": 404},
        "/noai": {"text": PAGE, "headers": {"X-Robots-Tag": "noai"}, "content_type": "text/html"},
        "/meta": {"text": PAGE.replace("<head>", "<head><meta name=robots content=noml>"), "content_type": "text/html"},
    }
    for path, expected in (
        ("no", ("dropped", "robots_disallowed")),
        ("noai", ("dropped", "noai")),
        ("meta", ("dropped", "noml")),
        ("missing", ("failed", "http_404")),
    ):
        with pytest.raises(Leave) as leave:
            read_video_page(f"{site.url}/{path}", config, EXTRACTORS)
        assert (leave.value.state, leave.value.reason) == expected, path
    assert not site.hits["/no"]


def test_no_request_escapes_the_address_rules(site, config):
    for target in ("http://169.254.169.254/latest/meta-data", "http://10.0.0.1/x.m3u8"):
        site.pages["/a"] = {"status": 302, "headers": {"Location": target}}
        with pytest.raises(Leave, match="private_address"):
            read_video_page(f"{site.url}/a", config, EXTRACTORS)
    with pytest.raises(Leave, match="private_address"):
        read_video_page(f"{site.url}/a", replace(config, allow_private=()), EXTRACTORS)


def test_child_playlists_are_fetched_by_us_or_not_at_all(site, config):
    site.pages["/page"] = {
        "text": "<html><video src='/ok.m3u8'></video><video src='http://10.0.0.1/evil.m3u8'></video></html>",
        "content_type": "text/html",
    }
    site.pages["/ok.m3u8"] = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://10.0.0.1/child.m3u8\n"
    with pytest.raises(Leave, match="listing_empty|page_unreadable|private_address"):
        read_video_page(f"{site.url}/page", config, EXTRACTORS)
    assert site.hits["/ok.m3u8"] == 1


@pytest.mark.parametrize("body", ["<html>nothing here</html>", "", "{}"])
def test_pages_without_players_leave(site, config, body):
    site.pages["/a"] = {"text": body, "content_type": "text/html"}
    with pytest.raises(Leave) as leave:
        read_video_page(f"{site.url}/a", config, EXTRACTORS)
    assert leave.value.state == "failed" and leave.value.reason in ("page_unreadable", "listing_empty")


def track(name: str, **more: str) -> list[dict]:
    return [{"url": f"http://x/{name}.vtt", "ext": "vtt"} | more]


@pytest.mark.parametrize(
    ("info", "language", "expected"),
    [
        ({}, "en", (None, None, None)),
        (
            {"subtitles": {"fr": track("fr"), "en": track("en")}, "automatic_captions": {"en": track("auto")}},
            "en-US",
            ("en", "manual"),
        ),
        ({"subtitles": {"fr": track("fr")}, "automatic_captions": {"en": track("auto")}}, "en", ("fr", "manual")),
        (
            {"automatic_captions": {"en": track("en"), "en-orig": track("orig"), "fr": track("fr")}},
            "fr",
            ("orig", "auto"),
        ),
        (
            {"automatic_captions": {"fr": track("fr", url="http://x/fr.vtt?tlang=fr"), "en": track("en")}},
            None,
            ("en", "auto"),
        ),
        ({"automatic_captions": {"fr": track("fr", url="http://x/fr.vtt?tlang=fr")}}, "fr", ("fr", "translated")),
        (
            {"subtitles": {"live_chat": [{"url": "http://x/chat", "ext": "json3"}]}, "automatic_captions": {}},
            "en",
            (None, None, None),
        ),
        ({"subtitles": {None: track("a")}}, "en", ("a", "manual")),
    ],
)
def test_choice_of_track(info, language, expected):
    url, _, kind = choose_track(info, language)
    assert (url and url.split("/")[-1].split(".")[0], kind) == (expected if len(expected) == 2 else (None, None))
