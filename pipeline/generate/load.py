"""Trained networks, read back from the `model/` folder of a training run.

Loading needs neither Ray nor DeepSpeed, checks every digest, and never unpickles; networks that were not trained for
each other are refused. A folder of hostile files is refused in one line, before anything of its sizes is allocated.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pipeline import foreign, storage, weights
from pipeline.models.config import DenoiserConfig, DVAEConfig, GPTConfig
from pipeline.models.denoiser import Denoiser
from pipeline.models.dvae import DVAE
from pipeline.models.gpt import GPT
from pipeline.storage import CorruptFileError, Store
from pipeline.tokenize import package
from pipeline.tokenize.grammar import Grammar
from pipeline.tokenize.package import Tokenizer
from pipeline.tokenize.text import TextTokenizer

Kind = Literal["dvae", "gpt", "denoiser"]

_CACHE_BYTES = 1 << 28
"""Of a row, however small the network: a `tiny` one has as much at 87,000 tokens."""

_KINDS: dict[str, tuple[type, type]] = {
    "dvae": (DVAEConfig, DVAE),
    "gpt": (GPTConfig, GPT),
    "denoiser": (DenoiserConfig, Denoiser),
}


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A network in eval mode and what was noted of it at export."""

    model: Any
    facts: dict[str, Any]

    @property
    def grammar(self) -> Grammar:
        """The vocabulary that a transformer was trained on; ValueError if this code lays it out otherwise."""
        return Grammar.from_json(self.facts.get("grammar"))

    def check_tokenizer(self, sha256: str) -> None:
        """ValueError if the network was trained on the codes of another tokenizer."""
        mine = self.facts.get("tokenizer_sha256")
        if mine != sha256:
            raise ValueError(
                f"this network was trained on codes of the tokenizer {mine}, not of {sha256}; train it "
                "again or name its own tokenizer"
            )


def load_model(store: Store, kind: Kind, device: str = "cpu") -> Loaded:
    """Read a network; ValueError if there is none, if it is of another kind, or if its files are damaged or hostile."""
    if (found := foreign.manifest(store, "manifest.json")) is None:
        raise ValueError(f"no trained model at {store.url}; train the {kind} first")
    files = {file.path: file for file in found["files"]}
    if missing := {"config.json", "model.safetensors"} - files.keys():
        raise CorruptFileError(f"{store.url}/manifest.json names no {min(missing)}; export the {kind} again")
    config_file = files["config.json"]
    foreign.check_limit(store, config_file.path, foreign.JSON_BYTES)
    name = f"{store.url}/config.json"
    described = foreign.parsed(storage.read_file(store, config_file), name)
    foreign.check_types(described, {"kind": str, "model": dict, "facts": dict}, name)
    if described["kind"] != kind:
        raise ValueError(f"{store.url} holds a {described['kind']:.60}, not a {kind}")
    config_type, model_type = _KINDS[kind]
    config = foreign.config_of(config_type, described["model"], name)
    model = weights.load(store, files["model.safetensors"], lambda: model_type(config))
    if isinstance(config, GPTConfig):
        _check_cache(config, files["model.safetensors"].size_bytes, name)
    return Loaded(model=model.to(device).eval().requires_grad_(False), facts=described["facts"])


def _check_cache(config: GPTConfig, weights_bytes: int, name: str) -> None:
    """CorruptFileError if a row of the sampler's cache is absurd: no weight says how long a row may be."""
    row_bytes = 8 * config.n_layer * config.d_model * config.n_kv_head // config.n_head * config.seq_len  # two float32
    if row_bytes > max(_CACHE_BYTES, 4 * weights_bytes):
        raise CorruptFileError(
            f"{name} has the seq_len {config.seq_len}: sampling one row would take {row_bytes / 1e9:.3g} GB; "
            "train it again with another --seq-len"
        )


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
    if text.sha256 != gpt.facts.get("text_sha256"):
        raise ValueError(f"{gpt_url}/text.json is not the text tokenizer that the transformer was trained with")
    stack = Stack(tokenizer=tokenizer, text=text, grammar=gpt.grammar, gpt=gpt.model, denoiser=denoiser.model)
    for what, one, other in _meetings(stack):
        if one != other:
            raise ValueError(
                f"{gpt_url}, {decoder_url} and {tokenizer_url} do not fit together: {what} {one} and {other}; name "
                "folders of networks that were trained for each other"
            )
    return stack


def _meetings(stack: Stack) -> list[tuple[str, Any, Any]]:
    """Where two of a stack's parts meet, and what each of them says there: digests that match prove nothing."""
    grammar, codes = stack.grammar, stack.tokenizer.config
    return [
        ("the axes of a picture are", codes.dims, 2),
        ("the vocabularies of transformer and grammar are", stack.gpt.config.vocab_size, grammar.vocab_size),
        ("the text ids of grammar and text tokenizer are", grammar.text_size, stack.text.vocab_size),
        ("the codes of grammar and tokenizer are", grammar.image_size, stack.tokenizer.codebook_size),
        ("the levels of decoder and tokenizer are", stack.denoiser.config.levels, codes.levels),
        ("the channels of decoder and tokenizer are", stack.denoiser.config.channels, codes.channels),
    ]
