"""The fetching stages, through their one method."""

import gzip
import hashlib
from dataclasses import replace

import pytest
from aiohttp import web

from pipeline.curate.fetch.download import Fetch, FetchEpisode, decode_text, media_type
from pipeline.curate.fetch.rows import input_row
from pipeline.curate.fetch.tracks import Track, column, from_column
from pipeline.curate.stage import Leave
from pipeline.curate.work import apply, start, to_table
from pipeline.records import CLIP, IMAGE, INPUT

VTT = "WEBVTT\n\n00:01.000 --> 00:02.000\né\n"


def pictures(site, *names: str) -> list[dict]:
    found = [input_row(name, base=site.url, source="s", text="x") for name in names]
    return start(to_table(found, INPUT), IMAGE, unit="image", caption="text").to_pylist()


def episode(site, audio: str = "/a.mp3", transcript: str | None = "/a.vtt") -> dict:
    found = input_row(audio, base=site.url, source="s", transcript_url=transcript and site.url + transcript)
    return start(to_table([found], INPUT), CLIP, unit="episode").to_pylist()[0]


def test_a_batch_ends_in_order_each_row_for_itself(site, config):
    site.pages |= {
        "/a.png": b"AAA",
        "/noai.png": {"body": b"x", "headers": {"X-Robots-Tag": "noai"}},
        "/inside": {"status": 302, "headers": {"Location": "http://10.0.0.1/"}},
        "/b.png": b"BB",
    }
    rows = pictures(site, "/a.png", "/missing", "/noai.png", "/inside", "/b.png")
    out = Fetch(config=config).batch(rows)
    assert [row["key"] for row in out] == [row["key"] for row in rows]
    assert [row["reason"] for row in out] == [None, "http_404", "noai", "private_address", None]
    assert [row["http_status"] for row in out] == [200, 404, 200, None, 200]
    assert (out[0]["image"], out[0]["size_bytes"], out[0]["sha256"]) == (b"AAA", 3, hashlib.sha256(b"AAA").hexdigest())
    assert all(out[n]["image"] is None for n in (1, 2, 3)) and out[4]["image"] == b"BB"
    to_table(out, IMAGE)


def test_rows_that_left_are_not_fetched(site, config):
    site.pages["/a.png"] = b"A"
    gone = pictures(site, "/b.png")[0] | {"state": "failed", "reason": "bad_url"}
    out = apply(Fetch(config=config), [gone, *pictures(site, "/a.png")])
    assert {row["reason"] for row in out} == {None, "bad_url"} and not site.hits["/b.png"]


def test_a_batch_is_fetched_concurrently(site, config):
    import asyncio

    here: list[str] = []

    async def meeting(request: web.Request) -> web.Response:
        here.append(request.path)
        while len(here) < 4:  # one after the other they would wait for ever, and time out
            await asyncio.sleep(0.01)
        return web.Response(body=b"x")

    site.pages |= {f"/{n}": meeting for n in range(4)}
    out = Fetch(config=config).batch(pictures(site, *(f"/{n}" for n in range(4))))
    assert [row["state"] for row in out] == [None] * 4


def test_an_episode_with_its_transcript(site, config):
    site.pages |= {"/a.mp3": b"sound", "/a.vtt": {"text": VTT, "content_type": "text/vtt"}}
    (row,) = FetchEpisode(config=config).batch([episode(site)])
    assert (row["state"], row["audio"], row["transcript"], row["transcript_type"]) == (
        None,
        b"sound",
        VTT,
        "text/vtt",
    )
    assert row["sha256"] == hashlib.sha256(b"sound").hexdigest() and row["size_bytes"] == 5
    to_table([row], CLIP)


