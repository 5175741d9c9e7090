import dataclasses
import itertools
import json
import math
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from pipeline.exported import Exported, NetworkSpec
from pipeline.manifest import read_manifest
from pipeline.storage import CorruptFileError, Store
from pipeline.train import metrics
from pipeline.train.checkpoint import Checkpoints
from pipeline.train.config import TrainConfig
from pipeline.train.data.rows import Rows
from pipeline.train.export import from_checkpoint
from pipeline.train.loop import Run, finished, train
from pipeline.train.saved import committed, open_saved
from tests.train import tiny
from tests.train.networks import NETWORKS
from tests.train.processes import run

torch.set_num_threads(1)
STEPS = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.dataset(tmp_path_factory.mktemp("data")).url


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory):
    """An uninterrupted run of two ranks under ZeRO-1, with checkpoints after 5, 10 and 12 steps."""
    folder = tmp_path_factory.mktemp("straight")
    hosts = run(tiny.train, 2, tiny.config(), data, str(folder))
    assert hosts[0].losses == hosts[1].losses and hosts[0].checkpoints == hosts[1].checkpoints == [5, 10, 12]
    return folder


def one_process(data, folder, host=None, **changes):
    return tiny.train(tiny.config("torch", **changes), data, str(folder))


def lines_of(folder, name="loss"):
    return [line for line in metrics.read(Store(str(folder))) if name in line]


def losses(folder):
    return {line["step"]: line["loss"] for line in lines_of(folder)}


def chain(folder):
    """The hash of all ids that were trained on, as the newest checkpoint has it."""
    store = Store(str(folder)).sub("checkpoints")
    return open_saved(store, committed(store)[0]).manifest.contents.chain


def weights(folder):
    return (Path(folder) / "model" / "model.safetensors").read_bytes()


def only_checkpoint_of(step, source, target):
    """A run folder in which training stopped after the checkpoint of `step`."""
    shutil.copytree(source, target)
    shutil.rmtree(target / "model", ignore_errors=True)
    for folder in (target / "checkpoints").iterdir():
        if int(folder.name.split("-")[0]) > step:
            shutil.rmtree(folder)


def test_a_run_learns_and_leaves_what_it_promises(data, tmp_path):
    host = one_process(data, tmp_path, steps=60, checkpoint_every=50, log_every=20)
    assert host.start == 0 and len(host.losses) == 60 and host.checkpoints == [50, 60]
    assert host.losses[-1] < 0.5 * host.losses[0]
    lines = metrics.read(Store(str(tmp_path)))
    assert [line["step"] for line in lines] == [20, 40, 60]
    assert {"loss", "accuracy", "lr", "grad_norm", "skipped", "step_s", "samples_per_s", "data_s"} <= set(lines[0])
    assert lines[-1]["accuracy"] > lines[0]["accuracy"] and lines[-1]["skipped"] == 0
    assert lines[0]["loss"] == pytest.approx(sum(host.losses[:20]) / 20, rel=0.05)
    assert json.loads((tmp_path / "model/config.json").read_text()) == {
        "kind": "tiny",
        "model": {"width": 31},
        "facts": {},
    }
    tiny.Net().load_state_dict(load(weights(tmp_path)))
    assert finished(tiny.config("torch", steps=60), Store(str(tmp_path)))
    assert not finished(tiny.config("torch", steps=61), Store(str(tmp_path)))


def test_killed_and_run_again_equals_an_uninterrupted_run_bit_for_bit(data, straight, tmp_path):
    settings = (tiny.config(), data, str(tmp_path))
    assert run(tiny.train, 2, *settings, 8, may_die=True) == [None, None]
    left = [line["step"] for line in metrics.read(Store(str(tmp_path)))]
    assert left[-1] in (7, 8) and not (tmp_path / "model").exists()
    hosts = run(tiny.train, 2, *settings)
    assert [host.start for host in hosts] == [5, 5]
    assert losses(tmp_path) == losses(straight)
    assert weights(tmp_path) == weights(straight)


