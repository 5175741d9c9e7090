import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch

from pipeline.lease import hold
from pipeline.storage import Store
from pipeline.train import metrics, ranks
from pipeline.train.launch import fit as launch
from pipeline.train.launch import worker as workers
from pipeline.train.launch.config import ClusterConfig
from pipeline.train.launch.fit import _one_line, fit
from tests.train import tiny


def worker(payload, host):
    class Dying(type(host)):
        def progress(self, step, loss):
            super().progress(step, loss)
            if step == 2 and ranks.rank() == 1 and not Path(payload["died"]).exists():
                os.kill(os.getpid(), signal.SIGTERM)
                while not workers._terminated.is_set():
                    time.sleep(0.02)  # the main thread hears of it at Ray's next poll
            if step == 8 and ranks.rank() == 1 and not Path(payload["died"]).exists():
                Path(payload["died"]).touch()
                os.kill(os.getpid(), signal.SIGKILL)

    host.__class__ = Dying
    tiny.train(payload["train"], payload["data"], payload["run"], host=host)


def test_two_workers_under_zero_1_save_when_one_is_told_to_end_and_survive_its_death(local_ray, tmp_path, capsys):
    data, run, died = tiny.dataset(tmp_path / "data").url, str(tmp_path / "run"), tmp_path / "died"
    os.makedirs(tmp_path / "run/ray/tiny")
    (tmp_path / "run/ray/tiny/checkpoint_manager_snapshot.json").write_text("{torn")
    payload = {"train": tiny.config(), "data": data, "run": run, "died": str(died)}
    fit(worker, payload, name="tiny", run_dir=run, cluster=ClusterConfig(max_failures=1), total_steps=12)
    assert died.exists()
    assert list(
        (tmp_path / "run/checkpoints").glob("00000003-*/manifest.json")
    )  # the step in which rank 1 was told to end
    lines = [line for line in metrics.read(Store(run)) if "loss" in line]
    assert [line["step"] for line in lines] == list(range(1, 13))
    expected = tiny.train(tiny.config("torch"), data, str(tmp_path / "reference")).losses
    assert [line["loss"] for line in lines] == pytest.approx(expected, rel=1e-5)
    assert (tmp_path / "run/model/manifest.json").exists()
    assert "tiny            12/12 steps" in capsys.readouterr().err


def test_a_second_driver_is_refused_and_harms_nothing(tmp_path):
    store = Store(str(tmp_path))
    store.write("ray/mine", b"")
    with hold(store), pytest.raises(ValueError, match="is held by process"):
        fit(worker, {}, name="tiny", run_dir=store.url, cluster=ClusterConfig(), total_steps=12)
    assert store.exists("ray/mine")


def refuse(payload, host):
    Path(payload["tries"]).open("a").write("x")
    torch.distributed.barrier()
    raise ValueError("train.global_batch is 7; use 8")


def test_an_error_of_the_user_is_raised_as_it_was_and_not_tried_again(local_ray, tmp_path, capsys):
    tries = tmp_path / "tries"
    with pytest.raises(ValueError, match=r"^train\.global_batch is 7; use 8$"):
        fit(
            refuse,
            {"tries": str(tries)},
            name="tiny",
            run_dir=str(tmp_path / "run"),
            cluster=ClusterConfig(max_failures=9),
            total_steps=1,
            show_progress=False,
        )
    assert len(tries.read_text()) == 2  # once on each worker
    assert capsys.readouterr().err == ""


def test_what_is_said_of_workers_that_failed():
    import ray
    from ray.train import WorkerGroupError

    said = _one_line(WorkerGroupError("…", {1: OSError("disk on fire\nmore"), 0: RuntimeError("decoder broke\nmore")}))
    assert said == "training failed on worker 0: RuntimeError: decoder broke"
    dead = ray.exceptions.ActorDiedError()
    said = _one_line(WorkerGroupError("…", {3: dead}))
    assert re.fullmatch(r"training failed on worker 3: The actor died[^.]*", said)


def test_too_many_workers_are_refused_before_any_starts(local_ray, tmp_path):
    with pytest.raises(ValueError, match=r"3 workers need 3 CPUs and the Ray cluster has 2; lower --cluster\.num_w"):
        fit(refuse, {}, name="tiny", run_dir=str(tmp_path), cluster=ClusterConfig(num_workers=3), total_steps=1)
    with pytest.raises(
        ValueError, match="2 workers need 2 GPUs and the Ray cluster has 0; leave out --cluster.use-gpu"
    ):
        fit(refuse, {}, name="tiny", run_dir=str(tmp_path), cluster=ClusterConfig(use_gpu=True), total_steps=1)


def test_a_worker_that_sees_another_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store(str(tmp_path / "run"))
    with hold(store) as lease:
        folder = str(tmp_path / "only on the driver's node")
        launch._enter(folder, store.url, lease.name)
        with pytest.raises(ValueError, match="elsewhere is another folder on .* use an s3:// URL, or a disk that all"):
            launch._enter(folder, str(tmp_path / "elsewhere"), lease.name)
