import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import torch as safetensors

from pipeline.models import quantizers
from pipeline.models.config import DenoiserConfig
from pipeline.models.denoiser import Denoiser, denoiser_loss
from pipeline.storage import CorruptFileError, Store
from pipeline.tokenize.collate import DecoderCollate
from pipeline.tokenize.media import IMAGE
from pipeline.tokenize.tokenizer import ENCODE_ROWS, export_tokenizer, load_tokenizer
from tests.tokenize import toy

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    export_tokenizer(toy.dvae(), Store(str(path)), toy.images(40), data={"manifest": "abc"}, medium=IMAGE)
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_codes_and_pictures_are_those_of_the_model(folder: Path) -> None:
    tokenizer, model, x = load_tokenizer(Store(str(folder))), toy.dvae(), toy.images(50, seed=1)
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
    tokenizer, x = load_tokenizer(Store(str(folder))), toy.images(64, seed=2)
    together = tokenizer.encode(x)
    assert torch.equal(torch.cat([tokenizer.encode(part) for part in x.split(size)]), together)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(tokenizer.encode(x[order]), together[order])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tokenizer.encode(x), together)


def test_the_encoder_always_sees_batches_of_one_size(folder: Path) -> None:
    tokenizer, seen = load_tokenizer(Store(str(folder))), []
    tokenizer.model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    for rows in (1, 31, 32, 33, 64):
        assert len(tokenizer.encode(toy.images(rows))) == rows
    assert set(seen) == {ENCODE_ROWS}


def test_facts_say_what_the_codes_mean(folder: Path) -> None:
    facts = json.loads((folder / "tokenizer.json").read_text())
    assert facts["modality"] == "image" and facts["model"]["quantizer"] == {"kind": "fsq", "levels": [5, 4, 3]}
    assert facts["codebook_size"] == 60 and facts["stride"] == 4 and facts["code_shape"] == [4, 4]
    assert facts["model"]["channels"] == 1 and facts["model"]["size"] == 16 and facts["range"] == [-1, 1]
    assert facts["data"] == {"manifest": "abc"}
    with torch.no_grad():
        blank = toy.dvae().encode(torch.full((1, 1, 16, 16), -1.0))
    assert facts["blank_code"] == blank[0, 2, 2]


def test_golden_pictures_are_the_safest_of_those_offered(folder: Path) -> None:
    golden = safetensors.load_file(folder / "golden.safetensors")
    assert golden["samples"].shape == (16, 1, 16, 16) and golden["codes"].shape == (16, 4, 4)
    model = toy.dvae()
    with torch.no_grad():
        margins = model.quantizer.margin(model.latents(toy.images(40)))
        kept = model.quantizer.margin(model.latents(golden["samples"]))
    torch.testing.assert_close(kept, margins.sort(descending=True).values[:16], rtol=1e-3, atol=1e-4)


