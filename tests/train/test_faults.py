"""A run on Ray to which something is done ends with the weights, and the samples, of one to which nothing was done."""

import contextlib
import dataclasses
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pipeline.storage import Store
from pipeline.train import metrics, ranks, saved
from pipeline.train.checkpoint import Checkpoints
from pipeline.train.launch import worker as workers
from pipeline.train.launch.config import ClusterConfig
from pipeline.train.launch.fit import fit
from tests.train import tiny
from tests.train.processes import run

pytestmark = pytest.mark.slow
STEPS = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Harm:
    """What is done to one rank, once: a signal, when the run comes to `where`; a number is a step, and the checkpoint
    that was due last is committed by then. Signal 0 does nothing but wait there for harm from outside. With `raylet`
    the signal goes to the raylet of the rank's node, and the rank waits there for its end."""

    where: str | int
    rank: int
    signal: int = signal.SIGKILL
    raylet: bool = False


def worker(payload, host):
    """Train, with harm done; `marks` receives what happened, when and where."""
    marks, raylet = Path(payload["marks"]), os.getppid()

    def strike(harm):
        marker = marks.with_name(f"{marks.name}-{harm.where}-{harm.signal}")
        if (
            ranks.rank() != harm.rank or marker.exists() or os.getppid() != raylet
        ):  # a worker outlives its raylet a while
            return
        marker.touch()
        mark(f"harm {harm.where}")
        os.kill(raylet if harm.raylet else os.getpid(), harm.signal)
        time.sleep(120 if harm.raylet or not harm.signal else 0)
        while harm.signal == signal.SIGTERM and not workers._terminated.is_set():
            time.sleep(0.05)  # the main thread hears of it at Ray's next poll

    def mark(text):
        with marks.open("a") as file:
            file.write(f"{time.time()} {text}\n")

    class Harmed(type(host)):
        def resumed(self, step):
            super().resumed(step)
            if ranks.rank() == 0:
                mark(f"resumed {step} {ranks.world_size()}")

        def progress(self, step, loss):
            super().progress(step, loss)
            if ranks.rank() == 0:
                mark(f"step {step} {ranks.world_size()}")
            if not marks.with_name("hurry").exists():
                time.sleep(payload["pause_s"])
            for harm in payload["harms"]:
                if harm.where == step and ranks.rank() == harm.rank:
                    committed(
                        payload["run"], step // payload["train"].checkpoint_every * payload["train"].checkpoint_every
                    )
                    strike(harm)

    host.__class__ = Harmed
    for harm in payload["harms"]:
        if isinstance(harm.where, str):
            owner, name, suffix = PLACES[harm.where]
            setattr(owner, name, struck(getattr(owner, name), suffix, harm, strike))
    tiny.train(payload["train"], payload["data"], payload["run"], host=host)


def committed(folder, step, timeout_s=60):
    """Wait until the checkpoint of a step is committed; of step 0 there is none."""
    end = time.monotonic() + timeout_s
    while step and step not in steps_saved(folder):
        assert time.monotonic() < end, f"no checkpoint of step {step}: {steps_saved(folder)}"
        time.sleep(0.05)


PLACES = {
    "data is written": (Store, "write", ".safetensors"),
    "data is there, unnamed": (Store, "write", ".safetensors.json"),
    "the manifest is created": (Store, "create", "manifest.json"),
    "a checkpoint is loaded": (saved.Saved, "_verified", ""),
}


def struck(method, suffix, harm, strike):
    def call(self, name, *args):
        if str(name).endswith(suffix):
            strike(harm)
        return method(self, name, *args)

    return call


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.dataset(tmp_path_factory.mktemp("data")).url


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory):
    """The run folder of two ranks under ZeRO-1 to which nothing is done."""
    folder = str(tmp_path_factory.mktemp("straight"))
    run(tiny.train, 2, tiny.config(), data, folder)
    return folder