def killed_at(request, data, folder):
    """In a child process: train, and die just before the `request`-th change of the store; whether it came to that."""
    child = os.fork()
    if child == 0:
        left = itertools.count(request, -1)

        def dying(method):
            def call(*args):
                if next(left) == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return method(*args)

            return call

        for name in ("write", "create", "delete"):
            setattr(Store, name, dying(getattr(Store, name)))
        try:
            one_process(data, folder, keep_checkpoints=1)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_killed_at_any_change_of_the_store_and_run_again_gives_the_same_weights(data, tmp_path):
    one_process(data, tmp_path / "straight", keep_checkpoints=1)
    for request in itertools.count():
        folder = tmp_path / str(request)
        if not killed_at(request, data, folder):
            break
        host = one_process(data, folder, keep_checkpoints=1)
        assert host.start in (0, 5, 10, 12), request
        assert weights(folder) == weights(tmp_path / "straight"), request
        assert [line["step"] for line in lines_of(folder)] == list(range(1, 13)), request
        assert losses(folder) == losses(tmp_path / "straight"), request
        left = {path.name[:8] for path in (folder / "checkpoints").iterdir()}
        assert "00000012" in left and left <= {"00000010", "00000012"}, request
    assert request > 15


def test_two_ranks_and_one_and_a_change_between_them_see_the_same_losses(data, straight, tmp_path):
    expected = losses(straight)
    assert one_process(data, tmp_path / "reference").losses == pytest.approx(list(expected.values()), rel=1e-5)
    for folder, settings in (("one", tiny.config("torch")), ("micro", tiny.config("torch", micro_batch=4))):
        only_checkpoint_of(5, straight, tmp_path / folder)
        host = tiny.train(settings, data, str(tmp_path / folder))
        assert host.start == 5
        assert host.losses == pytest.approx(list(expected.values())[5:], rel=1e-5)
        found, reference = load(weights(tmp_path / folder)), load(weights(straight))
        assert found.pop("count") >= reference.pop("count")  # counts micro-batches
        for name, tensor in reference.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6)


def test_dropout_after_a_resume_is_what_it_would_have_been(data, tmp_path):
    settings = tiny.config("torch")
    tiny.train(settings, data, str(tmp_path / "straight"), dropout=0.2)
    tiny.train_until(settings, 4, data, str(tmp_path / "two"), dropout=0.2)
    host = tiny.train(settings, data, str(tmp_path / "two"), dropout=0.2)
    assert host.start == 4 and weights(tmp_path / "two") == weights(tmp_path / "straight")


@pytest.mark.slow
def test_what_four_ranks_saved_under_zero_3_goes_on_at_any_number_of_ranks_under_any_stage(data, tmp_path):
    expected = one_process(data, tmp_path / "reference", steps=24).losses[4:]
    run(tiny.train_until, 4, tiny.config(stage=3, steps=24), 4, data, str(tmp_path / "four"))
    for world, stage in ((1, 0), (2, 2), (3, 1), (4, 3)):
        folder = tmp_path / f"{world}-{stage}"
        shutil.copytree(tmp_path / "four", folder)
        host = run(tiny.train, world, tiny.config(stage=stage, steps=24), data, str(folder))[0]
        assert host.start == 4 and host.losses == pytest.approx(expected, rel=1e-5)
        assert chain(folder) == chain(tmp_path / "reference")


@pytest.mark.slow
def test_four_ranks_become_two_three_two_and_one_through_all_stages(data, tmp_path):
    expected = one_process(data, tmp_path / "reference", steps=20, ema_decay=0.9).losses
    found, folder = [], str(tmp_path / "moving")
    for steps, world, backend, stage in (
        (4, 4, "deepspeed", 3),
        (8, 2, "deepspeed", 2),
        (12, 3, "deepspeed", 1),
        (16, 2, "deepspeed", 3),
        (20, 1, "deepspeed", 0),
    ):
        found += run(tiny.train_until, world, tiny.config(backend, stage, steps=20), steps, data, folder)[0].losses
        assert len(found) == steps
    assert found == pytest.approx(expected, rel=1e-5)
    assert chain(folder) == chain(tmp_path / "reference")
    reference, moved = load(weights(tmp_path / "reference")), load(weights(folder))
    for name, tensor in reference.items():
        torch.testing.assert_close(moved[name], tensor, rtol=0, atol=1e-6)


