"""Player pages through yt-dlp, whose every request must be ours."""

from dataclasses import replace

import pytest

from pipeline.curate.fetch.discover import DiscoverConfig
from pipeline.curate.fetch.video import choose_tracks, read_video_page
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
    rows = read_video_page(f"{site.url}/page", config, EXTRACTORS)
    assert {(row["state"], row["reason"]) for row in rows} == {("failed", "media_in_pieces")}
    assert site.hits["/ok.m3u8"] == 1


@pytest.mark.parametrize("body", ["<html>nothing here</html>", "", "{}"])
def test_pages_without_players_leave(site, config, body):
    site.pages["/a"] = {"text": body, "content_type": "text/html"}
    with pytest.raises(Leave) as leave:
        read_video_page(f"{site.url}/a", config, EXTRACTORS)
    assert leave.value.state == "failed" and leave.value.reason in ("page_unreadable", "listing_empty")


MP3 = b"ID3\x04\0\0\0\0\0\0" + b"\xff\xfb\x90\0" * 500
HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:9.0,\nseg.ts\n#EXT-X-ENDLIST\n"
MEDIA = {
    "/a.m3u8": {"text": HLS, "content_type": "application/vnd.apple.mpegurl"},
    "/a.mp3": {"body": MP3, "content_type": "audio/mpeg"},
    "/octets": {"body": MP3, "content_type": "application/octet-stream"},
    "/gone.mp3": {"text": "<html><p>gone", "content_type": "audio/mpeg"},
    "/a.png": {"body": b"\x89PNG\r\n\x1a\n" + bytes(99), "content_type": "image/png"},
    "/text": {"text": "no page", "content_type": "text/plain"},
}


def outcome(site, config, path: str) -> list[tuple[str, str | None, str | None]]:
    try:
        rows = read_video_page(f"{site.url}{path}", config, EXTRACTORS)
    except Leave as leave:
        return [("", leave.reason, leave.detail)]
    return [(row["url"].removeprefix(site.url), row["reason"], row["transcript_url"]) for row in rows]


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<video src=/a.m3u8></video>", [("/a.m3u8", "media_in_pieces", None)]),
        ("<audio src=/b.mp3></audio><video src=/a.m3u8></video>", [("/b.mp3", None), ("/a.m3u8", "media_in_pieces")]),
        ("<video src=/b.mp4><track kind=metadata srclang=en src=/m.vtt></video>", [("/b.mp4", None, None)]),
        ("<video src=/b.mp4><track kind=descriptions src=/m.vtt></video>", [("/b.mp4", None, None)]),
    ],
)
def test_streams_and_tracks_that_are_no_transcripts(site, config, html, expected):
    site.pages |= MEDIA | {"/page": {"text": f"<html>{html}", "content_type": "text/html"}}
    found = outcome(site, config, "/page")
    assert [row[: len(one)] for row, one in zip(found, expected, strict=True)] == expected


@pytest.mark.parametrize(
    ("path", "reason", "detail"),
    [
        ("/a.mp3", None, None),
        ("/octets", None, None),
        ("/a.m3u8", "media_in_pieces", None),
        ("/gone.mp3", "listing_empty", "has no media file"),
        ("/a.png", "listing_empty", "no page, but PNG"),
        ("/text", "listing_empty", "no page, but text"),
    ],
)
def test_what_is_no_page_is_named(site, config, path, reason, detail):
    site.pages |= MEDIA
    ((url, why, more),) = outcome(site, config, path)
    assert why == reason and (more or "").endswith(detail or "")
    assert reason == "listing_empty" or url == path


def test_a_media_file_may_be_larger_than_a_page(site, config):
    site.pages |= {"/a.mp3": {"body": MP3 * 50, "content_type": "audio/mpeg"}, "/page": "x" * 100_000}
    small = replace(config, max_bytes=50_000)
    assert outcome(site, small, "/a.mp3") == [("/a.mp3", None, None)]
    assert outcome(site, small, "/page")[0][1] == "too_large"


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
    best = next(iter(choose_tracks(info, language)), None)
    url, kind = (best.url, best.kind) if best else (None, None)
    assert (url and url.split("/")[-1].split(".")[0], kind) == (expected if len(expected) == 2 else (None, None))
