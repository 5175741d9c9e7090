"""Where the ranks of a training group meet: on one node in a file of theirs, on several at a port of rank 0's node.

Guarantee: while all ranks are on one node, nothing of torch's listens outside of loopback. The store of several nodes
(torch's TCPStore) listens on all interfaces and asks for no token: a firewall must keep others away from it.
"""

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.train._internal.base_worker_group import BaseWorkerGroup
from ray.train.backend import BackendConfig
from ray.train.torch import TorchConfig

# Ray Train has no public way to meet in a file; these are what its own TorchConfig is made of.
from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group, _TorchBackend

from cluster import env

_FILE = "ranks"
_REMOVAL_S = 2.0


@dataclass
class Rendezvous(TorchConfig):
    """TorchConfig, but for the place where ranks of one node meet."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """What Ray Train starts and ends a group with."""
        return _Backend


class _Backend(_TorchBackend):
    def on_start(self, worker_group: BaseWorkerGroup, backend_config: BackendConfig) -> None:
        assert isinstance(backend_config, Rendezvous)
        self._folder: str | None = None
        if len(set(worker_group.execute(_node))) > 1:
            super().on_start(worker_group, backend_config)
            return
        self._folder = worker_group.execute_single(0, tempfile.mkdtemp, prefix="triptych-")  # of mode 0700
        worker_group.execute(_stay_on_loopback)
        worker_group.execute(_set_torch_distributed_env_vars)
        has_gpus = worker_group.get_resources_per_worker().get("GPU", 0) > 0
        starts: list[Any] = [
            worker_group.execute_single_async(
                rank,
                _setup_torch_process_group,
                backend=backend_config.backend or ("nccl" if has_gpus else "gloo"),
                world_rank=rank,
                world_size=len(worker_group),
                init_method=f"file://{os.path.join(self._folder, _FILE)}",
                timeout_s=backend_config.timeout_s,
            )
            for rank in range(len(worker_group))
        ]
        ray.get(starts)

    def on_shutdown(self, worker_group: BaseWorkerGroup, backend_config: BackendConfig) -> None:
        super().on_shutdown(worker_group, backend_config)
        if getattr(self, "_folder", None) is not None:
            removals: list[Any] = worker_group.execute_async(shutil.rmtree, self._folder, ignore_errors=True)
            with contextlib.suppress(ray.exceptions.RayError):  # one rank is enough; others may be dead, or stuck
                ray.get(removals, timeout=_REMOVAL_S)


def _node() -> str:
    return ray.get_runtime_context().get_node_id()


def _stay_on_loopback() -> None:
    cards = psutil.net_if_addrs().items()
    loopback = next((name for name, addresses in cards if any(one.address == "127.0.0.1" for one in addresses)), None)
    if loopback is not None:
        env.apply("lone_node", GLOO_SOCKET_IFNAME=loopback, NCCL_SOCKET_IFNAME=loopback)
