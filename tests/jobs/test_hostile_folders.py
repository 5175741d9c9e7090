"""Folders made by somebody who means harm: one line and status 2, in little time and memory, whichever command reads
them.

Each variant starts from a folder that is whole, changes one thing, and seals it again: its digests all match.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from safetensors import torch as safetensors

from jobs.checkpoint import Checkpoint, main
from pipeline import records, storage
from pipeline.config import to_json
from pipeline.generate.load import load_stack
from pipeline.manifest import commit, sealed
from pipeline.storage import CorruptFileError, Store
from pipeline.tokenize import corpus
from pipeline.tokenize.grammar import Grammar
from pipeline.tokenize.media import IMAGE
from pipeline.tokenize.tokenizer import export_tokenizer
from tests import commands
from tests.generate import test_load as networks
from tests.tokenize import toy
from tests.train import tiny

torch.set_num_threads(1)
GRAMMAR = Grammar(text_size=networks.TEXT.vocab_size, image_size=60, max_side=4)
Change = Callable[[Any], Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole")
    root, text = Store(str(path)), networks.TEXT
    tokenizer = export_tokenizer(toy.dvae(), root.sub("tokenizer"), toy.images(4), medium=IMAGE)
    facts = {"tokenizer_sha256": tokenizer.sha256, "text_sha256": text.sha256, "grammar": to_json(GRAMMAR.layout)}
    networks.write(root.sub("gpt/model"), "gpt", networks.gpt(vocab_size=GRAMMAR.vocab_size), **facts)
    networks.write(root.sub("decoder/model"), "denoiser", networks.denoiser(), tokenizer_sha256=tokenizer.sha256)
    table = pa.Table.from_pylist(
        [
            {
                "key": "a",
                "modality": "image",
                "text": "red",
                "codes": [1] * 16,
                "shape": [4, 4],
                "tokenizer_sha256": tokenizer.sha256,
            }
        ],
        schema=records.CODES,
    )
    commit(
        root.sub("codes"),
        "manifest.json",
        corpus.Corpus(
            files=(storage.write_parquet(root.sub("codes"), "codes/a.parquet", table),),
            identity="a",
            tokenizer_sha256=tokenizer.sha256,
            text_sha256=text.sha256,
            grammar=GRAMMAR.layout,
            longest_row_tokens=30,
        ),
    )
    commit(
        root.sub("images"),
        "export/manifest.json",
        [
            storage.write_parquet(
                root.sub("images"), "export/a.parquet", pa.table({"key": ["a"], "image": [b"x"], "caption": ["red"]})
            )
        ],
    )
    for folder in ("gpt", "codes"):
        text.save(root.sub(folder))
    tiny.train(tiny.config("torch", steps=2, checkpoint_every=2), tiny.dataset(path / "data").url, str(path / "run"))
    return path


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def sealed_again(folder: Path, name: str, change: Change) -> None:
    """Change the object in a sealed manifest."""
    value = json.loads((folder / name).read_text())
    (folder / name).write_bytes(sealed(change(value) or value))


def listed_again(folder: Path, manifest: str) -> None:
    """Give the files that a manifest names the sizes and digests that they have now."""
    value = json.loads((folder / manifest).read_text())
    for file in value["files"]:
        data = (folder / file["path"]).read_bytes()
        file |= {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / manifest).write_bytes(json.dumps(value).encode() if manifest == "tokenizer.json" else sealed(value))


def load(folder: Path) -> None:
    load_stack(*(f"{folder}/{name}" for name in ("tokenizer", "gpt", "decoder")))


def set_model(**sizes: object) -> Change:
    return lambda value: value["model"].update(sizes)


def set_quantizer(**values: object) -> Change:
    return lambda value: value["model"]["quantizer"].update(values)


def set_grammar(**sizes: object) -> Change:
    return lambda value: value["facts"]["grammar"].update(sizes)


def test_what_is_whole_loads(whole: Path) -> None:
    load(whole)
    assert corpus.read_corpora([f"{whole}/codes"]).longest_row_tokens == 30


@pytest.mark.parametrize(
    "change",
    [
        lambda value: [1],
        lambda value: {"kind": "gpt"},
        lambda value: value | {"model": []},
        lambda value: value | {"facts": None},
        lambda value: value | {"kind": ["gpt"]},
        lambda value: value["facts"].update(grammar=None),
        set_grammar(text_size="x"),
        set_grammar(text_size=True),
        set_grammar(max_side=10**12),
        set_grammar(image_size=-1),
        lambda value: value["facts"].update(grammar=to_json(Grammar(text_size=10**6, image_size=60).layout)),
        set_model(n_layer=10**9),
        set_model(d_model=10**6),
        set_model(d_model=10**12),
        set_model(vocab_size=10**9),
        set_model(seq_len=10**9),
        set_model(seq_len=-1),
        set_model(n_head=0),
        set_model(n_kv_head=-2),
        set_model(d_model="32"),
        set_model(d_model=32.0),
        set_model(n_layer=True),
        set_model(n_layer=None),
        set_model(n_layer=[2]),
        set_model(rope_base=0.0),
        set_model(rope_base=float("nan")),
        set_model(norm_eps=float("inf")),
        set_model(tie_embedding=1),
        set_model(flavour=1),
    ],
)
def test_a_config_of_a_hostile_transformer(folder: Path, change: Change) -> None:
    path = folder / "gpt/model/config.json"
    value = json.loads(path.read_text())
    changed = change(value)
    path.write_text(json.dumps(value if changed is None else changed))
    listed_again(folder / "gpt/model", "manifest.json")
    with pytest.raises(ValueError, match=r"gpt|vocabulary"):
        load(folder)


@pytest.mark.parametrize(
    "change",
    [
        set_model(blocks=10**8),
        set_model(width=10**6),
        set_model(multipliers=[1] * 10**5),
        set_model(code_width=10**9),
        set_model(code_width=0),
        set_model(code_width="a"),
        set_model(dims=1),
        set_model(groups=0),
        set_model(channels=-1),
    ],
)
def test_a_config_of_a_hostile_decoder(folder: Path, change: Change) -> None:
    path = folder / "decoder/model/config.json"
    change(value := json.loads(path.read_text()))
    path.write_text(json.dumps(value))
    listed_again(folder / "decoder/model", "manifest.json")
    with pytest.raises(ValueError, match="decoder"):
        load(folder)


def set_file(**values: object) -> Change:
    return lambda value: value["files"][0].update(values)


@pytest.mark.parametrize(
    "change",
    [
        set_file(path="../../decoder/model/model.safetensors"),
        set_file(path="/etc/passwd"),
        set_file(path=["x"]),
        set_file(path=3),
        set_file(size_bytes=10 * 2**40),
        set_file(size_bytes="1"),
        set_file(size_bytes=-1),
        set_file(size_bytes=float("nan")),
        set_file(sha256=5),
        lambda value: value.update(files=None),
        lambda value: value.update(files=[]),
        lambda value: value.update(files=["x"]),
        lambda value: value.update(files={"a": 1}),
    ],
)
def test_a_hostile_manifest(folder: Path, change: Change) -> None:
    sealed_again(folder / "gpt/model", "manifest.json", change)
    with pytest.raises(CorruptFileError, match=r"gpt/model/"):
        load(folder)


@pytest.mark.parametrize(
    "change",
    [
        set_model(size=10**9),
        set_model(size=8),
        set_model(size="16"),
        set_model(dims=1),
        set_model(dims=3),
        set_model(blocks=10**8),
        set_model(multipliers=[1] * 30),
        set_quantizer(levels=[10**9] * 3),
        set_quantizer(levels=[300, 300, 300]),
        set_quantizer(levels=[5, 4]),
        set_quantizer(levels=7),
        set_quantizer(levels=[]),
        set_quantizer(kind="vq"),
        set_model(quantizer=None),
        lambda value: value.update(modality="audio"),
        set_model(channels=10**6),
        set_model(width=float("nan")),
        set_file(path="../gpt/model/model.safetensors"),
        set_file(size_bytes="1"),
        lambda value: value.update(model=[1]),
        lambda value: value["files"].pop(),
    ],
)
def test_a_hostile_description_of_a_tokenizer(folder: Path, change: Change) -> None:
    path = folder / "tokenizer/tokenizer.json"
    change(value := json.loads(path.read_text()))
    path.write_text(json.dumps(value))
    with pytest.raises(CorruptFileError, match="tokenizer/"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda golden: golden.pop("codes"), "does not hold 1 to 16 images"),
        (lambda golden: golden.update(codes=golden["codes"].float()), "does not hold"),
        (lambda golden: golden.update(codes=golden["codes"][:, 0, 0].clone()), "does not hold"),
        (lambda golden: golden.update(samples=torch.zeros(4)), "does not hold"),
        (lambda golden: golden.update(samples=torch.zeros(4, 1, 7, 7)), "does not hold"),
        (lambda golden: golden.update({k: v[:0].clone() for k, v in golden.items()}), "does not hold"),
        (
            lambda golden: golden.update({k: v.repeat(5, *[1] * (v.ndim - 1)) for k, v in golden.items()}),
            "does not hold",
        ),
        (lambda golden: golden.update(samples=golden["samples"] * torch.nan), "images that are not finite"),
        (lambda golden: golden.update(codes=golden["codes"] + 1), "gives other codes here"),
    ],
)
def test_hostile_golden_pictures(folder: Path, change: Change, said: str) -> None:
    path = folder / "tokenizer/golden.safetensors"
    change(golden := safetensors.load(path.read_bytes()))
    path.write_bytes(safetensors.save(golden))
    listed_again(folder / "tokenizer", "tokenizer.json")
    with pytest.raises(ValueError, match=said):
        load(folder)


@pytest.mark.parametrize("key", ["tokenizer_sha256", "text_sha256", "grammar", "longest_row_tokens"])
@pytest.mark.parametrize("value", [None, [], -5, 10**30, "x"])
def test_a_hostile_manifest_of_a_corpus(folder: Path, key: str, value: object) -> None:
    if key == "tokenizer_sha256" and value == "x":
        value = {}
    sealed_again(folder / "codes", "manifest.json", lambda facts: facts.update({key: value}))
    if key == "longest_row_tokens" and isinstance(value, int):
        assert getattr(corpus.read_corpora([f"{folder}/codes"]), key) == value  # a number that `check_rows` judges
        return
    with pytest.raises(ValueError, match=f"{folder}/codes/(manifest|text)"):
        corpus.read_corpora([f"{folder}/codes"])


ENTRIES = ("world_size", "contents", "step", "format", "pieces", "chunks")
CONTENTS = ("updates", "chain", "digest", "averaged", "engine", "shapes", "network")
OPTIONAL = ("aliases", "metrics", "health")


@pytest.mark.parametrize(
    "change",
    [
        *(lambda facts, key=key: facts.pop(key) and None for key in ENTRIES),
        *(lambda facts, key=key: facts.update({key: [[1]]}) for key in ENTRIES),
        *(lambda facts, key=key: facts["contents"].pop(key) and None for key in CONTENTS),
        *(lambda facts, key=key: facts["contents"].update({key: [[1]]}) for key in (*CONTENTS, *OPTIONAL)),
        lambda facts: facts["contents"]["shapes"].update(gain=[10**12]),
        lambda facts: facts["contents"]["shapes"].update(gain=[-1, -1]),
        lambda facts: facts["contents"]["shapes"].update(gain=["1"]),
        lambda facts: facts["contents"]["shapes"].update(new=[10**10]),
        lambda facts: facts["contents"]["shapes"].update(gain=[2**40, 2**40]),
        lambda facts: facts["contents"]["shapes"].update(gain=[1] * 100),
        lambda facts: facts["contents"].update(aliases={"x": "nothing"}),
        lambda facts: facts["contents"].update(aliases={"x": 3}),
        lambda facts: facts["contents"].update(aliases={f"x{i}": "embed.weight" for i in range(10**4)}),
        lambda facts: facts["contents"].update(metrics={"loss": 10**400}),
        lambda facts: facts["contents"].update(metrics={"\x1b[2J": 1.0}),
        lambda facts: facts["contents"]["network"].update(kind="\x1b[2J"),
        lambda facts: facts["contents"]["chain"].update(more=1),
        lambda facts: facts["pieces"]["master"].update(gain=[n for i in range(1000) for n in (1, i, i + 1000, 400)]),
        lambda facts: facts["pieces"]["master"].update(gain=[1, 0.0, 1.0, 400.0]),
        lambda facts: facts["files"][0].update(size_bytes=10 * 2**40),
        lambda facts: facts["files"][1].update(size_bytes=2**50),
        lambda facts: facts["files"][1].update(path="../../x"),
        lambda facts: facts["files"][1].update(path=5),
        lambda facts: facts.update(files=[]),
        lambda facts: facts["chunks"].__setitem__(1, None),
    ],
)
def test_a_hostile_checkpoint(folder: Path, change: Change, capsys: pytest.CaptureFixture[str]) -> None:
    saved = next((folder / "run/checkpoints").iterdir())
    sealed_again(saved, "manifest.json", change)
    with pytest.raises(CorruptFileError, match=saved.name):
        main(Checkpoint(do="export", run_dir=f"{folder}/run", out=f"{folder}/out", averaged=False))
    assert not (folder / "out").exists()
    main(Checkpoint(do="inspect", run_dir=f"{folder}/run"))
    assert "\x1b" not in capsys.readouterr().out


def sparse(path: Path) -> None:
    os.truncate(path, 20 << 30)


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def padded(path: Path) -> None:
    """The library would allocate this for each text, and abort."""
    value = json.loads(path.read_text())
    padding = {
        "strategy": {"Fixed": 10**12},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "x",
    }
    path.write_text(json.dumps(value | {"padding": padding}))


GENERATE = (
    "generate",
    "--prompt",
    "red",
    "--out",
    "{0}/out/o.png",
    "--tokenizer",
    "{0}/tokenizer",
    "--gpt",
    "{0}/gpt",
    "--decoder",
    "{0}/decoder",
)
EVALUATE = ("evaluate", "--run-dir", "{0}/out", *GENERATE[5:])
TRAIN_GPT = ("train_gpt", "--run-dir", "{0}/out", "--codes", "{0}/codes")
TRAIN_DECODER = ("train_decoder", "--run-dir", "{0}/out", "--images", "{0}/images", "--tokenizer", "{0}/tokenizer")
TOKENIZE = ("tokenize_corpus", *TRAIN_DECODER[1:])
PREFLIGHT = ("preflight", "{0}/gpt.toml", "--job", "train_gpt")
EXPORT = ("checkpoint", "export", "{0}/run", "--out", "{0}/out")


@pytest.mark.parametrize(
    ("command", "name", "spoil"),
    [
        (GENERATE, "decoder/model/manifest.json", sparse),
        (EVALUATE, "gpt/text.json", piped),
        (TRAIN_GPT, "codes/text.json", padded),
        (TRAIN_DECODER, "tokenizer/weights.safetensors", endless),
        (TOKENIZE, "tokenizer/tokenizer.json", sparse),
        (PREFLIGHT, "codes/manifest.json", endless),
        (EXPORT, "run/checkpoints/*/statics.safetensors", piped),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else getattr(value, "__name__", value),
)
def test_a_command_ends_in_one_line(
    folder: Path, command: tuple[str, ...], name: str, spoil: Callable[[Path], None]
) -> None:
    (folder / "gpt.toml").write_text(f'run_dir = "{folder}/out"\ncodes = ["{folder}/codes"]\n')
    for path in folder.glob(name):
        spoil(path)
    done = commands.command(
        *(word.format(folder) for word in (f"jobs.{command[0]}", *command[1:])),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        address_space=6 << 30,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and str(folder) in done.stderr
