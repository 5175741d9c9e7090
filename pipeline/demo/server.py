"""The demo's small web: a real HTTP/1.1 server on 127.0.0.1 that answers from `site`, good and bad.

Guarantees: it listens on loopback only; it serves nothing but the table of `site`, never a file of this machine; it
counts every request by path; `stop` returns within a second even while slow answers are under way. Costs about 5 s to
start the first time in a process, for synthesis and encoding.
"""

import collections
import contextlib
import errno
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import cast

from pipeline.demo import site

HOST = "127.0.0.1"
# A byte each 0.2 s keeps a connection alive under any timeout between two reads: only one for the whole file ends it.
TRICKLE_INTERVAL_S = 0.2
TRICKLE_MAX_S = 60.0


class DemoServer:
    """The site at `http://127.0.0.1:port`, and a second host at the next port that is always busy.

    Port 0 takes two free ports. ValueError if a port is taken. Use as a context manager, or `start` and `stop`.
    """

    def __init__(self, port: int = 0) -> None:
        if not 0 <= port <= 65_534:
            raise ValueError(f"port {port} is not between 0 and 65534; the demo needs it and the next one")
        self.hits: collections.Counter[str] = collections.Counter()
        """Requests so far, by path; paths that do not exist are counted as well."""
        self._port = port
        self._listeners: list[_Listener] = []

    @property
    def origin(self) -> str:
        """Scheme, host and port of the site."""
        return self._listeners[0].origin

    @property
    def busy_origin(self) -> str:
        """Scheme, host and port of the host that is always busy."""
        return self._listeners[1].origin

    def url(self, path: str) -> str:
        """The full URL of a path of the site."""
        return (self.busy_origin if path.startswith("/busy/") else self.origin) + path

    def start(self) -> "DemoServer":
        """Build the site and answer requests from a thread of this process."""
        if self._listeners:
            raise ValueError("this demo server runs already")
        try:
            # Both ports before the site: its pages hold their URLs.
            for offset in (0, 1):
                self._listeners.append(_Listener(self._port + offset if self._port else 0, self.hits))
            table = site.build(self.origin, self.busy_origin)
        # The first port is not kept where the second is taken.
        except BaseException:
            self._close()
            raise
        for listener in self._listeners:
            listener.site = table
            threading.Thread(
                target=listener.serve_forever,
                kwargs={"poll_interval": 0.1},
                daemon=True,
                name=f"demo {listener.origin}",
            ).start()
        return self

    def stop(self) -> None:
        """Stop listening and cut what is under way; nothing happens if it does not run."""
        # Before `shutdown`, which waits for the loop: slow answers end at their next byte.
        for listener in self._listeners:
            listener.stopping.set()
            listener.shutdown()
        self._close()

    def _close(self) -> None:
        for listener in self._listeners:
            listener.cut_connections()
            listener.server_close()
        self._listeners.clear()

    def __enter__(self) -> "DemoServer":
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


_Request = socket.socket | tuple[bytes, socket.socket]  # as the base class has it; of TCP it is the socket


class _Listener(ThreadingMixIn, HTTPServer):
    # Slow answers must not delay `stop`, nor the end of the process.
    daemon_threads = True
    block_on_close = False
    # A scraper opens connections faster than threads start.
    request_queue_size = 128

    def __init__(self, port: int, hits: collections.Counter[str]) -> None:
        self.site: site.Site = {}
        self.hits = hits
        self.lock = threading.Lock()  # of `hits` and of the open connections
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise ValueError(f"port {port} of {HOST} cannot be used ({error.strerror}); choose another port") from error

    def server_bind(self) -> None:
        """Bind without the look-up of our own name that HTTPServer does, which can wait for a name server."""
        # After a kill the same port is needed again at once: URLs, and so keys, hold it.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.server_address = self.socket.getsockname()

    @property
    def origin(self) -> str:
        return f"http://{HOST}:{self.server_port}"

    def process_request(self, request: _Request, client_address: object) -> None:
        with self.lock:
            self._open.add(cast(socket.socket, request))
        super().process_request(request, client_address)

    def shutdown_request(self, request: _Request) -> None:
        with self.lock:
            self._open.discard(cast(socket.socket, request))
        super().shutdown_request(request)

    def cut_connections(self) -> None:
        with self.lock:
            for connection in self._open:
                with contextlib.suppress(OSError):  # the client may be gone already
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: _Request, client_address: object) -> None:
        """A client that hangs up is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes; waiting for an answer to the first costs 40 ms
    server: _Listener
    timeout = 120  # an idle connection outlives any client's pause between two requests
    # Nothing of this machine stands in an answer.
    server_version = "demo"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Silent: `DemoServer.hits` is the access log."""

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        with self.server.lock:
            self.server.hits[path] += 1
        resource = self.server.site.get(path) or site.Resource(status=404, body=b"not found\n")
        self.send_response(resource.status)
        self.send_header("Content-Type", resource.content_type)
        self.send_header("Content-Length", str(len(resource.body)))
        for name, value in resource.headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if resource.trickle:
            self._trickle(resource.body)
        else:
            self.wfile.write(resource.body)

    def _trickle(self, body: bytes) -> None:
        # An answer that was cut leaves a connection of no use.
        self.close_connection = True
        for i in range(min(len(body), int(TRICKLE_MAX_S / TRICKLE_INTERVAL_S))):
            self.wfile.write(body[i : i + 1])
            if self.server.stopping.wait(TRICKLE_INTERVAL_S):
                return
