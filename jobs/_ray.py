"""The Ray that a command works on: the cluster that was named, or one of its own on this machine."""

import contextlib
import logging
import os
import resource
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from cluster import env
from pipeline import signals
from pipeline.log import reason_of

_ADDRESS_SPACE = 4 << 30  # with 3 GiB the built-in example of jobs.chaos cannot start its threads, with 3.8 GiB it can
_LOG_SPACE = 64 << 20  # where it cannot write them, its workers die and are started again for ever
_MEND_ADDRESS = "name a cluster that runs with --ray.address or RAY_ADDRESS, or none to start Ray here"
_MEND_HERE = (
    "it needs 2 GB of memory, and room in /dev/shm and in /tmp, or where RAY_TMPDIR leads; run with --verbose to see "
    "all that it says"
)
_LONGEST_FOLDER = 42
"""Bytes: below it Ray makes sockets, whose paths Linux limits to 107."""


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """Where the work runs."""

    address: str | None = None
    """A running cluster (`auto`, or host:port); without one, and without RAY_ADDRESS, the job starts Ray on this
    machine."""
    cpus: int | None = None
    """CPUs of the local Ray; all of this machine's by default. Ignored on a running cluster."""
    object_store_mb: int = 512
    """Shared memory of the local Ray for rows in flight, in MiB. Ignored on a running cluster."""


@contextlib.contextmanager
def ray_session(config: RayConfig, *, verbose: bool, min_cpus: int = 1) -> Iterator[None]:
    """Connect to the cluster that was named, or start Ray here: it listens on loopback alone, asks for a token of its
    own, and keeps its files in a folder of this user alone."""
    env.apply("driver")
    with signals.resting():
        _start(config, verbose=verbose, min_cpus=min_cpus)
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = verbose
    context.enable_operator_progress_bars = verbose
    context.raise_original_map_exception = True  # so that a user's mistake can be told in one line
    try:
        yield
    finally:
        ray.shutdown()


def _start(config: RayConfig, *, verbose: bool, min_cpus: int) -> None:
    """ValueError, in one line, if there is no Ray to be had; whatever Ray raises then."""
    address = config.address or os.environ.get("RAY_ADDRESS")
    _check(address)
    if not address:
        env.apply("local", RAY_AUTH_TOKEN=secrets.token_hex(32))
    try:
        import ray
        import ray.data

        for name in () if verbose else ("ray.data", "ray.train"):  # they come with handlers of their own
            logging.getLogger(name).setLevel(logging.CRITICAL)
        level = logging.INFO if verbose else logging.ERROR
        start = partial(ray.init, log_to_driver=verbose, logging_level=level, configure_logging=verbose)
        if address:
            start(address=address)
        else:
            start(
                address="local",
                num_cpus=max(config.cpus or os.cpu_count() or 1, min_cpus),
                include_dashboard=False,
                _temp_dir=_own_folder(),
                object_store_memory=config.object_store_mb << 20,
            )
    except Exception as error:
        if verbose:
            raise
        raise ValueError(
            f"Ray could not start: {reason_of(error)[:300]}; {_MEND_ADDRESS if address else _MEND_HERE}"
        ) from error


def _temporary() -> str:
    return os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"


def _own_folder() -> str:
    """A folder for Ray's sessions within one of this user alone, since Ray lets everybody write to it; ValueError if
    that is another's."""
    folder = f"{_temporary().rstrip('/')}/ray-{os.getuid()}"
    if len(os.fsencode(f"{folder}/ray")) > _LONGEST_FOLDER:
        raise ValueError(f"Ray makes sockets in {folder}, a path too long for them; set RAY_TMPDIR to a shorter one")
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        status = os.lstat(folder)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise ValueError(f"{folder} is not a folder of yours; set RAY_TMPDIR to another place") from None
        os.chmod(folder, 0o700)
    return f"{folder}/ray"


def _check(address: str | None) -> None:
    """ValueError for what Ray would answer with minutes of waiting, or with the end of this process."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if not address and 0 <= limit < _ADDRESS_SPACE:
        raise ValueError(
            f"Ray needs {_ADDRESS_SPACE >> 30} GiB of address space or more, and here {limit / 2**30:.1f} GiB are "
            "allowed; raise that with `ulimit -v unlimited`"
        )
    folder = _temporary()
    if not address and shutil.disk_usage(folder).free < _LOG_SPACE:
        raise ValueError(
            f"Ray keeps its logs under {folder}, where less than {_LOG_SPACE >> 20} MiB are free; make room, or set "
            "RAY_TMPDIR to another folder"
        )
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise ValueError(f"nothing answers at the Ray address {address} ({error}); {_MEND_ADDRESS}") from error