def test_episodes_that_leave(site, config):
    site.pages |= {
        "/a.mp3": b"sound",
        "/a.vtt": VTT,
        "/odd.vtt": b"\x81\xff\x00",
        "/huge.vtt": bytes(9 * 2**20),
        "/robots.txt": "User-agent: *\nDisallow: /no.vtt\n",
    }
    cases = [
        (episode(site, transcript=None), "dropped", "transcript_missing"),
        (episode(site, transcript="/none.vtt"), "failed", "transcript_http_404"),
        (episode(site, transcript="/odd.vtt"), "failed", "transcript_unreadable"),
        (episode(site, transcript="/huge.vtt"), "failed", "transcript_too_large"),
        (episode(site, transcript="/no.vtt"), "dropped", "transcript_robots_disallowed"),
        (episode(site, audio="/b.mp3"), "failed", "http_404"),
    ]
    out = FetchEpisode(config=config).batch([row for row, _, _ in cases])
    assert [(row["state"], row["reason"]) for row in out] == [(state, reason) for _, state, reason in cases]
    assert not site.hits["/a.mp3"], "audio is fetched only when there is a transcript"
    assert out[-1]["transcript"] == VTT


def test_a_url_that_was_cut_is_not_asked_for(site, config):
    site.pages |= {"/a.png": b"A", "/a.mp3": b"sound", "/a.vtt": VTT}
    (picture,) = Fetch(config=config).batch(pictures(site, "/a.png?sig=REDACTED"))
    cases = [
        ("/a.mp3?token=REDACTED", "/a.vtt"),
        ("/a.mp3", "/a.vtt?w=1&sig=REDACTED"),
        ("/a.mp3;sid=REDACTED", "/a.vtt"),
    ]
    episodes = FetchEpisode(config=config).batch([episode(site, *case) for case in cases])
    for row in (picture, *episodes):
        assert (row["state"], row["reason"], row["retryable"]) == ("failed", "signed_url_not_kept", False)
        assert "new run" in row["detail"]
    assert not site.hits
    (row,) = FetchEpisode(config=config).batch([episode(site, "/a.mp3?token=REDACTED", None)])
    assert row["reason"] == "transcript_missing"


def test_details_carry_no_secret_of_a_url_or_a_server(site, config):
    async def raw(request: web.Request) -> web.StreamResponse:
        request.transport.write(b"HTTP/1.1 200 OK\r\nSet-Cookie hunter: sid=hunter\x00\r\n\r\n")
        return web.Response()

    site.pages |= {
        "/raw": raw,
        "/away": {"status": 302, "headers": {"Location": "http://me:hunter@e.example/?sig=hunter"}},
        "/odd": {"status": 302, "headers": {"Location": "http://me:hun/ter@e.example/"}},
        "/packed": {"body": b"x", "headers": {"Content-Encoding": "x; Cookie: hunter" + "y" * 3000}},
        "/gone": {"status": 404},
    }
    out = Fetch(config=replace(config, retries=0)).batch(
        pictures(site, *(f"{path}?token=hunter" for path in site.pages))
    )
    assert [row["reason"] for row in out] == ["bad_response", "bad_url", "bad_url", "bad_encoding", "http_404"]
    for row in out:
        detail = row["detail"]
        assert "hun" not in detail and "ter@" not in detail and detail.isprintable() and len(detail) <= 500, detail


def test_audio_larger_than_the_cap(site, config):
    site.pages |= {"/a.mp3": bytes(1001), "/a.vtt": VTT}
    (row,) = FetchEpisode(config=replace(config, max_bytes=1000)).batch([episode(site)])
    assert row["reason"] == "too_large"


@pytest.mark.parametrize(
    ("body", "header", "expected"),
    [
        ("né".encode(), "", "né"),
        ("né".encode("utf-8-sig"), "", "né"),
        ("né".encode("utf-16"), "text/vtt", "né"),
        ("né".encode("latin-1"), "text/plain; charset=ISO-8859-1", "né"),
        ("né".encode(), "text/plain; charset=latin-1", "né"),
        ("né".encode("cp1252"), 'text/plain; charset="windows-1252"', "né"),
        ("Où est le café, s’il vous plaît ?".encode("cp1252"), "", "Où est le café, s’il vous plaît ?"),
        ("тихий вечер у реки".encode("cp1251"), "text/plain; charset=windows-1251", "тихий вечер у реки"),
    ],
)
def test_text_encodings(body, header, expected):
    assert decode_text(body, {"Content-Type": header}) == expected


