"""The Ray that a command works on: the cluster that was named, or one of its own on this machine."""
import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """Where the work runs."""

    address: str | None = None
    """A running cluster (`auto`, or host:port); without one, and without RAY_ADDRESS, the job starts Ray on this machine."""
    cpus: int | None = None
    """CPUs of the local Ray; all of this machine's by default. Ignored on a running cluster."""
    object_store_mb: int = 512
    """Shared memory of the local Ray for rows in flight. Ignored on a running cluster."""


@contextlib.contextmanager
def ray_session(config: RayConfig, *, verbose: bool, min_cpus: int = 1) -> Iterator[None]:
    """Connect to the cluster that was named, or start Ray here, reachable from this machine only and by a token of its own."""
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = config.address or os.environ.get("RAY_ADDRESS")
    options: dict[str, object] = {"address": address} if address else _local(config, min_cpus)
    import ray
    import ray.data

    for name in () if verbose else ("ray.data", "ray.train"):  # they come with handlers of their own
        logging.getLogger(name).setLevel(logging.CRITICAL)
    ray.init(log_to_driver=verbose, logging_level="INFO" if verbose else "ERROR", configure_logging=verbose, **options)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = verbose
    context.enable_operator_progress_bars = verbose
    context.raise_original_map_exception = True  # so that a user's mistake can be told in one line
    try:
        yield
    finally:
        ray.shutdown()


def _local(config: RayConfig, min_cpus: int) -> dict[str, object]:
    # A token of this process alone, in the environment: Ray would otherwise leave one readable by all in the home folder.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    # Read where it was set when Ray started: how long workers are waited for that wait for a dead one.
    os.environ.setdefault("TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S", "3")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # the only machine there is: nobody drains it
    cpus = max(config.cpus or os.cpu_count() or 1, min_cpus)
    return {"address": "local", "num_cpus": cpus, "include_dashboard": False, "_node_ip_address": "127.0.0.1",
            "object_store_memory": config.object_store_mb << 20}
