import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import torch as safetensors
from torch import nn

from pipeline.config import to_json
from pipeline.exported import Exported
from pipeline.generate.load import load_model, load_stack
from pipeline.manifest import commit
from pipeline.models.config import DenoiserConfig, GPTConfig
from pipeline.models.denoiser import Denoiser
from pipeline.models.dvae import DVAE
from pipeline.models.gpt import GPT
from pipeline.storage import CorruptFileError, Store
from pipeline.tokenize.grammar import Grammar
from pipeline.tokenize.media import IMAGE
from pipeline.tokenize.text import TextTokenizer
from pipeline.tokenize.tokenizer import export_tokenizer
from tests.tokenize import toy

torch.set_num_threads(1)
TEXT = TextTokenizer.train(["a red square"], 280)
GRAMMAR = Grammar(text_size=TEXT.vocab_size, image_size=60)


def write(store: Store, kind: str, model: nn.Module, **facts: Any) -> None:
    """A folder as training exports it: every name of the state_dict, tied ones twice."""
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    config = json.dumps({"kind": kind, "model": to_json(model.config), "facts": facts}).encode()
    store.delete("manifest.json")
    commit(
        store,
        "manifest.json",
        Exported(
            files=(store.write("model.safetensors", safetensors.save(tensors)), store.write("config.json", config)),
            step=7,
        ),
    )


def gpt(**changes: object) -> GPT:
    torch.manual_seed(0)
    sizes = {"vocab_size": GRAMMAR.vocab_size, "n_layer": 2, "d_model": 32, "n_head": 4, "n_kv_head": 2}
    return GPT(GPTConfig(**(sizes | changes))).eval()


def denoiser() -> Denoiser:
    torch.manual_seed(0)
    model = Denoiser(DenoiserConfig(code_width=3, width=8, multipliers=(1, 2), groups=4)).eval()
    nn.init.normal_(model.out.weight)
    return model


@pytest.mark.parametrize("tied", [True, False])
def test_a_transformer_comes_back_as_it_was(tmp_path: Path, tied: bool) -> None:
    model, store = gpt(tie_embedding=tied), Store(str(tmp_path))
    write(store, "gpt", model, grammar=to_json(GRAMMAR.layout), tokenizer_sha256="abc")
    loaded = load_model(store, GPT)
    tokens = torch.randint(0, GRAMMAR.vocab_size, (2, 9))
    assert torch.equal(loaded.model(tokens), model(tokens))
    assert loaded.model.config == model.config and loaded.grammar == GRAMMAR and not loaded.model.training
    assert (loaded.model.head.weight is loaded.model.embedding.weight) is tied
    loaded.check_tokenizer("abc")
    with pytest.raises(ValueError, match="codes of the tokenizer abc, not of def"):
        loaded.check_tokenizer("def")


def test_a_denoiser_and_a_dvae_come_back_as_they_were(tmp_path: Path) -> None:
    model, x, t = denoiser(), torch.randn(2, 1, 16, 16), torch.tensor([3, 900])
    write(Store(str(tmp_path)), "denoiser", model)
    loaded = load_model(Store(str(tmp_path)), Denoiser).model
    args = (x, t, x * 0.3, torch.rand(2, 3, 4, 4), torch.zeros(2))
    assert torch.equal(loaded(*args), model(*args)) and loaded.config == model.config
    write(Store(str(tmp_path)), "dvae", toy.dvae())
    again = load_model(Store(str(tmp_path)), DVAE).model
    assert isinstance(again, DVAE) and again.config == toy.CONFIG
    assert torch.equal(again.encode(x), toy.dvae().encode(x))


def test_a_missing_or_another_network_is_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(ValueError, match="no trained model at .*; train the gpt first"):
        load_model(store, GPT)
    write(store, "gpt", gpt())
    with pytest.raises(ValueError, match="holds a gpt, not a denoiser"):
        load_model(store, Denoiser)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_torn_and_altered_bytes_are_refused(tmp_path: Path, name: str) -> None:
    write(Store(str(tmp_path)), "gpt", gpt())
    whole = (tmp_path / name).read_bytes()
    for bad in (whole[:-1], whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:], b""):
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(CorruptFileError, match=name):
            load_model(Store(str(tmp_path)), GPT)


def test_weights_that_do_not_fit_the_config_are_refused(tmp_path: Path) -> None:
    store, model = Store(str(tmp_path)), gpt()
    model.config = GPTConfig(**(vars(model.config) | {"n_layer": 3}))
    write(store, "gpt", model)
    with pytest.raises(
        CorruptFileError, match=r"lacks 'blocks.2.attention.k.weight', and .* asks for float32 \[16, 32\]"
    ):
        load_model(store, GPT)


def test_a_stack_is_whole_and_made_for_each_other(tmp_path: Path) -> None:
    root = Store(str(tmp_path))
    tokenizer = export_tokenizer(toy.dvae(), root.sub("tokenizer"), toy.images(4), medium=IMAGE)
    facts = {"tokenizer_sha256": tokenizer.sha256}
    write(root.sub("gpt/model"), "gpt", gpt(), **facts, grammar=to_json(GRAMMAR.layout), text_sha256=TEXT.sha256)
    write(root.sub("decoder/model"), "denoiser", denoiser(), **facts)
    TEXT.save(root.sub("gpt"))
    urls = [str(tmp_path / name) for name in ("tokenizer", "gpt", "decoder")]
    stack = load_stack(*urls)
    assert stack.tokenizer.sha256 == tokenizer.sha256 and stack.text == TEXT and stack.grammar == GRAMMAR
    TextTokenizer.train(["another text"], 280).save(root.sub("gpt"))
    with pytest.raises(ValueError, match="not the text tokenizer"):
        load_stack(*urls)
    write(root.sub("decoder/model"), "denoiser", denoiser(), tokenizer_sha256="other")
    with pytest.raises(ValueError, match="codes of the tokenizer other"):
        load_stack(*urls)
