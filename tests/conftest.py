"""What tests share: a local Ray for those that need the engine, and a real S3 server on loopback.

`make test` runs files side by side (pytest-xdist). Each of its processes has a Ray, an S3 server and a temporary folder
of its own.
"""

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.chaos.cluster import moto_server
from pipeline.log import logger

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in what a shell runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["RAY_AUTH_MODE"] = "disabled"  # explicit: a token left behind by another session must not matter
os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # as in `cluster.env`: Ray listens on loopback
# Of torch, in every process: threads that wait for each other on cores that others use too burn four times the work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))


def _free_port() -> int:
    """Below those that the system gives to whoever asks for any: the server starts minutes later, and it is still free.
    Processes side by side look in different places."""
    for port in range(20_000 + os.getpid() % 1_000 * 10, 32_000):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


# S3 is configured as a user would, in the environment, and before Ray starts, whose workers inherit it.
S3_PORT = _free_port()
os.environ.update(
    AWS_ACCESS_KEY_ID="test-key",
    AWS_SECRET_ACCESS_KEY="test-secret",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_ENDPOINT_URL=f"http://127.0.0.1:{S3_PORT}",
)


LONGEST = (  # minutes each: they begin first, so that none is left alone at the end
    "tests/chaos/test_matrix.py",
    "tests/jobs/test_demo.py",
    "tests/train/launch/test_fit.py",
)
WORKER_GB = 4


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Workers of `-n auto`: one a CPU, as far as the memory goes; with more than four the Rays stand in each other's
    way."""
    import psutil

    return max(1, min(4, os.cpu_count() or 1, psutil.virtual_memory().available // (WORKER_GB << 30)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; the others as they were."""
    items.sort(key=lambda item: item.nodeid.partition("::")[0] not in LONGEST)


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """Commands that a test runs in this process set the levels of loggers: the tests after it see the usual ones."""
    loggers = (logging.getLogger(), logger)
    before = [each.level for each in loggers]
    yield
    for each, level in zip(loggers, before, strict=True):
        each.setLevel(level)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One Ray of two CPUs for the whole session; a test that breaks it starts its own."""
    import ray

    if not ray.is_initialized():
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=200 << 20,
            log_to_driver=False,
            logging_level="ERROR",
        )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a moto server, where the environment says that S3 is."""
    with moto_server(S3_PORT) as url:
        yield url


@pytest.fixture
def bucket(s3_server: str, request: pytest.FixtureRequest) -> str:
    """The URL of a new bucket on the S3 server."""
    import s3fs

    name = f"s3://t{abs(hash(request.node.nodeid)) % 10**12}"
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(name)
    return name
