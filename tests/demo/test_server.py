import contextlib
import hashlib
import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree

import numpy as np
import psutil
import pycld2
import pytest
import webvtt
from PIL import Image

from pipeline.demo import corpus, site
from pipeline.demo.server import DemoServer

PODCAST = "{https://podcastindex.org/namespace/1.0}"


@pytest.fixture(scope="module")
def server() -> Iterator[DemoServer]:
    with DemoServer() as running:
        yield running


def _get(server: DemoServer, path: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    """One request, redirects not followed."""
    where = urlsplit(server.url(path))
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


class _Media(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag in ("img", "audio", "track"):
            self.found.append((tag, dict(attrs)))


def _listed_images(server: DemoServer) -> list[tuple[str, str]]:
    """(url, caption) of all sources."""
    found = []
    for kind, path in site.image_sources():
        body = _get(server, path)[2].decode()
        if kind == "list":
            found += [(row["url"], row["caption"]) for row in map(json.loads, body.splitlines())]
        else:
            found += [(urljoin(server.url(path), a["src"]), a["alt"]) for tag, a in _Media(body).found if tag == "img"]
    return found


def _listed_episodes(server: DemoServer) -> list[tuple[str, str]]:
    """(audio url, transcript url) of all sources."""
    feed = ElementTree.fromstring(_get(server, "/podcast/feed.xml")[2])
    assert feed.findtext("channel/language") == "en"
    found = [
        (item.find("enclosure").get("url"), item.find(f"{PODCAST}transcript").get("url")) for item in feed.iter("item")
    ]
    media = _Media(_get(server, "/talks/1.html")[2].decode()).found
    sources = [urljoin(server.url("/talks/1.html"), attributes["src"]) for _, attributes in media]
    assert [tag for tag, _ in media] == ["audio", "track"] * (len(media) // 2)
    return found + list(zip(sources[::2], sources[1::2], strict=True))


def test_site_is_the_same_bytes_on_every_build():
    def digest() -> str:
        found = hashlib.sha256()
        for path, resource in sorted(site.build("http://127.0.0.1:1", "http://127.0.0.1:2").items()):
            found.update(f"{path} {replace(resource, body=b'')} {len(resource.body)}".encode() + resource.body)
        return found.hexdigest()

    first = digest()
    for cached in (site._image_files, site._image_troubles, site._audio_files, site._audio_troubles):
        cached.cache_clear()  # the second build encodes every picture and episode anew
    assert digest() == first


def test_listens_on_loopback_only(server):
    sockets = psutil.Process().net_connections(kind="inet")
    for origin in (server.origin, server.busy_origin):
        port = urlsplit(origin).port
        listening = [s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN and s.laddr.port == port]
        assert listening == ["127.0.0.1"] == [urlsplit(origin).hostname]


def test_every_picture_is_listed_once_and_heldout_ones_never(server):
    listed = _listed_images(server)
    paths = [urlsplit(url).path for url, _ in listed]
    assert len(set(paths)) == len(paths) == 1437 + len(corpus.PLANTED_IMAGES)
    captions = {urlsplit(url).path: text for url, text in listed}
    assert set(corpus.PLANTED_IMAGES) <= set(paths)
    served = {f"/images/{i:04d}.png" for i in range(1797) if i % 5}
    assert set(paths) - set(corpus.PLANTED_IMAGES) == served
    assert captions["/images/0007.png"] == corpus.caption(7) and captions["/images/IMG_2041.png"] == "IMG_2041.png"
    assert sum(path.startswith("/gallery/") for _, path in site.image_sources()) >= 2
    assert len(_get(server, "/images/list.jsonl")[2].splitlines()) >= 1200
    for path in sorted(served)[::97]:
        status, headers, body = _get(server, path)
        assert status == 200 and headers["Content-Type"] == "image/png"
        pixels = np.asarray(Image.open(io.BytesIO(body)))
        index = int(path[8:12])
        assert np.array_equal(pixels, corpus.pixels()[index])


def test_no_answer_of_the_site_is_a_heldout_picture():
    heldout = {image.tobytes() for image in corpus.pixels()[::5]}
    count = 0
    for path, resource in site.build("http://a", "http://b").items():
        if resource.content_type == "image/png" and path != "/images/truncated.png":
            assert np.asarray(Image.open(io.BytesIO(resource.body))).tobytes() not in heldout, path
            count += 1
    assert count >= 1437


def test_a_heldout_path_is_not_there(server):
    assert _get(server, "/images/0000.png")[0] == _get(server, "/images/0005.png")[0] == 404


def test_every_episode_is_listed_with_a_transcript(server):
    listed = _listed_episodes(server)
    paths = [urlsplit(audio).path for audio, _ in listed]
    assert len(set(paths)) == len(paths) == 12 + len(corpus.PLANTED_SPEECH)
    assert set(corpus.PLANTED_SPEECH) <= set(paths)
    for audio, transcript in listed:
        path = urlsplit(audio).path
        status, _, body = _get(server, urlsplit(transcript).path)
        assert status == 200
        if path in corpus.PLANTED_SPEECH:
            continue
        cues = list(webvtt.from_buffer(io.BytesIO(body), format=transcript.rpartition(".")[2]))
        text = " ".join(cue.text for cue in cues)
        assert len(cues) == 8 and text.count(".") + text.count("?") >= 6 and not text.islower()
        reliable, _, languages = pycld2.detect(text)
        assert reliable and languages[0][1] == "en", path
        status, headers, body = _get(server, path)
        assert status == 200 and headers["Content-Type"].startswith("audio/") and len(body) > 100_000


def test_planted_pictures_are_what_they_claim(server):
    truth = {path: _get(server, path) for path in corpus.PLANTED_IMAGES if not path.startswith("/slow/")}
    status, _, copy = truth["/images/copy.png"]
    original = _get(server, corpus.TWINS["/images/copy.png"])[2]
    assert status == 200 and copy != original
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(copy))), np.asarray(Image.open(io.BytesIO(original))))
    assert Image.open(io.BytesIO(truth["/images/dot.png"][2])).size == (1, 1)
    cut = Image.open(io.BytesIO(truth["/images/truncated.png"][2]))
    with pytest.raises(OSError, match="truncated"):
        cut.load()
    assert truth["/images/missing.png"][0] == 404
    assert truth["/images/optout.png"][1]["X-Robots-Tag"] == "noai"
    assert truth["/busy/picture.png"][0] == 429 and truth["/busy/picture.png"][1]["Retry-After"] == "3600"
    for path, target in (
        ("/redirect/intranet.png", "http://10.0.0.1/"),
        ("/redirect/metadata.png", "http://169.254.169.254/"),
    ):
        assert truth[path][0] == 302 and truth[path][1]["Location"].startswith(target)
    assert b"Disallow: /private/" in _get(server, "/robots.txt")[2]
    # nothing else is wrong with these
    for path in ("/images/IMG_2041.png", "/images/optout.png", "/private/sketch.png"):
        assert truth[path][0] == 200
        assert np.asarray(Image.open(io.BytesIO(truth[path][2]))).shape == (32, 32)


