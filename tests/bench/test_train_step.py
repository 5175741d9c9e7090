import pytest
import torch

from pipeline.bench import train_step
from pipeline.bench.train_step import TrainStep, measure
from pipeline.models.denoiser import denoiser_flops

SMALL = {"batch": 2, "seq_len": 16, "vocab_size": 64, "precision": "fp32", "warmup": 1, "steps": 1, "rounds": 3}


def test_a_line_for_each_model_and_variant():
    peak, *lines = measure(TrainStep(models=("tiny", "decoder_tiny"), variants=("plain", "checkpointing"), **SMALL))
    assert [(line["model"], line["variant"]) for line in lines] == [
        ("tiny", "plain"),
        ("tiny", "checkpointing"),
        ("decoder_tiny", "plain"),
        ("decoder_tiny", "checkpointing"),
    ]
    tiny, decoder = lines[0], lines[2]
    assert tiny["batch"] == [2, 16] and decoder["batch"] == [2, 1, 32, 32]
    assert tiny["tokens_per_s"] == pytest.approx(32 / tiny["ms_per_step"] * 1e3, rel=0.01)
    assert decoder["images_per_s"] == pytest.approx(2 / decoder["ms_per_step"] * 1e3, rel=0.01)
    work = 3 * denoiser_flops(train_step.DECODERS["decoder_tiny"][0], {"x": torch.empty(2, 1, 32, 32)}) / 1e12
    assert decoder["mfu"] == pytest.approx(work / decoder["ms_per_step"] * 1e3 / peak["matmul_tflops"], rel=0.01)


def test_a_slow_machine_has_a_rate_above_0(monkeypatch):
    monkeypatch.setattr(train_step, "_timed", lambda config, step: [3600.0])
    _, *lines = measure(TrainStep(**SMALL))
    assert lines[0]["tokens_per_s"] == pytest.approx(32 / 3600, rel=0.001)
    assert lines[1]["images_per_s"] == pytest.approx(2 / 3600, rel=0.001)
    assert all(line["mfu"] > 0 and line["tflops"] > 0 for line in lines)


def test_a_model_too_large_for_the_memory_is_a_line_and_not_the_end(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(train_step, "_network", full)
    assert [line.get("error") for line in measure(TrainStep(**SMALL))] == [None, *["out of memory; lower --batch"] * 2]


def test_what_cannot_be_measured_is_refused():
    for name in ("batch", "seq_len", "vocab_size"):
        with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is 0; use 1 or more"):
            TrainStep(**{name: 0})
    with pytest.raises(ValueError, match="no model 'huge'; --models takes tiny"):
        TrainStep(models=("huge",))
    with pytest.raises(ValueError, match="no variant 'fast'; --variants takes plain"):
        TrainStep(variants=("fast",))
    with pytest.raises(ValueError, match="--steps 0"):
        TrainStep(steps=0)