@pytest.mark.parametrize(
    "body",
    [
        "тихий вечер у реки".encode("cp1251"),
        "Zażółć gęślą jaźń, a łąka łatwo".encode("cp1250"),
        "こんばんは".encode("cp932"),
        bytes(range(256)),
        b"\x89PNG\r\n\x1a\n" + bytes(64),
    ],
)
def test_text_in_no_encoding_that_is_told(body):
    for header in ({}, {"Content-Type": "text/vtt; charset=made-up"}):
        with pytest.raises(Leave, match="transcript_unreadable"):
            decode_text(body, header)


def test_media_types():
    assert media_type({"Content-Type": "Text/VTT; charset=utf-8"}) == "text/vtt" and media_type({}) is None


GOOD, BAD = {"text": VTT, "content_type": "text/vtt"}, {"text": "<!doctype html><p>Log in", "content_type": "text/html"}


@pytest.mark.parametrize(
    ("offers", "used", "outcome"),
    [
        (["vtt /gone", "srt /good"], "/good", (None, None, "http_404")),
        (["vtt /page", "vtt /empty", "srt /good"], "/good", (None, None, "HTML page; unreadable")),
        (["vtt /no", "srt /good"], "/good", (None, None, "robots_disallowed")),
        (["vtt /good", "srt /page"], "/good", (None, None, None)),
        (["- /good"], "/good", (None, None, None)),
        (["- /packed"], "/packed", (None, None, None)),
        (["txt /good"], "/good", (None, None, None)),
        (["vtt /gone?sig=REDACTED", "srt /good"], "/good", (None, None, None)),
        (["html /good"], None, ("dropped", "transcript_untimed", "no times")),
        (["txt /prose"], None, ("dropped", "transcript_untimed", "text without times")),
        (["vtt /prose"], None, ("failed", "transcript_unreadable", "text without times")),
        (["vtt /playlist"], None, ("failed", "transcript_unreadable", "HLS playlist")),
        (["vtt /empty"], None, ("failed", "transcript_unreadable", "empty")),
        (["vtt /picture"], None, ("failed", "transcript_unreadable", "PNG")),
        (["txt /prose", "vtt /gone"], None, ("failed", "transcript_http_404", "untimed")),
        (["vtt /page", "vtt /busy"], None, ("failed", "transcript_http_503", "HTML page")),
        (["vtt /bomb"], None, ("failed", "transcript_too_large", "gzip")),
    ],
)
def test_transcripts_are_tried_until_one_can_be_read(site, config, offers, used, outcome):
    site.pages |= {
        "/a.mp3": b"sound",
        "/good": GOOD,
        "/page": BAD,
        "/empty": b"",
        "/prose": "Ann: hello.\n\nBo: hello, and welcome.\n",
        "/playlist": "#EXTM3U\n#EXT-X-VERSION:3\n",
        "/picture": b"\x89PNG\r\n\x1a\n" + bytes(64),
        "/busy": {"status": 503},
        "/packed": {"body": gzip.compress(VTT.encode()), "content_type": "application/gzip"},
        "/bomb": {"body": gzip.compress(bytes(9 * 2**20)), "content_type": "application/gzip"},
        "/robots.txt": "User-agent: *\nDisallow: /no\n",
    }
    first, *more = (Track(url=site.url + path, type=kind.strip("-")) for kind, path in map(str.split, offers))
    found = input_row(
        "/a.mp3",
        base=site.url,
        source="s",
        transcript_url=first.url,
        transcript_type=first.type,
        more_transcripts=column(more, site.url),
    )
    (row,) = start(to_table([found], INPUT), CLIP, unit="episode").to_pylist()
    (row,) = FetchEpisode(config=replace(config, retries=0)).batch([row])
    state, reason, told = outcome
    assert (row["state"], row["reason"]) == (state, reason)
    assert all(part in row["detail"] for part in told.split("; ")) if told else row["detail"] is None
    if used is None:
        assert not site.hits["/a.mp3"]
    else:
        assert (row["transcript_url"], row["transcript"], row["audio"]) == (site.url + used, VTT, b"sound")
    known = [row["transcript_url"], *(track.url for track in from_column(row["more_transcripts"]))]
    assert sorted(known) == sorted(track.url for track in (first, *more)), "each may be revoked"
    to_table([row], CLIP)