@pytest.mark.parametrize("how", ["truncate", "flip", "delete", "manifest"])
def test_the_newest_checkpoint_that_is_whole_is_used(data, tmp_path, how, caplog):
    expected = one_process(data, tmp_path).losses
    newest = Checkpoints(Store(f"{tmp_path}/checkpoints"), torch.device("cpu"), keep=9).names()[0]
    path = tmp_path / "checkpoints" / newest / ("manifest.json" if how == "manifest" else "rank-00000.safetensors")
    good = path.read_bytes()
    if how == "delete":
        path.unlink()
    else:
        path.write_bytes(good[:-9] if how == "truncate" else good[:900] + bytes([good[900] ^ 1]) + good[901:])
    shutil.rmtree(tmp_path / "model")
    host = one_process(data, tmp_path)
    assert host.start == 10 and host.losses == expected[10:]
    warnings = [record.message for record in caplog.records if record.name == "triptych"]
    assert len(warnings) == 1 and path.name in warnings[0] and newest in warnings[0]


def test_when_no_checkpoint_is_whole_training_starts_again(data, tmp_path, caplog):
    one_process(data, tmp_path, steps=4, checkpoint_every=2)
    expected = weights(tmp_path)
    for path in (tmp_path / "checkpoints").glob("*/statics.safetensors"):
        path.write_bytes(b"")
    host = one_process(data, tmp_path, steps=4, checkpoint_every=2)
    assert host.start == 0 and weights(tmp_path) == expected
    assert caplog.records[-1].message == (
        "warning: none of the 2 checkpoints there is whole; training starts from its first step"
    )


def test_a_damaged_checkpoint_takes_no_place_among_those_kept(data, tmp_path):
    one_process(data, tmp_path, steps=8, checkpoint_every=4, keep_checkpoints=2)
    store = Store(str(tmp_path)).sub("checkpoints")
    damaged, good = committed(store)
    (tmp_path / "checkpoints" / damaged / "rank-00000.safetensors").write_bytes(b"torn")
    shutil.rmtree(tmp_path / "model")
    one_process(data, tmp_path, steps=8, checkpoint_every=4, keep_checkpoints=2)
    assert good in committed(store) and damaged not in committed(store) and len(committed(store)) == 2
    assert all(not open_saved(store, name).damage() for name in committed(store))


def test_a_checkpoint_under_the_name_of_another_step_is_passed_over(data, tmp_path):
    one_process(data, tmp_path, steps=6, checkpoint_every=2)
    folder = tmp_path / "checkpoints"
    newest, middle, _ = committed(Store(str(folder)))
    for old, new in ((newest, "swap"), (middle, newest), ("swap", middle)):
        (folder / old).rename(folder / new)
    with pytest.raises(CorruptFileError, match="holds the checkpoint of step 4"):
        open_saved(Store(str(folder)), newest)
    shutil.rmtree(tmp_path / "model")
    assert one_process(data, tmp_path, steps=6, checkpoint_every=2).start == 2


def test_a_finished_run_trains_no_more_and_a_longer_one_goes_on(data, tmp_path):
    one_process(data, tmp_path, steps=4)
    before = weights(tmp_path)
    host = one_process(data, tmp_path, steps=4)
    assert (host.start, host.losses) == (4, []) and weights(tmp_path) == before
    host = one_process(data, tmp_path, steps=6)
    assert host.start == 4 and len(host.losses) == 2
    assert finished(tiny.config("torch", steps=6), Store(str(tmp_path))) and weights(tmp_path) != before
    (tmp_path / "model/model.safetensors").unlink()
    assert not finished(tiny.config("torch", steps=6), Store(str(tmp_path)))


def test_fewer_steps_than_were_done_are_refused(data, tmp_path):
    one_process(data, tmp_path, steps=6)
    with pytest.raises(ValueError, match="trained for 6 steps already, and --train.steps is 4"):
        one_process(data, tmp_path, steps=4)


def test_a_checkpoint_of_another_model_or_of_other_samples_is_refused(data, tmp_path, monkeypatch):
    one_process(data, tmp_path, steps=4)
    with pytest.raises(ValueError, match="other samples"):
        one_process(data, tmp_path, steps=6, seed=4)
    with pytest.raises(ValueError, match="other samples"):
        one_process(data, tmp_path, steps=6, global_batch=6)
    other = tiny.dataset(tmp_path / "other", rows=90).url
    with pytest.raises(ValueError, match="other samples"):
        one_process(other, tmp_path, steps=6)
    net = tiny.Net
    monkeypatch.setattr(tiny, "Net", lambda **options: net(width=32, **options))
    with pytest.raises(ValueError, match="checkpoint of another model"):
        one_process(data, tmp_path, steps=6)


