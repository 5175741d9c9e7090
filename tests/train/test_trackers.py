import sys
import time

import pytest

from pipeline.storage import Store
from pipeline.train import trackers
from pipeline.train.metrics import Metrics, read


def use(folder, names, first, steps):
    store = Store(str(folder))
    metrics = Metrics(store, first, trackers.start(names, store, {"train": {"lr": 0.1}, "kind": "tiny"}))
    for step in steps:
        metrics.write(step, **{"loss": step / 10, "eval/nats": 2.0})
    metrics.close()
    return store


def test_nothing_is_imported_unless_it_is_asked_for(tmp_path):
    before = set(sys.modules)
    use(tmp_path, (), 0, [1])
    assert not {"wandb", "mlflow"} & (set(sys.modules) - before)


def test_a_missing_package_is_one_line_with_its_cure(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    trackers.check(())
    for name, package in (("wandb", "wandb"), ("mlflow", "mlflow-skinny")):
        with pytest.raises(ValueError, match=f"names {name}, which is not installed here; run `pip install {package}`"):
            trackers.check((name,))


@pytest.fixture
def mlflow_files(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_URI is not set"):
        trackers.check(("mlflow",))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    trackers.check(("mlflow",))
    return tmp_path


@pytest.mark.slow
def test_mlflow_has_one_run_with_all_steps_after_a_resume(mlflow_files):
    from mlflow import MlflowClient

    use(mlflow_files / "run", ("mlflow",), 0, [1, 2])
    use(mlflow_files / "run", ("mlflow",), 2, [3])
    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("triptych").experiment_id])
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert run.data.params == {"train.lr": "0.1", "kind": "tiny"} and run.data.metrics["eval/nats"] == 2.0


@pytest.mark.slow
def test_a_tracker_that_fails_is_left_out_and_the_lines_stay(mlflow_files, monkeypatch, caplog):
    from mlflow import MlflowClient

    def broken(*args, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(MlflowClient, "log_batch", broken)
    store = use(mlflow_files / "run", ("mlflow",), 0, [1, 2])
    assert [line["step"] for line in read(store)] == [1, 2]
    assert [record.message for record in caplog.records if "no route" in record.message] == [
        "warning: MLflow takes no more metrics (no route to host); metrics.jsonl has them all"
    ]


@pytest.mark.slow
def test_wandb_offline_keeps_the_numbers_and_no_secret(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "c0ffee" * 7)
    monkeypatch.setattr(sys, "argv", ["job", "--token", "hunter2-on-the-command-line"])
    use(tmp_path / "run", ("wandb",), 0, [1, 2])
    end, kept = time.monotonic() + 20, b""
    while b"eval/nats" not in kept and time.monotonic() < end:  # a process of its own writes it
        time.sleep(0.1)
        kept = b"".join(path.read_bytes() for path in (tmp_path / "run/wandb").rglob("*") if path.is_file())
    assert b"eval/nats" in kept
    assert b"c0ffee" * 7 not in kept and b"hunter2" not in kept
