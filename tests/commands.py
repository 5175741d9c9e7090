"""Commands as processes of their own, without the seconds that each would take to import torch.

They are forked from a process that has imported what is slow and not ours. From there on all is as in `python -m NAME`:
our own imports, signals, the streams, the way out and its status.
"""

import multiprocessing
import os
import resource
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(  # nothing of Ray, which reads its environment when it is imported, and nothing of ours
    [
        "torch",
        "deepspeed",
        "diffusers.schedulers",
        "pyarrow.dataset",
        "pyarrow.parquet",
        "s3fs",
        "tyro",
        "safetensors.torch",
    ]
)


def command(
    *argv: str,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    address_space: int = resource.RLIM_INFINITY,
    timeout_s: float = 120,
) -> subprocess.CompletedProcess[str]:
    """What `python -m ARGV` says and ends with, allowed so many bytes of address space; a negative status is the signal
    that it died of."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        environment = dict(os.environ if env is None else env)
        process = FORKS.Process(target=_run, args=(argv, cwd, environment, address_space, out, err))
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(argv, timeout_s)
        return subprocess.CompletedProcess(argv, process.exitcode, out.read_text(), err.read_text())


def _run(argv: tuple[str, ...], cwd: Path, env: dict[str, str], address_space: int, out: Path, err: Path) -> None:
    for name, number in ((out, 1), (err, 2)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
    resource.setrlimit(resource.RLIMIT_AS, (address_space, resource.getrlimit(resource.RLIMIT_AS)[1]))
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[:] = [str(cwd), *env.get("PYTHONPATH", "").split(os.pathsep), *sys.path]
    sys.argv = [*argv]
    runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