def settings(data, folder, tmp_path, harms=(), pause_s=0.1, train=None, **cluster):
    """Arguments of `fit`; pauses let a checkpoint be committed two steps later."""
    payload = {
        "train": train or tiny.config(),
        "data": data,
        "run": folder,
        "marks": str(tmp_path / "marks"),
        "harms": list(harms),
        "pause_s": pause_s,
    }
    return {
        "config": payload,
        "name": "faults",
        "run_dir": folder,
        "total_steps": payload["train"].steps,
        "show_progress": False,
        "cluster": ClusterConfig(**{"max_failures": len(harms)} | cluster),
    }


def trained(harms, data, folder, tmp_path, **changes):
    """Marks of a run with harms done, as (seconds, what, more)."""
    fit(worker, **settings(data, folder, tmp_path, harms, **changes))
    return marks(tmp_path)


@contextlib.contextmanager
def driver(address, *args, **changes):
    """A process of its own that runs `fit` on the Ray at `address`."""
    code = "import pickle, sys; from tests.train.test_faults import drive; drive(*pickle.load(sys.stdin.buffer))"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdin.write(pickle.dumps((address, settings(*args, **changes))))
    child.stdin.close()
    child.stdin = None  # so that `communicate` lets it be
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def drive(address, arguments):
    from jobs._ray import RayConfig, ray_session

    with ray_session(RayConfig(address=address), verbose=False):
        fit(worker, **arguments)


