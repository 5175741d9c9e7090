"""How often one host is asked when many processes want its files: each is a guarded child, as in a curation. Needs Ray.

The host is a server on loopback that notes when it is asked. In a Ray of several nodes (`RAY_ADDRESS`) the processes
are spread over them.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from tempfile import TemporaryDirectory

from pipeline.bench.report import Bench, Line
from pipeline.curate.fetch.download import Fetch
from pipeline.curate.fetch.http import FetchConfig
from pipeline.curate.guard import Guard, GuardConfig
from pipeline.curate.work import to_table
from pipeline.ranges import check_range
from pipeline.records import IMAGE

_ABOUT = ("/robots.txt", "/ai.txt", "/.well-known/tdmrep.json")


@dataclass(frozen=True, kw_only=True)
class Politeness(Bench):
    """Many processes, one host."""

    processes: tuple[int, ...] = (1, 4, 16)
    """Numbers of processes that ask at once."""
    files: int = 64
    """Number of files of the host, shared out among the processes."""
    interval_s: float = 0.25
    """Seconds between two requests that are promised to the host."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "files", low=1)
        check_range(self, "interval_s", above=0)

    @property
    def ray_cpus(self) -> int:
        """Whatever there is: a process waits for the most part."""
        return 1


def measure(config: Politeness) -> Iterator[Line]:
    """For each number of processes: requests a second, most in any second, and what was promised."""
    import ray

    for processes in config.processes:
        with TemporaryDirectory() as folder, _Host() as host:
            # Rounded up: every process has as many, so all are busy to the end.
            share = -(-config.files // processes)
            # They wait for the most part, so 16 fit on two CPUs; a retry would ask the host again.
            fetch = ray.remote(_fetch).options(num_cpus=0.01, max_retries=0, scheduling_strategy="SPREAD")
            lost = sum(ray.get([fetch.remote(host.url, n, share, config.interval_s, folder) for n in range(processes)]))
            times = sorted(host.times)
        span_s = times[-1] - times[0]
        yield {
            "processes": processes,
            "nodes": sum(bool(node["Alive"]) for node in ray.nodes()),
            "promised_per_s": 1 / config.interval_s,
            "requests_per_s": round((len(times) - 1) / span_s, 3),
            # Any second that begins with a request: a burst could hide between two of the clock's.
            "most_in_a_second": max(sum(start <= other < start + 1 for other in times) for start in times),
            "documents_read": sum(host.documents.values()),
            "lost": lost,
        }


def _fetch(url: str, part: int, count: int, interval_s: float, run_dir: str) -> int:
    """Fetch this process's share through a child of the guard; how many rows were not had."""
    # Nobody gives up waiting: rows that are lost would make the rate look polite.
    config = FetchConfig(per_host_interval_s=interval_s, max_wait_s=3600.0, allow_private=("127.0.0.0/8",))
    rows = [dict.fromkeys(IMAGE.names) | {"key": f"{part}-{i}", "url": f"{url}/{part}/{i}"} for i in range(count)]
    guard = Guard(limits=GuardConfig(timeout_s=3600.0), run_dir=run_dir)
    table = guard.run(Fetch(config=config), to_table(rows, IMAGE), IMAGE)
    return sum(reason is not None for reason in table["reason"].to_pylist())


class _Host:
    """A server on loopback with any number of files; `times` are those of its requests, but for the two documents that
    come in the turn of its robots.txt."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.documents: dict[str, int] = dict.fromkeys(_ABOUT, 0)
        host = self

        class Handler(BaseHTTPRequestHandler):
            # Connections are kept, as those of real hosts are.
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                is_document = self.path in host.documents
                if not is_document or self.path == "/robots.txt":
                    host.times.append(time.monotonic())
                if is_document:
                    host.documents[self.path] += 1
                body = b"" if is_document else b"x"
                self.send_response(404 if is_document else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "_Host":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
