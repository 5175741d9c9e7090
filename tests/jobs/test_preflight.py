import math

import pytest
import torch

from jobs import preflight
from jobs.preflight import Preflight
from pipeline.models.config import DenoiserConfig
from pipeline.models.denoiser import Denoiser
from pipeline.storage import Store
from pipeline.tokenize.media import IMAGE
from pipeline.tokenize.tokenizer import export_tokenizer
from pipeline.train import metrics
from pipeline.train.saved import committed, open_saved
from tests.tokenize import toy
from tests.train import tiny

TOML = """run_dir = "{folder}/run"
images = "nowhere"
[model]
size = 16
width = 8
[train]
steps = 7200
global_batch = 8
"""


@pytest.fixture
def toml(tmp_path):
    (tmp_path / "dvae.toml").write_text(TOML.format(folder=tmp_path))
    return str(tmp_path / "dvae.toml")


def shown(capsys, **options):
    preflight.main(Preflight(**options))
    return {line[:32].strip(): line[32:].strip() for line in capsys.readouterr().out.splitlines()}


def count(text):
    return int(text.replace(",", ""))


def test_a_plan_says_what_a_run_takes(toml, capsys):
    plan = shown(capsys, config=toml, job="train_dvae", peak_tflops=1e-3, mfu=0.5, workers=4, price_per_hour=3.0)
    assert count(plan["parameters"]) == 65_125
    seconds, work = float(plan["step"].split()[0]), float(plan["step"].split()[2])
    assert seconds == pytest.approx(work / (4 * 0.5e-3), rel=1e-3)
    assert plan["run"].split()[0] == f"{2 * seconds:.4g}" and plan["run"].endswith(
        f"{2 * seconds * 4 * 3:.2f} in price"
    )


def test_a_slow_network_takes_its_time(toml, capsys):
    near = shown(capsys, config=toml, job="train_dvae", peak_tflops=1e-3, workers=2)
    far = shown(capsys, config=toml, job="train_dvae", peak_tflops=1e-3, workers=2, network_gbps=1e-3)
    sent = 1e6 * float(near["sent by a rank"].split()[0])
    assert float(far["step"].split()[0]) - float(near["step"].split()[0]) == pytest.approx(8 * sent / 1e6, rel=1e-2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mfu", 0),
        ("mfu", 1.1),
        ("mfu", math.nan),
        ("peak_tflops", 0),
        ("workers", 0),
        ("price_per_hour", -1),
        ("vocab_size", 0),
        ("gpu_memory_gb", 0),
        ("network_gbps", 0),
    ],
)
def test_bad_values_are_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} is {value}; use "):
        Preflight(config="x.toml", job="train_gpt", **{name: value})


def test_what_does_not_fit_is_refused(toml):
    with pytest.raises(ValueError, match=r"each rank needs 0\.\d+ GB and has 0.1 GB, and no option is enough"):
        preflight.main(Preflight(config=toml, job="train_dvae", peak_tflops=1, gpu_memory_gb=0.1))


def test_a_transformer_can_be_planned_before_its_corpus_is_there(tmp_path, capsys):
    (tmp_path / "gpt.toml").write_text(f'run_dir = "{tmp_path}/run"\ncodes = "nowhere"\nseq_len = 16\n')
    with pytest.raises(ValueError, match="nowhere"):
        preflight.main(Preflight(config=str(tmp_path / "gpt.toml"), job="train_gpt"))
    small, large = (
        count(
            shown(capsys, config=str(tmp_path / "gpt.toml"), job="train_gpt", peak_tflops=1, vocab_size=n)["parameters"]
        )
        for n in (100, 300)
    )
    assert large - small == 200 * 192


def test_a_decoder_is_that_of_its_tokenizer(tmp_path, capsys):
    export_tokenizer(toy.dvae(), Store(str(tmp_path / "tokenizer")), toy.images(4), data={}, medium=IMAGE)
    (tmp_path / "decoder.toml").write_text(
        f'run_dir = "{tmp_path}/run"\nimages = "nowhere"\ntokenizer = "{tmp_path}/tokenizer"\nwidth = 16\n'
    )
    real = Denoiser(DenoiserConfig(code_width=toy.CONFIG.quantizer.width, width=16))
    plan = shown(capsys, config=str(tmp_path / "decoder.toml"), job="train_decoder", peak_tflops=1)
    assert count(plan["parameters"]) == sum(p.numel() for p in real.parameters())


def test_a_measured_step_takes_the_place_of_an_assumed_share(toml, capsys, monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr("pipeline.train.preflight.measure", lambda network, train, world, device: 0.25)
    try:
        plan = shown(capsys, config=toml, job="train_dvae", measure=True)
        assert float(plan["step"].split()[0]) == pytest.approx(0.25, rel=1e-3) and plan["step"].endswith(
            "measured here"
        )
        assert (
            float(shown(capsys, config=toml, job="train_dvae", measure=True, peak_tflops=1e6)["step"].split()[0]) < 0.01
        )
    finally:
        torch.set_num_threads(threads)


def test_a_finished_run_is_set_beside_its_plan(toml, tmp_path, capsys):
    tiny.train(tiny.config("torch", steps=4), tiny.dataset(tmp_path / "data").url, str(tmp_path / "run"))
    plan = shown(capsys, config=toml, job="train_dvae", peak_tflops=1, compare=str(tmp_path / "run"))
    checkpoints = Store(str(tmp_path / "run")).sub("checkpoints")
    files = open_saved(checkpoints, committed(checkpoints)[0]).manifest.files
    found, predicted, error = plan["measured checkpoint_mb"].replace(", predicted", "").replace(":", "").split()
    assert float(found) == pytest.approx(sum(file.size_bytes for file in files) / 1e6, rel=1e-3)
    assert predicted == "0.7815" and float(error.rstrip("%")) == pytest.approx(
        100 * (0.7815 / float(found) - 1), rel=1e-3
    )
    memory = max(line["peak_memory_gb"] for line in metrics.read(Store(str(tmp_path / "run"))) if "step_s" in line)
    assert plan["measured memory_gb"].split(",")[0].strip() == f"{memory:.4g}"
    with pytest.raises(ValueError, match="no metrics.jsonl or no checkpoint"):
        preflight.main(Preflight(config=toml, job="train_dvae", peak_tflops=1, compare=str(tmp_path / "data")))