def wait_for(tmp_path, pattern, child, timeout_s=120):
    """The match of a pattern in the marks, waited for while the driver lives."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        assert child.poll() is None, child.stderr.read().decode()
        found = re.search(pattern, (tmp_path / "marks").read_text()) if (tmp_path / "marks").exists() else None
        if found:
            return found
        time.sleep(0.05)
    raise TimeoutError(f"{pattern} not in {(tmp_path / 'marks').read_text()}")


def marks(tmp_path):
    lines = [line.split(" ", 2) for line in (tmp_path / "marks").read_text().splitlines()]
    return [(float(at), what, rest) for at, what, rest in lines]


def result(folder):
    """Weights and the chain of ids of the newest checkpoint."""
    store = Store(folder)
    checkpoints = Checkpoints(store.sub("checkpoints"), torch.device("cpu"), keep=9)
    return store.read("model/model.safetensors"), checkpoints.open(checkpoints.names()[0]).manifest.contents.chain


def steps_saved(folder):
    return {int(name.split("-")[0]) for name in saved.committed(Store(f"{folder}/checkpoints"))}


def test_a_worker_that_is_stopped_is_found_and_its_group_replaced(local_ray, data, straight, tmp_path, caplog):
    folder = str(tmp_path / "run")
    found = trained([Harm(where=7, rank=1, signal=signal.SIGSTOP)], data, folder, tmp_path, stall_timeout_s=5)
    assert result(folder) == result(straight)
    (stopped,) = (at for at, what, _ in found if what == "harm")
    seconds = min(at for at, what, _ in found if what == "step" and at > stopped + 1) - stopped
    print(f"stall_timeout_s 5: {seconds:.1f} s from SIGSTOP to the next step")
    assert 5 < seconds < 60
    assert [record.message for record in caplog.records if "no step for" in record.message]


EVERY_MOMENT = pytest.mark.parametrize(
    ("harms", "starts"),
    [
        (
            [
                Harm(where=2, rank=0),
                Harm(where="data is written", rank=1),
                Harm(where="data is there, unnamed", rank=1),
            ],
            ["0 2", "0 2", "0 2", "0 2"],
        ),
        (
            [
                Harm(where="the manifest is created", rank=0),
                Harm(where=7, rank=0),
                Harm(where="a checkpoint is loaded", rank=1),
            ],
            ["0 2", "0 2", "5 2"],
        ),  # killed while it loads, a group does not come so far as to say where it resumes
    ],
    ids=["before a commit", "at a commit, after it, loading it"],
)


@EVERY_MOMENT
def test_workers_are_killed_at_every_moment_of_a_run(local_ray, data, straight, tmp_path, harms, starts):
    folder = str(tmp_path / "run")
    found = trained(harms, data, folder, tmp_path)
    assert [rest for _, what, rest in found if what == "harm"] == [str(harm.where) for harm in harms]
    assert [rest for _, what, rest in found if what == "resumed"] == starts
    assert result(folder) == result(straight)


def test_a_run_on_s3_survives_too(local_ray, data, straight, bucket, tmp_path):
    found = trained([Harm(where=7, rank=1)], data, f"{bucket}/run", tmp_path)
    assert [rest for _, what, rest in found if what == "resumed"] == ["0 2", "5 2"]
    assert result(f"{bucket}/run") == result(straight)


def test_any_number_of_ranks_sees_the_same_losses(data, tmp_path):
    expected = tiny.train(tiny.config("torch"), data, str(tmp_path / "one")).losses
    for world, micro in ((5, None), (5, 2)):  # shares of 3, 2, 3, 2 and 2 samples
        hosts = run(tiny.train, world, tiny.config(micro_batch=micro), data, str(tmp_path / f"{world}-{micro}"))
        assert hosts[0].losses == pytest.approx(expected, rel=1e-5)


def test_a_driver_that_is_told_to_end_saves_first(local_ray, data, tmp_path):
    folder = str(tmp_path / "run")
    with driver(here(), data, folder, tmp_path, pause_s=0.5, train=tiny.config(checkpoint_every=100)) as child:
        wait_for(tmp_path, "step 2 2", child)
        child.send_signal(signal.SIGTERM)
        said = child.communicate(timeout=60)[1].decode()
    assert child.returncode == 128 + signal.SIGTERM, said
    (step,) = (
        int(n) for n in re.findall(r"stopped, after the checkpoint of step (\d+); run the same command again", said)
    )
    assert 2 <= step < 12 and steps_saved(folder) == {step}


def test_a_driver_that_is_killed_is_run_again(local_ray, data, straight, tmp_path):
    folder = str(tmp_path / "run")
    with driver(here(), data, folder, tmp_path, pause_s=0.3) as child:
        wait_for(tmp_path, "step 7 2", child)
        committed(folder, 5)
    with driver(here(), data, folder, tmp_path) as child:
        assert child.wait(120) == 0
    assert [rest for _, what, rest in marks(tmp_path) if what == "resumed"] == ["0 2", "5 2"]
    assert result(folder) == result(straight)


def test_a_driver_is_killed_at_every_moment(local_ray, data, straight, tmp_path):
    folder = str(tmp_path / "run")
    for where in ("data is written", "data is there, unnamed", "the manifest is created", 7, "a checkpoint is loaded"):
        with driver(here(), data, folder, tmp_path, [Harm(where=where, rank=0, signal=0)]) as child:
            wait_for(tmp_path, f"harm {where}", child)
    with driver(here(), data, folder, tmp_path) as child:
        assert child.wait(120) == 0
    assert [rest for _, what, rest in marks(tmp_path) if what == "resumed"] == ["0 2"] * 4 + ["5 2"]
    assert result(folder) == result(straight)


def here():
    import ray

    return ray.get_runtime_context().gcs_address


def drained(address, node, seconds):
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    deadline_ms = int((time.time() + seconds) * 1000)
    assert GcsClient(address=address).drain_node(
        node.node_id, autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION, "test", deadline_ms
    )[0]


@pytest.fixture
def nodes():
    """A Ray cluster of a head without CPUs; nodes are added by `add_node`."""
    from ray.cluster_utils import Cluster

    health = {
        "health_check_initial_delay_ms": 1000,
        "health_check_period_ms": 1000,
        "health_check_timeout_ms": 1000,
        "health_check_failure_threshold": 3,
    }
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": False,
            "object_store_memory": 100 << 20,
            "_system_config": health,
        },
    )
    yield cluster
    cluster.shutdown()


def test_a_node_that_is_to_go_is_saved_from_and_a_new_one_is_used(nodes, data, tmp_path):
    train = tiny.config(steps=150, checkpoint_every=1000)
    size, folder = {"num_cpus": 1, "object_store_memory": 100 << 20}, str(tmp_path / "run")
    nodes.add_node(**size)
    leaving = nodes.add_node(**size)
    with driver(
        nodes.address, data, folder, tmp_path, train=train, pause_s=0.4, num_workers=1, max_workers=2, resize_every_s=4
    ) as child:
        wait_for(tmp_path, "step 3 2", child)
        drained(nodes.address, leaving, 6)
        time.sleep(6)
        nodes.remove_node(leaving, allow_graceful=False)
        one = int(wait_for(tmp_path, r"resumed (\d+) 1", child)[1])
        assert one >= 3 and one in steps_saved(folder)  # saved because a node was to go: no other checkpoint was due
        nodes.add_node(**size)
        two = int(wait_for(tmp_path, r"(?s)resumed \d+ 1\n.*resumed (\d+) 2", child)[1])
        assert two > one and two in steps_saved(folder)  # saved because the group was to grow
        (tmp_path / "hurry").touch()
        assert child.wait(120) == 0
    unchanged(train, data, folder, tmp_path)


def test_the_nodes_that_are_left_go_on(nodes, data, tmp_path):
    train, folder = tiny.config(steps=100), str(tmp_path / "run")
    size = {"num_cpus": 1, "object_store_memory": 100 << 20}
    nodes.add_node(**size)
    torn = nodes.add_node(**size)
    with driver(
        nodes.address, data, folder, tmp_path, train=train, pause_s=0.4, num_workers=1, max_workers=2, max_failures=1
    ) as child:
        wait_for(tmp_path, "step 7 2", child)
        committed(folder, 5)
        os.kill(torn.all_processes["raylet"][0].process.pid, signal.SIGKILL)  # its worker ends a few seconds later
        again = int(wait_for(tmp_path, r"resumed (\d+) 1", child)[1])
        assert again >= 5 and again in steps_saved(folder)
        (tmp_path / "hurry").touch()
        assert child.wait(150) == 0
    assert len([what for _, what, _ in marks(tmp_path) if what == "resumed"]) == 2
    unchanged(train, data, folder, tmp_path)


@EVERY_MOMENT
def test_raylets_are_killed_at_every_moment_of_a_run(nodes, data, straight, tmp_path, harms, starts):
    folder, size = str(tmp_path / "run"), {"num_cpus": 1, "object_store_memory": 100 << 20}
    for _ in range(3):  # one more than the group needs
        nodes.add_node(**size)
    harms = [dataclasses.replace(harm, raylet=True) for harm in harms]
    with driver(nodes.address, data, folder, tmp_path, harms) as child:
        for harm in harms:
            wait_for(tmp_path, f"harm {harm.where}", child)
            nodes.add_node(**size)
        assert child.wait(150) == 0, child.stderr.read().decode()
    found = marks(tmp_path)
    assert [rest for _, what, rest in found if what == "harm"] == [str(harm.where) for harm in harms]
    assert [rest for _, what, rest in found if what == "resumed"] == starts
    assert result(folder) == result(straight)


def unchanged(train, data, folder, tmp_path):
    """The run saw the samples and the losses of one process without Ray."""
    alone = str(tmp_path / "alone")
    one = tiny.train(dataclasses.replace(train, engine=tiny.config("torch").engine), data, alone)
    lines = [line["loss"] for line in metrics.read(Store(folder)) if "loss" in line]
    assert lines == pytest.approx(one.losses, rel=1e-5, abs=1e-6)  # they fall to 1e-3
    assert result(folder)[1] == result(alone)[1]
