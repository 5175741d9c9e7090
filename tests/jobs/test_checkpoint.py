"""Inspect, verify and export on the checkpoints of a small run."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from jobs.checkpoint import Checkpoint, main
from pipeline.storage import Store
from pipeline.train.saved import committed
from tests.train import tiny


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    values = iter([3.0, 1.0, 2.0])
    settings = tiny.config("torch", steps=6, eval_every=2, checkpoint_every=2, keep_best="eval/nats")
    tiny.train(settings, tiny.dataset(folder / "data").url, str(folder), evaluate=lambda model: {"nats": next(values)})
    (folder / "config.json").write_text(json.dumps({"train": {"keep_best": "eval/nats", "keep_best_mode": "min"}}))
    return folder


def test_inspect_has_a_line_for_each_checkpoint(run_dir, capsys):
    main(Checkpoint(do="inspect", run_dir=str(run_dir)))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0][:8] for line in lines[1:4]] == ["00000006", "00000004", "00000002"]
    parameters = str(sum(p.numel() for p in tiny.Net().parameters()))
    assert {"tiny", "1", "torch", parameters, "yes", "eval/nats"} <= set(lines[2].split())
    assert lines[4].startswith("training waited for checkpoints ")


PROGRAM = """
import json, sys
sys.modules |= dict.fromkeys(("ray", "deepspeed", "pipeline", "jobs"))
from safetensors.torch import load_file
for folder in sys.argv[1:]:
    tensors = load_file(folder + "/model.safetensors")
    kind = json.load(open(folder + "/config.json"))["kind"]
    print(kind, sum(t.double().sum().item() for t in tensors.values()))
"""


def test_an_export_overwrites_nothing_but_an_export(run_dir, tmp_path):
    for _ in range(2):
        main(Checkpoint(do="export", run_dir=str(run_dir), out=str(tmp_path / "out")))
    before = (run_dir / "config.json").read_bytes()
    with pytest.raises(ValueError, match="holds other things .*; name an empty folder with --out"):
        main(Checkpoint(do="export", run_dir=str(run_dir), out=str(run_dir)))
    assert (run_dir / "config.json").read_bytes() == before


def test_exports_are_read_where_neither_ray_nor_deepspeed_can_be(run_dir, tmp_path):
    steps = {"newest": 6, "best": 4, "2": 2}
    folders = [tmp_path / which for which in steps]
    for which, folder in zip(steps, folders, strict=True):
        main(Checkpoint(do="export", run_dir=str(run_dir), which=which, out=str(folder)))
        assert json.loads((folder / "manifest.json").read_text())["step"] == steps[which]
    out = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, folders)], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    tensors = [load_file(folder / "model.safetensors") for folder in folders]
    assert out.splitlines() == [f"tiny {sum(t.double().sum().item() for t in each.values())}" for each in tensors]
    trained = load_file(run_dir / "model/model.safetensors")
    same = [all(torch.equal(each[name], trained[name]) for name in trained) for each in tensors]
    assert same == [False, True, False]  # what the run exported is its best


def test_what_cannot_be_exported_is_told(run_dir, tmp_path):
    with pytest.raises(ValueError, match="^out is not given; name the folder"):
        Checkpoint(do="export", run_dir=str(run_dir))
    for which in ("last", "²", "-1"):
        with pytest.raises(ValueError, match=f"^which is '{which}'"):
            Checkpoint(do="export", run_dir=str(run_dir), which=which, out=".")
    with pytest.raises(ValueError, match="keeps no checkpoint of step 3; see inspect"):
        main(Checkpoint(do="export", run_dir=str(run_dir), which="3", out=str(tmp_path)))
    with pytest.raises(ValueError, match="has no checkpoint"):
        main(Checkpoint(do="inspect", run_dir=str(tmp_path)))


def test_verify_reads_every_byte_and_names_what_is_damaged(run_dir, capsys):
    main(Checkpoint(do="verify", run_dir=str(run_dir)))
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["whole"] * 3
    names = committed(Store(str(run_dir)).sub("checkpoints"))
    data = run_dir / "checkpoints" / names[1] / "rank-00000.safetensors"
    data.write_bytes(data.read_bytes()[:-1])
    (run_dir / "checkpoints" / names[2] / "manifest.json").write_text("{}")
    with pytest.raises(SystemExit) as left:
        main(Checkpoint(do="verify", run_dir=str(run_dir)))
    assert left.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:3]] == ["whole", "damaged", "damaged"]
    assert str(data) in lines[3] and "manifest.json" in lines[4]
    main(Checkpoint(do="inspect", run_dir=str(run_dir)))
    assert capsys.readouterr().out.splitlines()[3].count("/manifest.json was altered") == 1