def test_planted_episodes_are_what_they_claim(server):
    def text(path: str) -> str:
        return _get(server, path)[2].decode()

    def words(path: str) -> str:
        return " ".join(line for line in text(path).splitlines()[1:] if line and "-->" not in line)

    assert words("/podcast/lower-case.vtt").islower() and "." not in words("/podcast/lower-case.vtt")
    assert words("/podcast/all-caps.vtt").isupper() and "." in words("/podcast/all-caps.vtt")
    assert "align:start position:0%" in text("/talks/rolling.vtt") and "<c> " in text("/talks/rolling.vtt")
    assert pycld2.detect(words("/podcast/french-transcript.srt"))[2][0][1] == "fr"
    reliable, _, languages = pycld2.detect("Hmm.\nMm-hm.")
    assert "Hmm." in words("/podcast/hum.vtt") and languages[0][1] == "un" and not reliable
    assert _get(server, "/podcast/bread-again.mp3")[2] == _get(server, corpus.TWINS["/podcast/bread-again.mp3"])[2]
    assert _get(server, "/podcast/missing.mp3")[0] == 404
    status, headers, body = _get(server, "/podcast/truncated.mp3")
    assert status == 200 and int(headers["Content-Length"]) == len(body)


def test_slow_answers_trickle_and_do_not_delay_stop():
    server = DemoServer().start()
    where = urlsplit(server.url("/slow/picture.png"))
    connections = [http.client.HTTPConnection(where.hostname, where.port, timeout=20) for _ in range(3)]
    for connection in connections:
        connection.request("GET", "/slow/picture.png")
    answer = connections[0].getresponse()
    start_s = time.monotonic()
    assert len(answer.read(3)) == 3
    assert time.monotonic() - start_s > 0.3
    server.stop()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((where.hostname, where.port), timeout=1)
    for connection in connections:
        connection.close()


def test_hits_count_every_request(server):
    before = server.hits["/images/0001.png"], server.hits["/nowhere"], server.hits["/images/0002.png"]
    threads = [threading.Thread(target=_get, args=(server, "/images/0001.png?size=big")) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _get(server, "/nowhere")[0] == 404
    after = server.hits["/images/0001.png"], server.hits["/nowhere"], server.hits["/images/0002.png"]
    assert [b - a for a, b in zip(before, after, strict=True)] == [40, 1, 0]


def test_a_connection_is_kept_alive_and_head_sends_no_body(server):
    where = urlsplit(server.origin)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
    for method, path in (("HEAD", "/images/0001.png"), ("GET", "/nowhere"), ("GET", "/images/0001.png")):
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        assert not answer.will_close
        assert len(body) == (0 if method == "HEAD" else int(answer.headers["Content-Length"]))
    connection.close()


def test_never_serves_a_file_of_this_machine(server):
    for path in ("/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/images/../robots.txt"):
        assert _get(server, path)[0] == 404


def _two_free_ports() -> int:
    for _ in range(50):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port
    raise AssertionError("no two free ports in a row")


def test_a_fixed_port_serves_the_same_urls_again_and_a_taken_one_is_refused():
    port = _two_free_ports()
    with DemoServer(port) as server:
        assert (server.origin, server.busy_origin) == (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}")
        first = _get(server, "/images/list.jsonl")[2]
        with pytest.raises(ValueError, match=f"port {port} "):
            DemoServer(port).start()
        with pytest.raises(ValueError, match="runs already"):
            server.start()
    with DemoServer(port) as server:
        assert _get(server, "/images/list.jsonl")[2] == first
    with pytest.raises(ValueError, match="65535"):
        DemoServer(65_535)