def test_the_same_export_has_the_same_bytes_and_name(folder: Path, tmp_path: Path) -> None:
    again = export_tokenizer(toy.dvae(), Store(str(tmp_path)), toy.images(40), data={"manifest": "abc"}, medium=IMAGE)
    assert again.sha256 == load_tokenizer(Store(str(folder))).sha256
    for name in ("tokenizer.json", "weights.safetensors", "golden.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()
    other = export_tokenizer(
        toy.dvae(), Store(str(tmp_path / "other")), toy.images(40), data={"manifest": "abd"}, medium=IMAGE
    )
    assert other.sha256 != again.sha256


@pytest.mark.parametrize("name", ["weights.safetensors", "golden.safetensors"])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_one_flipped_bit_is_refused(copy: Path, name: str, place: float) -> None:
    data = bytearray((copy / name).read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(CorruptFileError, match=name):
        load_tokenizer(Store(str(copy)))


def test_weights_that_give_other_codes_are_refused_even_with_a_matching_digest(copy: Path) -> None:
    weights = safetensors.load_file(copy / "weights.safetensors")
    weights["encoder.0.weight"] = weights["encoder.0.weight"] * 1.5
    file = Store(str(copy)).write("weights.safetensors", safetensors.save(weights))
    facts = json.loads((copy / "tokenizer.json").read_text())
    facts["files"][0] |= {"sha256": file.sha256, "size_bytes": file.size_bytes}
    (copy / "tokenizer.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="gives other codes here"):
        load_tokenizer(Store(str(copy)))


def test_missing_files_and_unknown_models_are_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tokenizer package"):
        load_tokenizer(Store(str(tmp_path / "nothing")))
    with pytest.raises(ValueError, match="at least one golden sample"):
        export_tokenizer(toy.dvae(), Store(str(tmp_path / "new")), toy.images(1)[:0], medium=IMAGE)
    facts = json.loads((copy / "tokenizer.json").read_text())
    (copy / "tokenizer.json").write_text(json.dumps(facts | {"model": facts["model"] | {"flavour": 1}}))
    with pytest.raises(CorruptFileError, match="flavour"):
        load_tokenizer(Store(str(copy)))
    (copy / "weights.safetensors").unlink()
    with pytest.raises(CorruptFileError, match="missing"):
        load_tokenizer(Store(str(copy)))


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.clear(),
        lambda facts: facts.update(files=[{"path": 1}]),
        lambda facts: facts.update(files=7),
        lambda facts: facts.update(model=[]),
        lambda facts: facts.update(modality="audio"),
        lambda facts: facts.update(codebook_size=61),
        lambda facts: facts.update(stride=2),
    ],
)
def test_what_is_no_package_is_named(copy: Path, change: Callable[[dict], None]) -> None:
    facts = json.loads((copy / "tokenizer.json").read_text())
    change(facts)
    (copy / "tokenizer.json").write_text(json.dumps(facts))
    with pytest.raises(CorruptFileError, match="tokenizer.json is not that of a tokenizer package; make one"):
        load_tokenizer(Store(str(copy)))


def test_a_pickled_tokenizer_works(folder: Path) -> None:
    tokenizer, x = load_tokenizer(Store(str(folder))), toy.images(3)
    assert torch.equal(pickle.loads(pickle.dumps(tokenizer)).encode(x), tokenizer.encode(x))


class Codebook(quantizers.Quantizer):
    """A learned codebook: what no config can make anew."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.codebook_size = 3, 60
        self.table = torch.nn.Parameter(torch.rand(60, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1)

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        indices = self._distances(z).argmin(1)
        vectors = self.vectors(indices)
        return z + (vectors - z).detach(), indices, z.new_zeros(len(z))

    def vectors(self, indices: torch.Tensor) -> torch.Tensor:
        return self.table[indices].movedim(-1, 1)

    def margin(self, z: torch.Tensor) -> torch.Tensor:
        best = self._distances(z).topk(2, dim=1, largest=False).values
        return (best[:, 1] - best[:, 0]).flatten(1).amin(1)

    def _distances(self, z: torch.Tensor) -> torch.Tensor:
        table = self.table.view(1, 60, 3, *[1] * (z.ndim - 2))
        return (z[:, None] - table).square().sum(2)


def test_a_quantizer_with_weights_travels_with_them_to_the_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizers, "build", lambda config: Codebook())
    model, x = toy.dvae(), toy.images(20)
    with torch.no_grad():
        model.quantizer.table.mul_(3).add_(0.1)  # learned: a new one has other vectors
    tokenizer = export_tokenizer(model, Store(str(tmp_path)), x, medium=IMAGE)
    codes = tokenizer.encode(x)
    assert len(codes.unique()) > 10
    batch = DecoderCollate(tokenizer=tokenizer, max_corruption=0.0)(toy.image_table(x), toy.Draw(list(range(20))))
    with torch.no_grad():
        assert torch.equal(batch["vectors"], model.quantizer.table[codes].movedim(-1, 1))
    denoiser = Denoiser(DenoiserConfig(code_width=tokenizer.model.quantizer.width, width=8, groups=4))
    denoiser_loss(denoiser, batch)[0].backward()
    assert not any("quantizer" in name for name in denoiser.state_dict())
