"""Configs: precedence, round trips, and one clear line for each mistake."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from pipeline import config


@dataclass(frozen=True, kw_only=True)
class Optim:
    lr: float = 1e-3
    """Peak learning rate."""
    kind: Literal["adamw", "sgd"] = "adamw"

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr must be positive, not {self.lr}")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job."""

    run_dir: str
    languages: tuple[str, ...] = ("en",)
    limit: int | None = None
    verbose: bool = False
    note: str | None = None
    shares: tuple[float, ...] = ()
    deadline_s: float = float("inf")
    optim: Optim = field(default_factory=Optim)


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text('run_dir = "a"\nlanguages = ["no", "de"]\n[optim]\nlr = 0.5\nkind = "sgd"\n')
    got = config.load(Job, [str(file), "--optim.lr", "0.25"])
    assert got == Job(run_dir="a", languages=("no", "de"), optim=Optim(lr=0.25, kind="sgd"))


def test_a_saved_config_loads_to_an_equal_one(tmp_path: Path) -> None:
    job = Job(run_dir="s3://bucket/x", languages=("en", "fr"), verbose=True, optim=Optim(lr=0.1))
    (tmp_path / "config.json").write_bytes(config.dumps(job))
    assert config.load(Job, [str(tmp_path / "config.json")]) == job


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--run-dir", "a", "--optim.lrr", "1"], ["--optim.lrr", "did you mean --optim.lr"]),
        (["--run_dir", "a", "--optim.lr", "fast"], ["lr", "fast"]),
        (["--run_dir", "a", "--optim.lr", "-1"], ["lr must be positive", "-1"]),
        (["--run_dir", "a", "--optim.kind", "adam"], ["kind", "adam", "sgd"]),
        (["--run-dir", "a", "--optim.lr", "nan"], ["--optim.lr is nan; use a finite number"]),
        (["--run-dir", "a", "--optim.lr", "1e999"], ["--optim.lr is inf"]),
        (["--run-dir", "a", "--shares", "1", "-inf"], ["--shares is -inf"]),
        (["--run-dir", "a", "--deadline-s", "nan"], ["--deadline-s is nan"]),
        (["--run-dir", "a", "--note", ""], ["--note is empty; give it a value, or leave it out"]),
        ([], ["--run-dir", "required"]),
        (["missing.toml"], ["missing.toml", "cannot read"]),
        (["run.yaml"], ["run.yaml", "*.toml"]),
    ],
)
def test_each_mistake_is_one_line_and_status_2(
    argv: list[str], words: list[str], capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as leave:
        config.load(Job, argv)
    err = capsys.readouterr().err
    assert leave.value.code == 2
    assert err.startswith("error: ") and err.count("\n") == 1
    for word in words:
        assert word in err


def test_a_number_of_a_file_is_finite_too_unless_infinity_is_its_default(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "job.toml"
    file.write_text('run_dir = "a"\ndeadline_s = inf\n')
    assert config.load(Job, [str(file)]).deadline_s == float("inf")
    file.write_text('run_dir = "a"\n[optim]\nlr = nan\n')
    with pytest.raises(SystemExit):
        config.load(Job, [str(file)])
    assert capsys.readouterr().err == "error: --optim.lr is nan; use a finite number\n"


def test_an_unknown_key_in_the_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "job.toml"
    file.write_text('run_dir = "a"\n[optim]\nlearning_rate = 0.5\n')
    with pytest.raises(SystemExit):
        config.load(Job, [str(file)])
    assert "no option --optim.learning_rate" in capsys.readouterr().err


def test_switches_need_no_value() -> None:
    assert config.load(Job, ["--run_dir", "a", "--verbose"]).verbose
    assert not config.load(Job, ["--run-dir", "a", "--verbose", "--no-verbose"]).verbose


def test_help_lists_options_with_defaults(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as leave:
        config.load(Job, ["--help"])
    out = capsys.readouterr().out
    assert leave.value.code == 0 and "--optim.lr" in out and "0.001" in out and "Peak learning rate" in out


def test_difference_names_what_changed() -> None:
    old, new = {"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"x": 1, "y": 5}, "c": 4}
    assert config.difference(old, new) == ["a.y: 2 -> 5", "b: 3 -> None", "c: None -> 4"]


def test_digest_ignores_key_order() -> None:
    assert config.digest({"a": 1, "b": 2}) == config.digest(json.loads('{"b": 2, "a": 1}'))


@dataclass(frozen=True, kw_only=True)
class Fetch:
    contact: str = "triptych (+https://h.example/bot?key=hunter)"


@dataclass(frozen=True, kw_only=True)
class Crawl:
    """A job with sources."""

    run_dir: str
    sources: tuple[str, ...]
    fetch: Fetch = field(default_factory=Fetch)


def test_a_saved_config_holds_no_secret_and_loads_again(tmp_path: Path) -> None:
    job = Crawl(
        run_dir="s3://AKIA:hunter@bucket/run",
        sources=(
            "list=https://h/l.jsonl?sig=SECRETSECRET12345",
            "page=https://me:hunter@h/p?id=7",
            "list=https://h/a b?token=hunter 2",
        ),
    )
    saved = config.dumps(job)
    assert b"SECRET" not in saved and b"hunter" not in saved and b"AKIA" not in saved
    file = tmp_path / "config.json"
    file.write_bytes(saved)
    loaded = config.load(Crawl, [str(file)])
    assert loaded.run_dir == "s3://bucket/run"
    assert loaded.sources == (
        "list=https://h/l.jsonl?sig=REDACTED",
        "page=https://h/p?id=7",
        "list=https://h/a b?token=REDACTED",
    )
    assert config.dumps(loaded) == saved


def test_a_run_from_its_saved_config_has_the_same_plan(tmp_path: Path) -> None:
    from jobs import curate_images, curate_speech

    kinds = ((curate_images, curate_images.CurateImages, "list"), (curate_speech, curate_speech.CurateSpeech, "feed"))
    for module, schema, kind in kinds:
        job = schema(run_dir="a", sources=(f"{kind}=https://h/l?id=7&sig=SECRETSECRET12345#x", f"{kind}=https://h/m"))
        (tmp_path / "config.json").write_bytes(config.dumps(job))
        saved = config.load(schema, [str(tmp_path / "config.json")])
        plan, again = (module.curation(one).fingerprint("") for one in (job, saved))
        assert plan == again and plan.sources == (f"{kind}=https://h/l?id=7&sig=REDACTED", f"{kind}=https://h/m")


@dataclass(frozen=True, kw_only=True)
class Leaf:
    name: str
    size_bytes: int
    share: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Tree:
    leaves: tuple[Leaf, ...]
    mode: Literal["a", "b"] = "a"
    counts: dict[str, int] = field(default_factory=dict)
    parent: str | None
    box: tuple[int, str] = (1, "x")


def test_a_dataclass_survives_its_json() -> None:
    tree = Tree(leaves=(Leaf(name="é", size_bytes=3, share=1.0),), mode="b", counts={"x": 2}, parent=None, box=(2, "y"))
    value = json.loads(json.dumps(config.to_json(tree)))
    assert value == {
        "leaves": [{"name": "é", "size_bytes": 3, "share": 1.0}],
        "mode": "b",
        "counts": {"x": 2},
        "box": [2, "y"],
    }
    assert config.from_json(Tree, value) == tree
    assert config.from_json(Tree, value | {"parent": "p", "leaves": []}).parent == "p"
    whole = config.from_json(Leaf, {"name": "a", "size_bytes": 1, "share": 1})
    assert type(whole.share) is float


@dataclass(frozen=True, kw_only=True)
class Book:
    in_: int
    tar: str | None = field(metadata=config.NULL)


def test_a_key_may_be_a_word_of_python_and_a_null_may_be_written() -> None:
    book = Book(in_=3, tar=None)
    assert config.to_json(book) == {"in": 3, "tar": None}
    assert config.from_json(Book, {"in": 3, "tar": None}) == config.from_json(Book, {"in": 3}) == book
    with pytest.raises(ValueError, match="in_ is not known"):
        config.from_json(Book, {"in_": 3})
    with pytest.raises(ValueError, match="in is missing"):
        config.from_json(Book, {"tar": "x"})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "it is a list, not an object"),
        ({"leaves": []} | {"moed": "a"}, "moed is not known"),
        ({"mode": "a"}, "leaves is missing"),
        ({"leaves": {}}, "leaves is {}, not of the type"),
        ({"leaves": [{"name": "a", "size_bytes": True}]}, "leaves[0].size_bytes is true, not of the type int"),
        ({"leaves": [{"name": "a", "size_bytes": 1.0}]}, "leaves[0].size_bytes is 1.0, not of the type int"),
        ({"leaves": [{"name": "a", "size_bytes": 1, "share": "x"}]}, 'leaves[0].share is "x", not of the type float'),
        ({"leaves": [{"name": "a", "size_bytes": 1, "share": 10**400}]}, "leaves[0].share is 1000"),
        ({"leaves": [], "mode": "c"}, 'mode is "c", not of the type'),
        ({"leaves": [], "mode": []}, "mode is [], not of the type"),
        ({"leaves": [], "counts": {"x": None}}, "counts['x'] is null, not of the type int"),
        ({"leaves": [], "parent": 7}, "parent is 7, not of the type str"),
        ({"leaves": [], "box": [1]}, "box is [1], not of the type"),
        ({"leaves": [], "parent": ["x" * 999]}, "x…"),
    ],
)
def test_json_of_another_shape_is_named(value: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        config.from_json(Tree, value)
    assert message in str(caught.value) and len(str(caught.value)) < 200
