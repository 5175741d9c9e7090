"""What listens while two ranks of one machine train: nothing that another machine could reach."""

import ipaddress
import json
import os
from pathlib import Path

import psutil
import torch

from pipeline.train import ranks
from pipeline.train.launch.config import ClusterConfig
from pipeline.train.launch.fit import fit
from tests.train import tiny


def listeners(root: psutil.Process) -> list[tuple[str, str]]:
    """(process, address) of every listening socket of a process and of all that it started."""
    found = []
    for process in (root, *root.children(recursive=True)):
        try:
            name, sockets = process.name(), process.net_connections(kind="inet")
        except psutil.NoSuchProcess:
            continue
        found += [(name, socket.laddr.ip) for socket in sockets if socket.status == psutil.CONN_LISTEN]
    return found


def worker(payload, host):
    class Looking(type(host)):
        def progress(self, step, loss):
            super().progress(step, loss)
            if step == 3:
                torch.distributed.barrier()  # every connection is made by now
                if ranks.rank() == 0:
                    Path(payload["seen"]).write_text(json.dumps(listeners(psutil.Process(payload["driver"]))))
                torch.distributed.barrier()

    host.__class__ = Looking
    tiny.train(payload["train"], payload["data"], payload["run"], host=host)


def test_no_socket_listens_outside_of_loopback(local_ray, tmp_path):
    seen = tmp_path / "seen.json"
    payload = {"train": tiny.config(), "data": tiny.dataset(tmp_path / "data").url, "run": str(tmp_path / "run")}
    payload |= {"seen": str(seen), "driver": os.getpid()}
    fit(worker, payload, name="tiny", run_dir=payload["run"], cluster=ClusterConfig(), total_steps=12)
    found = json.loads(seen.read_text())
    names = " ".join(name for name, _ in found)
    assert "gcs_server" in names and "raylet" in names and len(found) > 5
    assert not [(name, ip) for name, ip in found if not ipaddress.ip_address(ip.removeprefix("::ffff:")).is_loopback]
