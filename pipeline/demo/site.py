"""Every page, list, feed and file of the demo's small web, planted troubles included, as a table from path to answer.

Guarantees: the same bytes for the same origins. `IMAGE_SOURCES` and `SPEECH_SOURCES` are all that a scraper has to be
told; everything else is linked from there. `corpus.PLANTED` says where each trouble has to end.
"""

import functools
import html
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.demo import corpus, speech, texts, transcripts
from pipeline.media.image import encode_png

TALKS = ("tides", "glass", "library", "snow")
"""Good episodes of the HTML page; the podcast feed has the others."""

_FORMATS: dict[str, speech.Format] = {"weather": "wav", "maps": "opus", "chess": "opus", "glass": "opus"}
_SRT = ("bread", "maps", "piano", "library", "french-transcript")
_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "wav": "audio/wav",
    "vtt": "text/vtt; charset=utf-8",
    "srt": "application/x-subrip",
    "png": "image/png",
}


@dataclass(frozen=True, kw_only=True)
class Resource:
    """What the server answers at one path. A `trickle` sends its body one byte at a time."""

    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    trickle: bool = False


Site = dict[str, Resource]


def gallery_paths() -> list[str]:
    """The gallery pages."""
    count = len(corpus.training()[1]) - corpus.LIST_IMAGES
    return [f"/gallery/{page}.html" for page in range(1, -(-count // corpus.IMAGES_PER_GALLERY) + 1)]


def image_sources() -> list[tuple[str, str]]:
    """What lists pictures, as (kind, path)."""
    return [("list", "/images/list.jsonl"), *(("page", path) for path in gallery_paths())]


def speech_sources() -> list[tuple[str, str]]:
    """What lists episodes, as (kind, path)."""
    return [("feed", "/podcast/feed.xml"), ("video_page", "/talks/1.html")]


def build(origin: str, busy_origin: str) -> Site:
    """The whole site as seen at `origin`; `busy_origin` is a second host, which always asks to come back later."""
    return {
        "/robots.txt": Resource(body=b"User-agent: *\nDisallow: /private/\n"),
        **_image_files(),
        **_image_troubles(),
        **_audio_files(),
        **_audio_troubles(),
        "/images/list.jsonl": _image_list(origin, busy_origin),
        **_galleries(),
        "/podcast/feed.xml": _feed(origin),
        "/talks/1.html": _talks(),
    }


def audio_path(name: str) -> str:
    """Where the site keeps the audio of a script."""
    folder = "talks" if name in TALKS or name == "rolling" else "podcast"
    return f"/{folder}/{name}.{_FORMATS.get(name, 'mp3')}"


def transcript_path(name: str) -> str:
    """Where the site keeps what was said in a script."""
    return audio_path(name).rpartition(".")[0] + (".srt" if name in _SRT else ".vtt")


# ---- pictures ----


def _served() -> list[int]:
    return [index for index in range(len(corpus.pixels())) if not corpus.is_heldout(index)]


@functools.cache
def _image_files() -> Site:
    return {_image_path(i): _png(corpus.pixels()[i]) for i in _served()}


def _png(pixels: NDArray[np.uint8], compress_level: int = 6) -> Resource:
    return Resource(body=encode_png(pixels, compress_level), content_type="image/png")


def _image_path(index: int) -> str:
    return f"/images/{index:04d}.png"


@functools.cache
def _image_troubles() -> Site:
    # negatives of training pictures: good pictures that are nobody's duplicate, so that only the planted reason applies
    negative = [_png(255 - corpus.pixels()[i]) for i in _served()[:7]]
    whole = negative[6].body
    return {
        "/images/copy.png": _png(corpus.pixels()[1], compress_level=1),
        "/images/dot.png": _png(np.full((1, 1), 128, np.uint8)),
        "/images/IMG_2041.png": negative[0],
        "/images/optout.png": replace(negative[1], headers=(("X-Robots-Tag", "noai"),)),
        "/private/sketch.png": negative[2],
        "/images/truncated.png": Resource(body=whole[: len(whole) // 2], content_type="image/png"),
        "/slow/picture.png": replace(negative[3], trickle=True),
        "/redirect/intranet.png": _redirect("http://10.0.0.1/picture.png"),
        "/redirect/metadata.png": _redirect("http://169.254.169.254/latest/meta-data/"),
        "/busy/picture.png": Resource(body=b"come back later\n", status=429, headers=(("Retry-After", "3600"),)),
    }


def _redirect(location: str) -> Resource:
    return Resource(status=302, headers=(("Location", location),))


def _image_list(origin: str, busy_origin: str) -> Resource:
    """JSON lines; the troubles stand in the middle, as they do in life."""
    troubles = [path for path in corpus.PLANTED_IMAGES if path != "/images/IMG_2041.png"]
    rows = [(_image_path(i), corpus.caption(i)) for i in _served()[: corpus.LIST_IMAGES]]
    # Among the others, as they come in life, and not where a reader of the first lines sees them.
    rows[100:100] = [(path, corpus.prompt(n % 10, corpus.PROMPTS[3])) for n, path in enumerate(troubles)]
    lines = (
        json.dumps(
            {
                "url": (busy_origin if path.startswith("/busy/") else origin) + path,
                "caption": text,
                "license": corpus.LICENSE,
            }
        )
        for path, text in rows
    )
    return Resource(body=("\n".join(lines) + "\n").encode(), content_type="application/x-ndjson")


def _galleries() -> Site:
    rows = [(_image_path(i), corpus.caption(i)) for i in _served()[corpus.LIST_IMAGES :]]
    rows.insert(7, ("/images/IMG_2041.png", "IMG_2041.png"))
    pages = gallery_paths()
    size = -(-len(rows) // len(pages))
    return {path: _gallery(n, rows[n * size : (n + 1) * size]) for n, path in enumerate(pages)}


def _gallery(number: int, rows: Sequence[tuple[str, str]]) -> Resource:
    figures = "\n".join(
        f'<figure><img src="{path}" alt="{html.escape(text)}" width="32" height="32"></figure>' for path, text in rows
    )
    terms = '<p><a rel="license" href="https://creativecommons.org/licenses/by/4.0/">CC BY 4.0</a></p>'
    return _html(f"Handwritten digits, page {number + 1}", f"{figures}\n{terms}")


def _html(title: str, body: str) -> Resource:
    title = html.escape(title)
    page = (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title></head>\n'
        f"<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )
    return Resource(body=page.encode(), content_type="text/html; charset=utf-8")


# ---- speech ----


def _kind(path: str) -> str:
    return _TYPES[path.rpartition(".")[2]]


@functools.cache
def _audio_files() -> Site:
    """Every episode but the troubles whose audio is special, each with its transcript."""
    spoken = speech.episodes()
    # That one is served cut, and slowly: see `_audio_troubles`.
    names = [name for name in spoken if name != "truncated"]
    with ThreadPoolExecutor(2) as pool:  # encoders leave Python's lock
        encoded = pool.map(lambda name: speech.encode(spoken[name].pcm, _FORMATS.get(name, "mp3")), names)
        files = {audio_path(name): body for name, body in zip(names, encoded, strict=True)}
    files |= {transcript_path(name): _transcript(episode).encode() for name, episode in spoken.items()}
    return {path: Resource(body=body, content_type=_kind(path)) for path, body in files.items()}


def _transcript(episode: speech.Episode) -> str:
    name, cues = episode.script.name, episode.cues
    if name == "rolling":
        return transcripts.rolling(cues)
    if name == "lower-case":
        return transcripts.vtt(transcripts.lower_case(cues))
    if name == "all-caps":
        return transcripts.vtt(transcripts.upper_case(cues))
    if name == "french-transcript":
        return transcripts.srt(transcripts.in_words(cues, texts.FRENCH_LINES))
    if name in _SRT:
        return transcripts.srt(cues)
    return transcripts.vtt(cues, note="Transcribed by the makers of the show")


@functools.cache
def _audio_troubles() -> Site:
    files, episode = _audio_files(), speech.episodes()["truncated"]
    whole = speech.encode(episode.pcm, "mp3")
    bread, bread_text = files[audio_path("bread")], files[transcript_path("bread")]
    return {
        "/podcast/bread-again.mp3": bread,
        "/podcast/bread-again.srt": bread_text,
        "/podcast/truncated.mp3": Resource(body=whole[: len(whole) // 2], content_type="audio/mpeg"),
        "/podcast/missing.vtt": files[transcript_path("night-bus")],
        "/slow/episode.mp3": Resource(body=whole, content_type="audio/mpeg", trickle=True),
        "/slow/episode.vtt": files[transcript_path("truncated")],
    }


def _feed(origin: str) -> Resource:
    scripts = [s for s in texts.SCRIPTS if s.name not in (*TALKS, "rolling")]
    items = [(s.title, audio_path(s.name), transcript_path(s.name)) for s in scripts]
    items[5:5] = [
        ("Why Bread Rises (rerun)", "/podcast/bread-again.mp3", "/podcast/bread-again.srt"),
        ("The Lost Episode", "/podcast/missing.mp3", "/podcast/missing.vtt"),
        ("From a Slow Place", "/slow/episode.mp3", "/slow/episode.vtt"),
    ]
    body = "".join(_feed_item(origin, *item) for item in items)
    feed = f"""<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd" xmlns:podcast="https://podcastindex.org/namespace/1.0">
<channel>
<title>Small Wonders</title>
<link>{origin}/podcast/feed.xml</link>
<description>Short pieces about ordinary things.</description>
<language>en</language>
<podcast:license>cc0-1.0</podcast:license>
{body}</channel>
</rss>
"""
    return Resource(body=feed.encode(), content_type="application/rss+xml; charset=utf-8")


def _feed_item(origin: str, title: str, audio: str, transcript: str) -> str:
    size = len((_audio_files() | _audio_troubles()).get(audio, Resource()).body)
    kind = _kind(transcript).partition(";")[0]
    return (
        f'<item><title>{html.escape(title)}</title><guid isPermaLink="false">{audio}</guid>'
        f'<enclosure url="{origin}{audio}" length="{size}" type="{_kind(audio)}"/>'
        f'<podcast:transcript url="{origin}{transcript}" type="{kind}" language="en"/></item>\n'
    )


def _talks() -> Resource:
    players = "\n".join(
        f"<h2>{html.escape(s.title)}</h2>\n"
        f'<audio controls preload="none" src="{audio_path(s.name)}">'
        f'<track kind="captions" srclang="en" label="English" src="{transcript_path(s.name)}"></audio>'
        for s in texts.SCRIPTS
        if s.name in (*TALKS, "rolling")
    )
    return _html("Talks", players)
