"""Trained networks, read back from the `model/` folder of a training run.

Loading needs neither Ray nor DeepSpeed, checks every digest, and never unpickles; networks that were not trained for
each other are refused.
"""
from dataclasses import dataclass
from typing import Any, Literal

from safetensors import torch as safetensors

from pipeline import storage
from pipeline.models.denoiser import Denoiser, DenoiserConfig
from pipeline.models.dvae import DVAE, DVAEConfig
from pipeline.models.gpt import GPT, GPTConfig
from pipeline.storage import CorruptFileError, Store
from pipeline.tokenize import package
from pipeline.tokenize.grammar import Grammar
from pipeline.tokenize.package import Tokenizer
from pipeline.tokenize.text import TextTokenizer

Kind = Literal["dvae", "gpt", "denoiser"]

_KINDS: dict[str, tuple[type, type]] = {
    "dvae": (DVAEConfig, DVAE), "gpt": (GPTConfig, GPT), "denoiser": (DenoiserConfig, Denoiser),
}


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A network in eval mode and what was noted of it at export."""

    model: Any
    facts: dict[str, Any]

    @property
    def grammar(self) -> Grammar:
        """The vocabulary that a transformer was trained on; ValueError if this code lays it out otherwise."""
        return Grammar.from_json(self.facts["grammar"])

    def check_tokenizer(self, sha256: str) -> None:
        """ValueError if the network was trained on the codes of another tokenizer."""
        mine = self.facts.get("tokenizer_sha256")
        if mine != sha256:
            raise ValueError(f"this network was trained on codes of the tokenizer {mine}, not of {sha256}; train it "
                             "again or name its own tokenizer")


def load_model(store: Store, kind: Kind, device: str = "cpu") -> Loaded:
    """Read a network; ValueError if there is none, if it is of another kind, or if its bytes were altered."""
    found = storage.manifest(store, "manifest.json")
    if found is None:
        raise ValueError(f"no trained model at {store.url}; train the {kind} first")
    files = {file.path: file for file in found["files"]}
    storage.read_file(store, files["config.json"])
    described = storage.read_json(store, "config.json")
    if described["kind"] != kind:
        raise ValueError(f"{store.url} holds a {described['kind']}, not a {kind}")
    config_type, model_type = _KINDS[kind]
    try:
        config = config_type(**{k: tuple(v) if isinstance(v, list) else v for k, v in described["model"].items()})
        model = model_type(config)
        model.load_state_dict(safetensors.load(storage.read_file(store, files["model.safetensors"])))
    except (TypeError, RuntimeError) as error:
        raise CorruptFileError(f"{store.url} holds a model that this version does not know: {error}") from error
    return Loaded(model=model.to(device).eval().requires_grad_(False), facts=described["facts"])


@dataclass(frozen=True, kw_only=True)
class Stack:
    """All that turns text into pictures."""

    tokenizer: Tokenizer
    text: TextTokenizer
    grammar: Grammar
    gpt: GPT
    denoiser: Denoiser


def load_stack(tokenizer_url: str, gpt_url: str, decoder_url: str, device: str = "cpu") -> Stack:
    """The three networks and their text tokenizer; ValueError if one is missing or was trained for another."""
    tokenizer = package.load(Store(tokenizer_url), device)
    gpt = load_model(Store(gpt_url).sub("model"), "gpt", device)
    denoiser = load_model(Store(decoder_url).sub("model"), "denoiser", device)
    for network in (gpt, denoiser):
        network.check_tokenizer(tokenizer.sha256)
    text = TextTokenizer.load(Store(gpt_url))
    if text.sha256 != gpt.facts["text_sha256"]:
        raise ValueError(f"{gpt_url}/text.json is not the text tokenizer that the transformer was trained with")
    return Stack(tokenizer=tokenizer, text=text, grammar=gpt.grammar, gpt=gpt.model, denoiser=denoiser.model)
