"""Options of all jobs: each mistake is one line that names the option, the value and what to use; each option has its
help; and both come before anything heavy is imported."""

import re
import shlex
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from tyro import _docstrings

from pipeline import config
from tests.jobs.schemas import JOBS, ROOT, SCHEMAS, fields

REQUIRED = {
    "GPT": "--run-dir r --codes c",
    "DVAE": "--run-dir r --images i",
    "DECODER": "--run-dir r --images i --tokenizer t",
    "IMAGES": "--run-dir r --sources list=http://a",
    "SPEECH": "--run-dir r --sources feed=http://a",
}

MISTAKES = (ROOT / "tests/jobs/mistakes.txt").read_text("utf-8").splitlines()
"""A command line, then the one line that it is answered with; {GPT} and the like stand for what a job requires."""


@pytest.mark.parametrize(("line", "message"), list(zip(MISTAKES[::2], MISTAKES[1::2], strict=True)))
def test_a_wrong_option_is_named_with_its_value_and_a_remedy(
    line: str, message: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    job, *argv = shlex.split(line.format(**REQUIRED))
    with pytest.raises(SystemExit) as leave:
        config.load(SCHEMAS[job], argv)
    assert (leave.value.code, capsys.readouterr().err) == (2, f"error: {message.strip()}\n")


TABLES = [
    ("train_gpt", "[train.schedule]\nwarmup_steps = -1", "--train.schedule.warmup-steps is -1; use 0 or more"),
    ("train_gpt", "[train.schedule]\nwarmup = 1", "no option --train.schedule.warmup; did you mean"),
    ("train_gpt", '[train]\nsteps = "ten"', "--train.steps is ten; use one whole number"),
    ("train_gpt", "train = 5", "no option --train; it is a section"),
    ("train_gpt", "[size]\nx = 1", "--size is no section of options"),
    ("train_gpt", 'verbose = "yes"', "--verbose is yes; use --verbose without a value"),
    ("curate_images", "[fetch]\ntimeout_s = -1", "--fetch.timeout-s is -1.0; use more than 0"),
    ("curate_images", "[guard]\ntimeout_s = 0", "--guard.timeout-s is 0.0; use more than 0"),
]


@pytest.mark.parametrize(("job", "table", "message"), TABLES)
def test_so_is_one_of_a_config_file(
    job: str, table: str, message: str, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    required = 'codes = ["c"]' if job == "train_gpt" else 'sources = ["list=http://a"]'
    (tmp_path / "job.toml").write_text(f'run_dir = "r"\n{required}\n{table}\n')
    with pytest.raises(SystemExit):
        config.load(SCHEMAS[job], [str(tmp_path / "job.toml")])
    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}") and said.count("\n") == 1


def test_a_long_value_is_cut_and_a_secret_is_not_shown(capsys: pytest.CaptureFixture) -> None:
    for value in ("x" * 5000, "s3://AKIA:hunter2@bucket/run"):
        with pytest.raises(SystemExit):
            config.load(SCHEMAS["status"], ["--run-dir", value, "again"])
        said = capsys.readouterr().err
        assert "--run-dir is " in said and len(said) < 200 and "hunter2" not in said


UNITS = re.compile(
    r"\b(second|byte|MiB|GB|CPU|pixel|Hz|decibel|bit|share|probability|step|row|sample|token|channel|time|character|word|"
    r"mark|level|layer|head|number|axe|input|size|height|block|attempt|hop|request|group|rank|worker|image|weight|"
    r"operation|deviation|price|port|spike|point|norm|value|id|from 0)e?s?\b",
    re.IGNORECASE,
)
"""What a number may count, or be measured in."""


def without_help(schema: type) -> list[str]:
    """The options of a config that have no help line, or hold a number and name no unit."""
    faults = []
    for option, kind, name, hint in fields(schema):
        help_line = _docstrings.get_field_docstring(kind, name, ())
        is_number = {int, float} & {hint, *typing.get_args(hint)}
        if not help_line or (is_number and not UNITS.search(help_line)):
            faults.append(f"{option} ({kind.__module__}.{kind.__name__}): {help_line}")
    return faults


@pytest.mark.parametrize("job", SCHEMAS)
def test_every_option_has_a_help_line_and_every_number_a_unit(job: str) -> None:
    assert without_help(SCHEMAS[job]) == []


def test_so_has_every_option_of_a_trial_of_the_bench() -> None:
    from jobs import _trials
    from pipeline.bench.report import Bench

    trials = Bench.__subclasses__()
    assert len(trials) >= len(_trials.TRIALS)
    assert [fault for schema in trials for fault in without_help(schema)] == []


HEAVY = ("torch", "ray", "deepspeed", "av", "yt_dlp")
LOOKS = ("status", "diff", "rows", "explain", "audit", "revoke", "checkpoint")
"""Jobs that look into a run, whose start is waited for often."""

LOAD = """
import contextlib, importlib, io, sys
from pipeline import config
for job, schema in (word.split(":") for word in sys.argv[2:]):
    kind = getattr(importlib.import_module(f"jobs.{job}"), schema)
    for argv in (["--stesp", "1"], ["--help"]):
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
            config.load(kind, argv)
    print(job, *sorted(set(sys.argv[1].split(",")) & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("jobs", "heavy"), [(tuple(SCHEMAS), HEAVY), (LOOKS, (*HEAVY, "aiohttp"))], ids=["every", "looks"]
)
def test_options_are_read_before_anything_heavy_is_imported(jobs: tuple[str, ...], heavy: tuple[str, ...]) -> None:
    named = [f"{job}:{SCHEMAS[job].__name__}" for job in jobs]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, ",".join(heavy), *named], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.stdout.split("\n") == [*jobs, ""], done.stdout + done.stderr
    assert done.stderr.count("error: no option --stesp") == len(jobs)


LOAD_TRIALS = """
import contextlib, io, sys
from jobs import bench
from jobs._trials import TRIALS
sys.modules["__main__"].__spec__ = bench.__spec__
heavy = set(sys.argv[1].split(","))
for trial in ["train_step", *TRIALS]:
    for options in (["--stesp", "1"], ["--help"]):
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
            bench.main([trial, *options])
    print(trial, *sorted(heavy & set(sys.modules)))
"""


def test_so_are_those_of_a_trial_of_the_bench() -> None:
    from jobs._trials import TRIALS

    done = subprocess.run(
        [sys.executable, "-c", LOAD_TRIALS, ",".join(HEAVY)], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.stdout.split("\n") == ["train_step", *TRIALS, ""], done.stdout + done.stderr
    assert done.stderr.count("--stesp") == 1 + len(TRIALS)


def test_every_job_but_those_that_say_so_reads_its_options_here() -> None:
    assert set(JOBS) - set(SCHEMAS) <= {"bench", "bench_curation"}  # one command: each trial has options of its own
