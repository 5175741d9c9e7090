"""What chaos is done to: a small Ray cluster of this machine, and an S3 server on loopback.

The head node has no CPUs, so every task runs on a node that may be killed or stopped.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil

from cluster import env

_STOPPED_S = 12.0  # the cluster takes a silent node for dead after three missed seconds


S3_KEYS = {"AWS_ACCESS_KEY_ID": "chaos", "AWS_SECRET_ACCESS_KEY": "chaos", "AWS_DEFAULT_REGION": "us-east-1"}
"""Environment variables for the server in memory, which takes any."""


@contextlib.contextmanager
def moto_server(port: int | None = None) -> Iterator[str]:
    """An S3 server in memory, at a free port unless one is named; its URL."""
    port = port or free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                raise ValueError(
                    "the S3 server does not start; install it with: pip install 'triptych[dev]', or name an --endpoint"
                )
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()  # it keeps nothing, and has SIGTERM blocked like us
        process.wait(10)


class RayCluster:
    """A head without CPUs and one worker node that can be harmed; drivers connect by `address`."""

    def __init__(self, cpus: int = 2) -> None:
        env.apply("chaos", RAY_AUTH_TOKEN=secrets.token_hex(32))
        from ray.cluster_utils import Cluster

        self._cpus, self._lost = cpus, threading.Event()
        # By its defaults Ray takes a silent node for dead after tens of seconds; each point would wait for that.
        health = {
            "health_check_initial_delay_ms": 1000,
            "health_check_period_ms": 1000,
            "health_check_timeout_ms": 1000,
            "health_check_failure_threshold": 3,
        }
        self._cluster: Any = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "object_store_memory": 150 << 20,
                "_system_config": health,
            },
        )
        self._add()

    @property
    def address(self) -> str:
        """Where drivers connect."""
        return self._cluster.address

    def close(self) -> None:
        """End all its processes."""
        self._cluster.shutdown()

    def kill_worker(self) -> None:
        """SIGKILL one process that works on a task, or any that could."""
        workers = [p for p in psutil.Process(self._raylet()).children(recursive=True) if _is_worker(_title(p))]
        # One at work first: the end of an idle one harms nobody.
        workers.sort(key=lambda process: "IDLE" in _title(process))
        if workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                workers[0].kill()

    def kill_node(self) -> None:
        """SIGKILL the node's raylet; `heal` adds another node."""
        # `heal` runs on the main thread, and this in one of the proxy's: an event passes it on.
        os.kill(self._raylet(), signal.SIGKILL)
        self._lost.set()

    def stop_node(self) -> None:
        """SIGSTOP the node's raylet until the cluster has declared it dead, then let it go on; `heal` adds another
        node."""
        raylet = self._raylet()
        os.kill(raylet, signal.SIGSTOP)
        self._lost.set()

        def go_on() -> None:
            time.sleep(_STOPPED_S)
            with contextlib.suppress(ProcessLookupError):
                os.kill(raylet, signal.SIGCONT)

        threading.Thread(target=go_on, daemon=True).start()

    def heal(self) -> None:
        """Replace a node that was harmed; call it now and then, on the main thread: Ray sets signal handlers there."""
        if self._lost.is_set():
            self._lost.clear()
            self._add()

    def _add(self) -> None:
        self._node = self._cluster.add_node(num_cpus=self._cpus, object_store_memory=150 << 20)

    def _raylet(self) -> int:
        return self._node.all_processes["raylet"][0].process.pid


def _is_worker(title: str) -> bool:
    """Not a node's own agents, which look alike: a raylet ends when one of them does."""
    return title.startswith("ray::") and "Agent" not in title


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