def test_training_that_diverges_stops_and_names_step_and_samples(data, tmp_path, monkeypatch):
    def loss_fn(model, batch):
        loss, weight, sums = good(model, batch)
        return loss * torch.tensor(float("nan")), weight, sums

    good = tiny.loss_fn
    monkeypatch.setattr(tiny, "loss_fn", loss_fn)
    with pytest.raises(FloatingPointError, match=r"3 steps in a row, up to step 3 \(sample ids \d+, .*…\)"):
        one_process(data, tmp_path, max_bad_steps=3)


def test_what_diverged_pushes_out_no_sound_checkpoint_and_is_not_exported(data, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "loss_fn", spoilt_at(6, 7, 8, 9, 10, by=float("nan")))
    with pytest.raises(
        FloatingPointError, match="came to its last step, and loss or gradient were not finite from step 6 to 10"
    ):
        one_process(data, tmp_path, steps=10, checkpoint_every=2, keep_checkpoints=2)
    assert [name[:8] for name in committed(Store(str(tmp_path)).sub("checkpoints"))] == ["00000004", "00000002"]
    assert not (tmp_path / "model").exists()


def test_a_checkpoint_that_was_due_at_a_bad_step_is_made_after_it(data, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "loss_fn", spoilt_at(4, by=float("nan")))
    assert one_process(data, tmp_path, steps=6, checkpoint_every=2).checkpoints == [2, 5, 6]


def test_what_is_called_when_a_run_is_accepted_is_not_called_when_it_is_refused(data, tmp_path):
    calls = []
    settings = tiny.config("torch", steps=4)
    tiny.train(settings, data, str(tmp_path), accepted=lambda: calls.append((tmp_path / "metrics.jsonl").exists()))
    assert calls == [False]
    with pytest.raises(ValueError, match="other samples"):
        tiny.train(
            dataclasses.replace(settings, steps=8, seed=9), data, str(tmp_path), accepted=lambda: calls.append(True)
        )
    assert len(calls) == 1


def test_a_bad_step_is_skipped_and_counted(data, tmp_path, monkeypatch):
    def loss_fn(model, batch):
        loss, weight, sums = good(model, batch)
        return loss * float("inf" if model.count == 3 else 1), weight, sums

    good = tiny.loss_fn
    monkeypatch.setattr(tiny, "loss_fn", loss_fn)
    one_process(data, tmp_path, steps=5)
    assert [line["skipped"] for line in metrics.read(Store(str(tmp_path)))] == [0, 0, 1, 1, 1]
    assert all(tensor.isfinite().all() for tensor in load(weights(tmp_path)).values())


def test_each_bad_step_is_named_and_an_average_takes_no_part_in_it(data, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "loss_fn", spoilt_at(2, 4, by=float("nan")))
    one_process(data, tmp_path, steps=5)
    found = metrics.read(Store(str(tmp_path)), metrics.BAD_STEPS)
    assert [(line["step"], line["fault"], line["loss"], len(line["sample_ids"])) for line in found] == [
        (2, "not_finite", "nan", 12),
        (4, "not_finite", "nan", 12),
    ]


def spoilt_at(*steps, by):
    """The loss of these steps (from 1) times `by`."""

    def loss_fn(model, batch):
        loss, weight, sums = good(model, batch)
        return loss * (by if int(model.count) in steps else 1.0), weight, sums

    good = tiny.loss_fn
    return loss_fn


