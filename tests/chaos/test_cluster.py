"""The S3 server of the chaos runs: real, on loopback, and gone afterwards."""

import socket
from urllib.parse import urlsplit

from pipeline.chaos.cluster import moto_server


def test_the_server_answers_and_ends() -> None:
    with moto_server() as url:
        place = urlsplit(url).hostname, urlsplit(url).port
        assert place[0] == "127.0.0.1"
        socket.create_connection(place, timeout=5).close()
    with socket.socket() as probe:
        assert probe.connect_ex(place) != 0
