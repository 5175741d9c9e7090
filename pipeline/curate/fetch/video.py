"""Pages with audio or video players, read by yt-dlp as a library.

yt-dlp never touches the network itself: its requests go through our client, so the address rules, caps, politeness
and consent of `http` hold for all that its extractors ask for. Nothing is downloaded; no cookies, plug-ins, netrc,
external programs or file URLs are in reach. Which captions a person made is read from the two lists that the
extractor filled, since yt-dlp's own choice of subtitles mixes them.
"""

import io
from collections.abc import Iterator
from typing import NamedTuple, Protocol, TypedDict

from yt_dlp import YoutubeDL
from yt_dlp.globals import plugin_dirs
from yt_dlp.networking import Request, RequestDirector, RequestHandler, Response
from yt_dlp.networking.exceptions import HTTPError, TransportError, UnsupportedRequest
from yt_dlp.utils import YoutubeDLError

from pipeline.curate.fetch.address import shown
from pipeline.curate.fetch.candidates import ending
from pipeline.curate.fetch.http import FetchConfig, fetch_one
from pipeline.curate.fetch.http import Response as Fetched
from pipeline.curate.fetch.pages import parse_page, refuse_opt_out
from pipeline.curate.fetch.response import HttpLeave
from pipeline.curate.fetch.rows import input_row
from pipeline.curate.fetch.tracks import MOST, Track, column, type_of
from pipeline.curate.stage import Leave, Row, left
from pipeline.curate.text.language import primary
from pipeline.log import clean
from pipeline.media.sniff import what
from pipeline.redact import redacted_text

_TIMED = ("vtt", "srt", "ttml", "json", "sbv", "ass", "lrc")
_CHATS = ("live_chat", "rechat", "danmaku", "comments")  # what viewers wrote, which yt-dlp lists as subtitles
_KINDS = ("manual", "auto", "translated")  # likest a person's first
_MAX_ENTRIES = 1000
_MEDIA = frozenset(
    """MP3 WAV FLAC Ogg M4A MP4 AIFF CAF AU AMR QuickTime WavPack""".split()
    + ["AAC (ADTS)", "Matroska or WebM", "Windows Media", "Monkey's Audio", "AVI", "Flash video"]
)
_PLAYLISTS = frozenset(f"{kind} playlist" for kind in ("HLS", "M3U", "PLS", "DASH", "SMIL", "XSPF"))
_MEDIA_ENDINGS = frozenset("mp3 m4a m4b mp4 aac ogg oga opus flac wav aif aiff webm mkv mov wma".split())


def read_video_page(url: str, config: FetchConfig, extractors: tuple[str, ...]) -> list[Row]:
    """`INPUT` rows of the media files on the page at `url`, with the caption track that is likest a person's.

    `transcript_kind` is manual, auto (recognised speech) or translated (by a machine). `language` is the media's or
    the page's. A stream of pieces (HLS, DASH) is a row that failed as `media_in_pieces`. A URL of a media file itself
    is that file, which no page gives a transcript. Raises Leave: the reasons of the client, `page_unreadable`,
    `listing_empty`.
    """
    plugin_dirs.value = []
    with _Downloader(config, extractors) as downloader:
        try:
            info = downloader.extract_info(url, download=False)
        except YoutubeDLError as error:
            if downloader.refusals:
                return [_too_large_for_a_page(url, downloader.refusals[0])]
            problem = redacted_text(str(error).replace(url, shown(url)))
            raise Leave("failed", "page_unreadable", detail=clean(f"{shown(url)}: {problem}")) from error
        if downloader.first is None:
            raise Leave("failed", "page_unreadable", detail=f"{shown(url)}: no extractor read it")
        first, kind = downloader.first, what(downloader.first.body)
    if kind in _MEDIA:
        return [input_row(first.url, base=url, source=shown(url))]
    page = parse_page(first.body, first.headers)
    refuse_opt_out(page, url)
    rows: dict[str, Row] = {}
    for entry in _entries(info):
        row = _row(entry, url, entry.get("language") or page.language, page.license)
        if row is not None:
            rows.setdefault(row["key"], row)
    if not rows and kind in _PLAYLISTS:
        raise Leave("failed", "media_in_pieces", detail=f"{shown(url)} is no page, but {kind}")
    if not rows:
        is_page = kind == "HTML page"
        detail = f"{shown(url)} has no media file" if is_page else f"{shown(url)} is no page, but {kind}"
        raise Leave("failed", "listing_empty", detail=detail)
    return list(rows.values())


def _too_large_for_a_page(url: str, refusal: Leave) -> Row:
    """A media file that was named as a page, known by its ending, as a row; any other refusal is raised."""
    if refusal.reason != "too_large" or ending(url) not in _MEDIA_ENDINGS:
        raise refusal
    return input_row(url, base=url, source=shown(url))


class Caption(TypedDict, total=False):
    """A caption file, as yt-dlp's extractors describe it."""

    url: str | None
    ext: str | None


class Info(TypedDict, total=False):
    """What of a yt-dlp info dict is looked at."""

    _type: str
    entries: list["Info"] | None
    url: str | None
    direct: bool
    protocol: str | None
    manifest_url: str | None
    language: str | None
    license: str | None
    subtitles: dict[str | None, list[Caption] | None] | None
    automatic_captions: dict[str | None, list[Caption] | None] | None


class Ranked(NamedTuple):
    """A timed caption track; of two the smaller one is the better."""

    kind_rank: int
    is_foreign: bool
    type_rank: int
    name: str
    position: int
    url: str
    type: str
    kind: str


