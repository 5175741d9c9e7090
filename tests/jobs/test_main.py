"""What all commands share: help, one clear line for each mistake, status 2, nothing written."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("*.py") if not path.stem.startswith("_"))


def run(*argv: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *argv], capture_output=True, text=True, cwd=cwd, timeout=120,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("job", JOBS)
def test_help_lists_the_options(job: str) -> None:
    done = run(f"jobs.{job}", "--help")
    assert done.returncode == 0 and "usage: python -m jobs." in done.stdout and "--" in done.stdout, done.stderr


@pytest.mark.parametrize(("argv", "words"), [
    (["jobs.train_gpt", "--run-dir", "{tmp}/x", "--codes", "{tmp}/none"], ["no tokenized corpus", "jobs.tokenize_corpus"]),
    (["jobs.train_dvae", "--run-dir", "{tmp}/x", "--images", "{tmp}/none"], ["no finished curation run"]),
    (["jobs.train_decoder", "--run-dir", "{tmp}/x", "--images", "{tmp}/none", "--tokenizer", "{tmp}/t"], ["curation run"]),
    (["jobs.tokenize_corpus", "--run-dir", "{tmp}/x", "--images", "{tmp}", "--tokenizer", "{tmp}/t"], ["tokenizer package"]),
    (["jobs.generate", "--prompt", "  "], ["prompt is empty"]),
    (["jobs.generate", "--prompt", "seven", "--tokenizer", "{tmp}/none"], ["no tokenizer package", "jobs.train_dvae"]),
    (["jobs.generate", "--prompt", "seven", "--nums", "3"], ["--nums", "did you mean --num?"]),
    (["jobs.curate_images", "--run-dir", "{tmp}/x", "--sources", "rss=http://example.org"], ["rss=http://example.org", "list"]),
    (["jobs.curate_images", "--run-dir", "{tmp}/file/x", "--sources", "list=http://example.org"], ["cannot write to run_dir"]),
    (["jobs.demo", "--run-dir", "{tmp}/file/x"], ["cannot write to run_dir", "--run-dir"]),
    (["jobs.demo", "--port", "70000", "--run-dir", "{tmp}/d"], ["port", "70000"]),
    (["jobs.status", "--run-dir", "{tmp}"], ["no curation run"]),
    (["jobs._main", "nothing"], ["no job 'nothing'", "train_gpt"]),
])
def test_a_mistake_is_one_line_and_status_2(argv: list[str], words: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(*(word.format(tmp=tmp_path) for word in argv))
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "x").exists()


def test_training_that_diverged_is_one_line(tmp_path: Path) -> None:
    script = tmp_path / "diverging.py"
    script.write_text(f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from dataclasses import dataclass
from jobs._main import run

@dataclass(frozen=True, kw_only=True)
class Config:
    verbose: bool = False

def main(config):
    raise FloatingPointError("loss or gradient was not finite in 3 steps in a row")

run(Config, main)
""")
    done = run("diverging", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: loss or gradient was not finite in 3 steps in a row\n")


def test_missing_credentials_are_one_line() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run([sys.executable, "-m", "jobs.checkpoint", "inspect", "s3://bucket/run"], capture_output=True, text=True,
                          cwd=ROOT, timeout=120, env=env | {"AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "s3://bucket/run" in done.stderr and "credentials" in done.stderr
