import json
import subprocess
import sys

import pytest

from jobs import bench
from jobs._trials import TRIALS

ALONE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        absent = {"ray", "deepspeed", "fsspec", "pyarrow", "tyro", "safetensors", "rich", "s3fs", "tensorboard"}
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name}", name=name)

sys.meta_path.insert(0, Missing())
from jobs import bench
bench.main(sys.argv[1:])
"""
TRAIN_STEP = [
    *"train_step --models tiny decoder_tiny --batch 1 --seq-len 8".split(),
    *"--vocab-size 32 --warmup 1 --steps 1 --rounds 1".split(),
]


def test_train_step_needs_torch_and_numpy_alone(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *TRAIN_STEP, "--out", str(tmp_path / "out.md")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    machine, peak, *lines = map(json.loads, done.stdout.splitlines())
    assert {"date", "cpus", "gpu", "python", "torch"} <= machine.keys() and peak["matmul_tflops"] > 0
    assert [line["model"] for line in lines] == ["tiny", "decoder_tiny"]
    written = (tmp_path / "out.md").read_text()
    assert " ".join(TRAIN_STEP) in written and f"| tiny | plain | {lines[0]['parameters']} |" in written


def test_bad_options_are_one_line_and_status_2(capsys, tmp_path):
    (tmp_path / "file").touch()
    for out in (f"{tmp_path}/file/x.json", f"{tmp_path}/file/deeper/x.json"):
        with pytest.raises(ValueError, match=f"--out {out} .* no folder of it may be a file"):
            bench.main(["train_step", "--out", out])
    with pytest.raises(ValueError, match="--out x.txt must end in .json or .md"):
        bench.main(["train_step", "--out", "x.txt"])
    with pytest.raises(ValueError, match="no model 'x'"):
        bench.main(["train_step", "--models", "x"])
    with pytest.raises(SystemExit, match="2"):
        bench.main(["tea"])
    assert "no trial 'tea'; use one of train_step, ddp, loader" in capsys.readouterr().err


@pytest.mark.parametrize("trial", ["train_step", *TRIALS])
def test_every_trial_has_options(trial, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", bench.__spec__)
    with pytest.raises(SystemExit, match="0"):
        bench.main([trial, "--help"])
    assert "--out" in capsys.readouterr().out
    bench.main(["--help"])
    assert f"jobs.bench {trial} " in capsys.readouterr().out


def test_the_older_name_of_a_curation_s_trials(tmp_path):
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "jobs.bench_curation", "--sizes", "50", "--trial", "resume", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    written = json.loads(out.read_text())
    assert written["command"] == f"python -m jobs.bench resume --sizes 50 --out {out}"
    assert [line["inputs"] for line in written["lines"]] == [50]
