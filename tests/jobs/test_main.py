"""What all commands share: help, one clear line for each mistake, status 2, nothing written."""

import os
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.commands import command

ROOT = Path(__file__).parents[2]
JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("*.py") if not path.stem.startswith("_"))


@pytest.mark.parametrize("job", JOBS)
def test_help_lists_the_options(job: str) -> None:
    done = command(f"jobs.{job}", "--help")
    assert done.returncode == 0 and "usage: python -m jobs." in done.stdout and "--" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            ["jobs.train_gpt", "--run-dir", "{tmp}/x", "--codes", "{tmp}/none"],
            ["no tokenized corpus", "jobs.tokenize_corpus"],
        ),
        (["jobs.train_dvae", "--run-dir", "{tmp}/x", "--images", "{tmp}/none"], ["no finished curation run"]),
        (
            ["jobs.train_decoder", "--run-dir", "{tmp}/x", "--images", "{tmp}/none", "--tokenizer", "{tmp}/t"],
            ["no tokenizer package"],
        ),
        (
            ["jobs.tokenize_corpus", "--run-dir", "{tmp}/x", "--images", "{tmp}", "--tokenizer", "{tmp}/t"],
            ["tokenizer package"],
        ),
        (["jobs.generate", "--prompt", "  "], ["--prompt is empty"]),
        (
            ["jobs.generate", "--prompt", "seven", "--tokenizer", "{tmp}/none"],
            ["no tokenizer package", "jobs.train_dvae"],
        ),
        (["jobs.generate", "--prompt", "seven", "--nums", "3"], ["--nums", "did you mean --num?"]),
        (
            ["jobs.curate_images", "--run-dir", "{tmp}/x", "--sources", "rss=http://example.org"],
            ["rss=http://example.org", "list"],
        ),
        (
            ["jobs.curate_images", "--run-dir", "{tmp}/file/x", "--sources", "list=http://example.org"],
            ["cannot write to run_dir"],
        ),
        (["jobs.demo", "--run-dir", "{tmp}/file/x"], ["cannot write to run_dir", "--run-dir"]),
        (["jobs.demo", "--port", "70000", "--run-dir", "{tmp}/d"], ["port", "70000"]),
        (["jobs.status", "--run-dir", "{tmp}"], ["no curation run"]),
        (["jobs._main", "nothing"], ["no command 'nothing'", "train_gpt"]),
        (["jobs._main", "trian_gpt"], ["no command 'trian_gpt'", "did you mean train_gpt?"]),
        (["jobs._main", "--hlep"], ["no command '--hlep'"]),
        (["jobs._main", "a\x1b[2J\u202e\n"], ["no command 'a\\x1b[2J\\u202e\\n'"]),
    ],
)
def test_a_mistake_is_one_line_and_status_2(argv: list[str], words: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = command(*(word.format(tmp=tmp_path) for word in argv))
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
    done = command("diverging", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: loss or gradient was not finite in 3 steps in a row\n")


def test_missing_credentials_are_one_line() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    away = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"}
    done = command("jobs.checkpoint", "inspect", "s3://bucket/run", env=env | away)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "s3://bucket/run" in done.stderr and "credentials" in done.stderr


def triptych(*argv: str, **environment: str) -> subprocess.CompletedProcess:
    """The installed command, without installing it."""
    script = Path(sys.prefix) / "bin" / "triptych"
    return subprocess.run(
        [sys.executable, str(script), *argv],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_usage_tells_what_each_command_does(argv: list[str]) -> None:
    done = command("jobs._main", *argv)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("usage: triptych NAME ")
    said = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[1:])
    assert sorted(said) == JOBS and said["train_gpt"] == "Train the causal transformer on tables of codes."
    assert all(words.strip() for words in said.values())


def test_version_is_that_of_the_package_or_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert command("jobs._main", "--version").stdout == f"triptych {version}\n"
    missing = (
        "import importlib.metadata as m, sys\n"
        "def version(name): raise m.PackageNotFoundError(name)\nm.version = version\n"
        "from jobs import _main\nprint(_main._version())"
    )
    done = subprocess.run([sys.executable, "-c", missing], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout == f"{version}\n", done.stderr


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["trian_gpt"]])
def test_the_overview_imports_neither_torch_nor_ray(argv: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['triptych', *{argv}]\nfrom jobs._main import cli\n"
        "try:\n    cli()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'ray', 'deepspeed'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.endswith("[]\n"), done


@pytest.mark.skipif(not (Path(sys.prefix) / "bin" / "triptych").exists(), reason="the project is not installed")
def test_help_names_the_command_as_it_was_called() -> None:
    assert triptych("status", "--help").stdout.startswith("usage: triptych status ")
    assert triptych("--help").returncode == 0
    done = triptych("status")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and done.stderr.startswith(
        "error: --run-dir is required"
    )


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        ("SystemExit(3)", 3, ""),
        ("SystemExit()", 0, ""),
        ("SystemExit('bad')", 1, "bad\n"),
        ("KeyboardInterrupt()", 130, "stopped by SIGINT; run the same command again to go on\n"),
        ("RuntimeError('ours')", 1, "Traceback"),
        ("ValueError('a' + chr(27) + chr(10) + 'b' + chr(0x202e))", 2, "error: a\\x1b b\\u202e\n"),
        ("MemoryError()", 2, "error: MemoryError\n"),
    ],
)
@pytest.mark.parametrize("imports", ["", "sys.modules['ray'] = sys"], ids=["plain", "ray"])
def test_each_end_has_its_status_and_nothing_is_lost(
    raised: str, status: int, said: str, imports: str, tmp_path: Path
) -> None:
    (tmp_path / "ending.py").write_text(f"""
import atexit, sys, threading, time
from dataclasses import dataclass
from jobs._main import run

@dataclass(frozen=True, kw_only=True)
class Config:
    verbose: bool = False

kept = []

def late():
    time.sleep(0.3)
    print("a thread ended")

def main(config):
    {imports}
    atexit.register(print, "at exit")
    from concurrent.futures import ThreadPoolExecutor
    kept.append(ThreadPoolExecutor(1))
    kept[0].submit(int)  # its thread sleeps until Python shuts down
    threading.Thread(target=late).start()
    print("unflushed")
    raise {raised}

run(Config, main)
""")
    done = subprocess.run(
        [sys.executable, "-m", "ending"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
    )
    assert (done.returncode, done.stdout) == (status, "unflushed\na thread ended\nat exit\n"), done.stderr
    assert done.stderr.startswith(said) and bool(said) == bool(done.stderr)


STARTS_RAY = ("jobs.bench_curation", "--trial", "overhead")  # before anything else


def test_a_ray_address_that_nobody_answers_is_one_line() -> None:
    with socket.socket() as taken:  # bound, and deaf
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", *STARTS_RAY],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | {"RAY_ADDRESS": address},
            timeout=120,
        )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"nothing answers at the Ray address {address}" in done.stderr and "RAY_ADDRESS, or none" in done.stderr


def test_too_little_address_space_for_ray_is_one_line() -> None:
    limited = f"ulimit -v 3000000; exec {sys.executable} -m {' '.join(STARTS_RAY)}"
    done = subprocess.run(["/bin/bash", "-c", limited], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("error: Ray needs 4 GiB") and "ulimit -v unlimited" in done.stderr


def test_an_answer_that_nobody_reads_on_is_no_error() -> None:
    """As in `triptych ... | head -1`; also where the answer is shorter than a buffer."""
    for text, times in (("word", 1), ("x" * 60, 100_000)):
        code = (
            f"import time; time.sleep(0.3); from jobs._main import run\n"
            f"import dataclasses, sys, types\n"
            f"sys.modules['__main__'].__spec__ = types.SimpleNamespace(name='x')\n"
            f"@dataclasses.dataclass\nclass C: pass\n"
            f"run(C, lambda config: [print('{text}') for _ in range({times})])"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
        )
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        assert (process.wait(30), said) == (141, b"")