def test_spikes_are_counted_across_a_resume_and_stop_training_at_the_limit(data, tmp_path, monkeypatch):
    settings = {"steps": 32, "checkpoint_every": 4, "spike_factor": 10.0, "spike_window": 20}
    monkeypatch.setattr(tiny, "loss_fn", spoilt_at(18, 26, 28, by=100.0))
    one_process(data, tmp_path / "straight", max_spikes=3, **settings)
    tiny.train_until(tiny.config("torch", **settings | {"max_spikes": 3}), 20, data, str(tmp_path / "two"))
    host = one_process(data, tmp_path / "two", max_spikes=3, **settings)
    assert host.start == 20 and weights(tmp_path / "two") == weights(tmp_path / "straight")
    for folder in (tmp_path / "straight", tmp_path / "two"):
        assert [line["step"] for line in metrics.read(Store(str(folder)), metrics.BAD_STEPS)] == [18, 26, 28]
        assert lines_of(folder)[-1]["spikes"] == 3
    with pytest.raises(
        FloatingPointError, match=r"spiked at 3 of the last 20 steps, the last time at step 28 \(sample ids"
    ):
        one_process(data, tmp_path / "stopped", max_spikes=2, **settings)


def test_the_best_checkpoint_is_kept_by_what_was_measured_before_it(data, tmp_path):
    worth = {2: 3.0, 4: 1.0, 6: 2.0, 8: 4.0}

    def evaluate(model):
        return {"nats": worth[next(steps)]}

    for stop in (6, 8):  # a second start knows what the first one's checkpoints were worth
        steps = iter(sorted(worth)) if stop == 6 else iter([8])
        tiny.train(
            tiny.config(
                "torch", steps=stop, eval_every=2, checkpoint_every=1, keep_checkpoints=1, keep_best="eval/nats"
            ),
            data,
            str(tmp_path),
            evaluate=evaluate,
        )
    store = Store(f"{tmp_path}/checkpoints")
    manifests = [open_saved(store, name).manifest for name in committed(store)]
    worth = {manifest.step: manifest.contents.metrics for manifest in manifests}
    assert worth == {
        4: {"eval/nats": 1.0},
        8: {"eval/nats": 4.0},
    }
    # It is what the run exports, once more after a second start, and the run counts as finished.
    exported = Store(str(tmp_path)).sub("model")
    best = open_saved(store, next(name for name in committed(store) if name.startswith("00000004-")))
    from_checkpoint(best, Store(f"{tmp_path}/best"))
    assert exported.read("model.safetensors") == Store(f"{tmp_path}/best").read("model.safetensors")
    manifest = read_manifest(exported, "manifest.json", Exported)
    assert (manifest.step, manifest.run_steps) == (4, 8)
    assert finished(tiny.config("torch", steps=8), Store(str(tmp_path)))


def test_a_metric_that_nobody_measures_is_a_warning_with_those_there_are(data, tmp_path, caplog):
    one_process(data, tmp_path, steps=2, keep_best="psnr")
    warned = "--train.keep-best is psnr"
    assert any(warned in record.message and "accuracy" in record.message for record in caplog.records)


def test_pictures_are_made_at_their_cadence(data, tmp_path):
    def sample(model):
        assert not model.training
        return {"made": np.full((2, 3, 1), 7, np.uint8)}

    tiny.train(tiny.config("torch", sample_every=5), data, str(tmp_path), sample=sample)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
        "00000005-made.png",
        "00000010-made.png",
        "00000012-made.png",
    ]


