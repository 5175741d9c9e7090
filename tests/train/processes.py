"""Run a function in several processes that form a gloo group, without Ray."""

import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from tests.commands import FORKS


def run(fn: Callable[..., Any], world: int, *args: Any, timeout_s: float = 100.0, may_die: bool = False) -> list[Any]:
    """What `fn(*args)` returned on each rank; with `may_die`, None for a rank that was killed."""
    with tempfile.TemporaryDirectory() as folder:
        workers = [
            FORKS.Process(target=_child, args=(fn, rank, world, folder, args, dict(os.environ)), daemon=True)
            for rank in range(world)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(timeout_s)
        hung = [rank for rank, worker in enumerate(workers) if worker.is_alive()]
        for worker in workers:
            worker.kill()
        assert not hung, f"ranks {hung} hung"
        results: list[Any] = []
        for rank in range(world):
            path = f"{folder}/result-{rank}"
            if not os.path.exists(path):
                assert may_die, f"rank {rank} died"
                results.append(None)
                continue
            ok, value = torch.load(path, weights_only=False)
            assert ok or may_die, f"rank {rank} raised:\n{value}"
            results.append(value if ok else None)
        return results


def _child(
    fn: Callable[..., Any], rank: int, world: int, folder: str, args: tuple[Any, ...], environment: dict[str, str]
) -> None:
    torch.set_num_threads(1)
    os.environ |= environment | {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": str(world)}
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world, timeout=timedelta(seconds=60)
    )
    try:
        result = (True, fn(*args))
    except Exception:  # noqa: BLE001 - the parent tells
        result = (False, traceback.format_exc())
    torch.save(result, f"{folder}/part-{rank}")
    os.replace(f"{folder}/part-{rank}", f"{folder}/result-{rank}")
    if result[0]:
        dist.barrier()
    os._exit(0)  # gloo's threads now and then abort an orderly exit