def choose_tracks(info: Info, language: str | None) -> list[Ranked]:
    """The timed caption tracks of a yt-dlp info dict that are of the best kind, the best first.

    Manual before auto before translated; within a kind, the media's own language first, then by type and name.
    """
    tracks = sorted(_tracks(info, primary(info.get("language") or language or "")))
    return [track for track in tracks if track.kind == tracks[0].kind][:MOST]


def _tracks(info: Info, own: str | None) -> Iterator[Ranked]:
    """Every timed track. Platforms put machine translations among the automatic captions: they ask for a target
    language (`tlang`), or stand beside an `xx-orig` track."""
    automatic = info.get("automatic_captions") or {}
    has_originals = any(name and name.endswith("-orig") for name in automatic)
    for source, tracks in (("manual", info.get("subtitles") or {}), ("auto", automatic)):
        for name, formats in tracks.items():
            if name in _CHATS:
                continue
            spoken = primary(name or "")
            is_original = bool(name) and str(name).endswith("-orig")
            for position, track in enumerate(formats or []):
                link = track.get("url")
                short = type_of("", f"x.{track.get('ext')}" if track.get("ext") else str(link))
                if not link or short not in _TIMED or ending(link) == "m3u8":  # a list of pieces is no file
                    continue
                is_translated = source == "auto" and ("tlang=" in link or has_originals and not is_original)
                kind = "translated" if is_translated else source
                yield Ranked(
                    kind_rank=_KINDS.index(kind),
                    is_foreign=own is not None and spoken not in (None, own),
                    type_rank=_TIMED.index(short),
                    name=name or "",
                    position=position,
                    url=link,
                    type=short,
                    kind=kind,
                )


def _row(entry: Info, page_url: str, language: str | None, license: str | None) -> Row | None:
    link, protocol = entry.get("url"), entry.get("protocol")
    if not link or entry.get("direct"):
        return None  # what is no page at all
    if protocol not in (None, "http", "https"):
        row = input_row(entry.get("manifest_url") or link, base=page_url, source=shown(page_url), language=language)
        name = "HLS" if "m3u8" in protocol else "DASH" if "dash" in protocol else "another protocol"
        return left(row, Leave("failed", "media_in_pieces", detail=f"a stream by {name} rather than a file"))
    offered = choose_tracks(entry, language)
    best = offered[0] if offered else None
    return input_row(
        link,
        base=page_url,
        source=shown(page_url),
        language=language,
        transcript_url=best.url if best else None,
        transcript_type=best.type if best else None,
        transcript_kind=best.kind if best else None,
        more_transcripts=column([Track(url=track.url, type=track.type) for track in offered[1:]], page_url),
        license=entry.get("license") or license,
    )


def _entries(info: Info | None) -> list[Info]:
    if info is None:
        return []
    if info.get("_type", "video") == "video":
        return [info]
    return [leaf for entry in info.get("entries") or [] for leaf in _entries(entry)][:_MAX_ENTRIES]


class _Downloader(YoutubeDL):
    def __init__(self, config: FetchConfig, extractors: tuple[str, ...]) -> None:
        self._config = config
        self.refusals: list[Leave] = []
        # The page itself, read once for what it says of language, licence and consent.
        self.first: Fetched | None = None
        super().__init__(
            {
                "allowed_extractors": list(extractors),
                "skip_download": True,
                "format": "bestaudio/best",
                "ignore_no_formats_error": True,
                "check_formats": False,
                "noplaylist": False,
                "playlistend": _MAX_ENTRIES,
                "extractor_retries": 0,
                "cachedir": False,
                "proxy": "",
                "usenetrc": False,
                "enable_file_urls": False,
                "js_runtimes": {},
                "remote_components": (),
                "quiet": True,
                "no_warnings": True,
                "noprogress": True,
                "logger": _Silent(),
                "color": "never",
            },
            auto_init="no_verbose_header",
        )

    def build_request_director(self, handlers: object, preferences: object = None) -> RequestDirector:
        return super().build_request_director([_SafeRH])

    def get(self, url: str) -> Fetched:
        """A page through our client; what it refuses is kept."""
        try:
            response = fetch_one(url, self._config)
        except Leave as leave:
            self.refusals.append(leave)
            raise
        self.first = self.first or response
        return response


class _Logger(Protocol):
    """What yt-dlp gives its handlers to log to."""

    _ydl: _Downloader


class _SafeRH(RequestHandler):
    """Answers yt-dlp's requests with what our client fetched."""

    _SUPPORTED_URL_SCHEMES = ("http", "https")

    def __init__(self, *, logger: _Logger, **options: object) -> None:
        super().__init__(logger=logger, **options)
        self._downloader = logger._ydl

    def _check_extensions(self, extensions: dict[str, object]) -> None:
        extensions.clear()  # timeouts, cookies, impersonation: ours to decide, and decided

    def _send(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD") or request.data is not None:
            raise UnsupportedRequest(f"{request.method} requests are not made")
        try:
            page = self._downloader.get(request.url)
        except HttpLeave as leave:
            if leave.http_status in (None, 200):
                raise TransportError(str(leave), cause=leave) from leave
            empty = Response(io.BytesIO(), request.url, {}, status=leave.http_status)
            raise HTTPError(empty) from leave
        except Leave as leave:
            raise TransportError(str(leave), cause=leave) from leave
        headers = {name: value for name, value in page.headers.items() if name.lower() != "content-encoding"}
        return Response(io.BytesIO(b"" if request.method == "HEAD" else page.body), page.url, headers, page.status)


class _Silent:
    def debug(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...