class Measured(tiny.Record):
    """Keeps the metrics that it was told."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def measured(self, step, values):
        self.lines.append({"step": step} | values)


def test_a_line_of_metrics_says_where_the_time_and_memory_went_and_the_host_is_told(data, tmp_path):
    host = Measured()
    tiny.train(tiny.config("torch", log_every=6), data, str(tmp_path), host=host)
    lines = lines_of(tmp_path)
    assert host.lines == lines and len(lines) == 2
    assert {"forward_s", "backward_s", "optimizer_s", "data_s", "peak_rss_gb", "peak_memory_gb"} <= set(lines[0])
    assert "checkpoint_s" in lines[1] and "mfu" not in lines[1]
    parts = sum(lines[0][f"{name}_s"] for name in ("data", "forward", "backward", "optimizer"))
    assert 0.3 * lines[0]["step_s"] < parts < 1.05 * lines[0]["step_s"] + 1e-3  # the save of step 5 is the rest


def test_a_remote_run_has_the_metrics_of_a_checkpoint_once_that_is_committed(data, monkeypatch):
    seen, store = [], Store("memory://metrics-of-a-checkpoint")
    commit = Checkpoints._commit

    def committing(*args):
        seen.append([line["step"] for line in metrics.read(store) if "loss" in line][-1])
        commit(*args)

    monkeypatch.setattr(Checkpoints, "_commit", staticmethod(committing))
    one_process(data, store.url, checkpoint_every=5, log_every=5)
    assert [step >= due for step, due in zip(seen, (5, 10, 12), strict=True)] == [True, True, True]


def test_a_resume_says_what_it_read(data, tmp_path):
    one_process(data, tmp_path, steps=4)
    one_process(data, tmp_path, steps=6)
    (line,) = lines_of(tmp_path, "resume_read_mb")
    assert line["step"] == 4 and 0 < line["resume_read_mb"] <= line["resume_total_mb"]


def test_operations_are_counted_for_the_networks_that_are_known(tmp_path):
    from pipeline.models.gpt import GPT
    from pipeline.models.networks import flops

    build, loss_fn, batch_of = NETWORKS["gpt"]
    batch = batch_of(torch.Generator().manual_seed(0))
    batch["weights"] = (batch["weights"] > 0.5).float()
    store = tiny.dataset(tmp_path / "data", rows=40)
    network = build()
    assert isinstance(network, GPT)
    train(
        Run(
            config=tiny.config("torch", steps=4, global_batch=8, log_every=2, ema_decay=0.0, peak_tflops=0.001),
            network=NetworkSpec(kind="gpt", model={}),
            store=Store(f"{tmp_path}/run"),
        ),
        model=network,
        loss_fn=loss_fn,
        rows=Rows.committed(store),
        collate=lambda table, draw: batch,
    )
    for line in lines_of(tmp_path / "run"):
        done = flops(network, batch) / line["step_s"]
        assert line["tflops_per_s"] * 1e12 == pytest.approx(done) and line["mfu"] == pytest.approx(done / 1e9)
        assert line["tokens_per_s"] == pytest.approx(batch["weights"].sum().item() / line["step_s"])


def test_samples_without_weight_are_an_error(data, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "batch_of", lambda x, w: {"x": x, "y": x, "w": 0 * w})
    with pytest.raises(ValueError, match="step 1 has no weight"):
        one_process(data, tmp_path)


def test_evaluation_sees_the_average_and_is_logged(data, tmp_path):
    seen = []

    def evaluate(model):
        assert not model.training and not torch.is_grad_enabled()
        seen.append(model.outer.weight.clone())
        return {"norm": float(seen[-1].norm())}

    tiny.train(tiny.config("torch", eval_every=5), data, str(tmp_path), evaluate=evaluate)
    lines = {line["step"]: line["eval/norm"] for line in lines_of(tmp_path, "eval/norm")}
    assert list(lines) == [5, 10, 12]
    assert torch.equal(seen[-1], load(weights(tmp_path))["outer.weight"])  # what is exported is what was judged


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eval_every", -1),
        ("sample_every", -1),
        ("spike_factor", -0.5),
        ("max_spikes", -1),
        ("spike_window", 15),
        ("peak_tflops", -1.0),
        ("peak_tflops", math.nan),
        ("spike_factor", math.nan),
        ("window_blocks", -1),
        ("seed", -1),
        ("seed", 2**63),
        ("ema_decay", 1.0),
        ("ema_decay", math.nan),
        ("micro_batch", -1),
    ],
)
def test_bad_limits_are_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} is {value}; "):
        TrainConfig(**{name: value})


def test_bad_values_are_named():
    for name in ("steps", "global_batch", "log_every", "checkpoint_every", "keep_checkpoints", "max_bad_steps"):
        with pytest.raises(ValueError, match=f"^{name} is 0"):
            TrainConfig(**{name: 0})


def test_a_remote_run_that_diverged_has_its_bad_steps(data, monkeypatch):
    store = Store("memory://diverged")
    monkeypatch.setattr(tiny, "loss_fn", spoilt_at(6, 7, 8, 9, 10, by=float("nan")))
    with pytest.raises(FloatingPointError):
        one_process(data, store.url, max_bad_steps=3, log_every=1)
    assert [line["step"] for line in metrics.read(store, metrics.BAD_STEPS)] == [6, 7, 8]
    assert [line["step"] for line in metrics.read(store) if "loss" in line][-1] >= 5
