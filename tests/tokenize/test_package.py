import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import torch as safetensors

from pipeline.storage import CorruptFileError, Store
from pipeline.tokenize import package
from tests.tokenize import toy

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    package.export(toy.dvae(), Store(str(path)), toy.images(40), data_facts={"manifest": "abc"})
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_codes_and_pictures_are_those_of_the_model(folder: Path) -> None:
    tokenizer, model, x = package.load(Store(str(folder))), toy.dvae(), toy.images(50, seed=1)
    with torch.no_grad():
        expected = torch.cat([model.encode(part) for part in x.split(1)])
        assert len(expected.unique()) > 30  # a constant would prove nothing
        assert (tokenizer.encode(x) == expected).float().mean() > 0.999  # another batch size may round another way
        pictures = model.decode(expected).clamp(-1, 1)
    torch.testing.assert_close(tokenizer.decode(expected), pictures, rtol=1e-5, atol=1e-5)
    assert tokenizer.code_shape == (4, 4) and tokenizer.codebook_size == 60
    assert not any(p.requires_grad for p in tokenizer.model.parameters())


@pytest.mark.parametrize("size", [1, 7, 32, 64])
def test_codes_do_not_depend_on_the_batch_nor_on_autocast(folder: Path, size: int) -> None:
    tokenizer, x = package.load(Store(str(folder))), toy.images(64, seed=2)
    together = tokenizer.encode(x)
    assert torch.equal(torch.cat([tokenizer.encode(part) for part in x.split(size)]), together)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(tokenizer.encode(x[order]), together[order])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tokenizer.encode(x), together)


def test_the_encoder_always_sees_batches_of_one_size(folder: Path) -> None:
    tokenizer, seen = package.load(Store(str(folder))), []
    tokenizer.model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    for rows in (1, 31, 32, 33, 64):
        assert len(tokenizer.encode(toy.images(rows))) == rows
    assert set(seen) == {package.ENCODE_ROWS}


def test_facts_say_what_the_codes_mean(folder: Path) -> None:
    facts = json.loads((folder / "tokenizer.json").read_text())
    assert facts["quantizer"] == "fsq" and facts["levels"] == [5, 4, 3] and facts["codebook_size"] == 60
    assert facts["stride"] == 4 and facts["channels"] == 1 and facts["image_size"] == 16 and facts["range"] == [-1, 1]
    assert facts["data"] == {"manifest": "abc"}
    with torch.no_grad():
        blank = toy.dvae().encode(torch.full((1, 1, 16, 16), -1.0))
    assert facts["blank_code"] == blank[0, 2, 2]


def test_golden_pictures_are_the_safest_of_those_offered(folder: Path) -> None:
    golden = safetensors.load_file(folder / "golden.safetensors")
    assert golden["images"].shape == (16, 1, 16, 16) and golden["codes"].shape == (16, 4, 4)
    model = toy.dvae()
    with torch.no_grad():
        margins = model.quantizer.margin(model.latents(toy.images(40)))
        kept = model.quantizer.margin(model.latents(golden["images"]))
    torch.testing.assert_close(kept, margins.sort(descending=True).values[:16], rtol=1e-3, atol=1e-4)


def test_the_same_export_has_the_same_bytes_and_name(folder: Path, tmp_path: Path) -> None:
    again = package.export(toy.dvae(), Store(str(tmp_path)), toy.images(40), data_facts={"manifest": "abc"})
    assert again.sha256 == package.load(Store(str(folder))).sha256
    for name in ("tokenizer.json", "weights.safetensors", "golden.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()
    other = package.export(toy.dvae(), Store(str(tmp_path / "other")), toy.images(40), data_facts={"manifest": "abd"})
    assert other.sha256 != again.sha256


@pytest.mark.parametrize("name", ["weights.safetensors", "golden.safetensors"])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_one_flipped_bit_is_refused(copy: Path, name: str, place: float) -> None:
    data = bytearray((copy / name).read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(CorruptFileError, match=name):
        package.load(Store(str(copy)))


def test_weights_that_give_other_codes_are_refused_even_with_a_matching_digest(copy: Path) -> None:
    weights = safetensors.load_file(copy / "weights.safetensors")
    weights["encoder.0.weight"] = weights["encoder.0.weight"] * 1.5
    file = Store(str(copy)).write("weights.safetensors", safetensors.save(weights))
    facts = json.loads((copy / "tokenizer.json").read_text())
    facts["files"][0] |= {"sha256": file.sha256, "size_bytes": file.size_bytes}
    (copy / "tokenizer.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="gives other codes here"):
        package.load(Store(str(copy)))


def test_missing_files_and_unknown_models_are_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tokenizer package"):
        package.load(Store(str(tmp_path / "nothing")))
    with pytest.raises(ValueError, match="at least one golden"):
        package.export(toy.dvae(), Store(str(tmp_path / "new")), toy.images(1)[:0])
    facts = json.loads((copy / "tokenizer.json").read_text())
    (copy / "tokenizer.json").write_text(json.dumps(facts | {"model": facts["model"] | {"flavour": 1}}))
    with pytest.raises(CorruptFileError, match="flavour"):
        package.load(Store(str(copy)))
    (copy / "weights.safetensors").unlink()
    with pytest.raises(CorruptFileError, match="missing"):
        package.load(Store(str(copy)))


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.clear(),
        lambda facts: facts.update(files=[{"path": 1}]),
        lambda facts: facts.update(files=7),
        lambda facts: facts.update(model=[]),
    ],
)
def test_what_is_no_package_is_named(copy: Path, change: Callable[[dict], None]) -> None:
    facts = json.loads((copy / "tokenizer.json").read_text())
    change(facts)
    (copy / "tokenizer.json").write_text(json.dumps(facts))
    with pytest.raises(CorruptFileError, match="tokenizer.json is not that of a tokenizer package; make one"):
        package.load(Store(str(copy)))


def test_a_pickled_tokenizer_works(folder: Path) -> None:
    tokenizer, x = package.load(Store(str(folder))), toy.images(3)
    assert torch.equal(pickle.loads(pickle.dumps(tokenizer)).encode(x), tokenizer.encode(x))
