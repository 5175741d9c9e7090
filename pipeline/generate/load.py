"""Trained networks, read back from the `model/` folder of a training run.

Loading needs neither Ray nor DeepSpeed, checks every digest, and never unpickles; networks that were not trained for
each other are refused. A folder of hostile files is refused in one line, before anything of its sizes is allocated.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import nn

from pipeline import foreign, storage, weights
from pipeline.config import from_json
from pipeline.exported import CONFIG, MANIFEST, WEIGHTS, Exported, NetworkSpec
from pipeline.models.config import GPTConfig
from pipeline.models.denoiser import Denoiser
from pipeline.models.gpt import GPT
from pipeline.models.networks import NETWORKS
from pipeline.storage import CorruptFileError, Store
from pipeline.tokenize.grammar import Grammar, Layout
from pipeline.tokenize.text import TextTokenizer
from pipeline.tokenize.tokenizer import Tokenizer, load_tokenizer

M = TypeVar("M", bound=nn.Module)

_CACHE_BYTES = 1 << 28
"""Of a row, however small the network: a `tiny` one has as much at 87,000 tokens."""


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """What a network was trained on, as far as it matters to the networks beside it."""

    tokenizer_sha256: str | None = None
    text_sha256: str | None = None
    grammar: Layout | None = None


@dataclass(frozen=True, kw_only=True)
class Loaded(Generic[M]):
    """A network in eval mode and what was noted of it at export."""

    model: M
    trained_on: TrainedOn

    @property
    def grammar(self) -> Grammar:
        """The vocabulary that a transformer was trained on; ValueError if this code lays it out otherwise."""
        if self.trained_on.grammar is None:
            raise ValueError("the network names no vocabulary; train it again")
        return Grammar.from_layout(self.trained_on.grammar)

    def check_tokenizer(self, sha256: str) -> None:
        """ValueError if the network was trained on the codes of another tokenizer."""
        mine = self.trained_on.tokenizer_sha256
        if mine != sha256:
            raise ValueError(
                f"this network was trained on codes of the tokenizer {mine}, not of {sha256}; train it "
                "again or name its own tokenizer"
            )


def load_model(store: Store, module: type[M], device: str = "cpu") -> Loaded[M]:
    """Read a network of NETWORKS; ValueError if there is none, if it is of another kind, or if its files are damaged or
    hostile."""
    kind, network = next((name, each) for name, each in NETWORKS.items() if each.build is module)
    manifest = foreign.manifest(store, MANIFEST, Exported)
    if manifest is None:
        raise ValueError(f"no trained model at {store.url}; train the {kind} first")
    files = {file.path: file for file in manifest.files}
    if missing := {CONFIG, WEIGHTS} - files.keys():
        raise CorruptFileError(f"{store.url}/{MANIFEST} names no {min(missing)}; export the {kind} again")
    # Before it is read: whoever made a file made its digest too.
    foreign.check_limit(store, CONFIG, foreign.JSON_BYTES)
    name = f"{store.url}/{CONFIG}"
    values = foreign.parsed(storage.read_file(store, files[CONFIG]), name)
    try:
        spec = from_json(NetworkSpec, values)
        trained_on = from_json(TrainedOn, spec.facts)
    except ValueError as error:
        raise CorruptFileError(f"{name} is not that of a network: {error}; name another folder") from error
    if spec.kind != kind:
        raise ValueError(f"{store.url} holds a {spec.kind:.60}, not a {kind}")
    config = foreign.config_of(network.config, spec.model, name)
    model: M = weights.load(store, files[WEIGHTS], lambda: network.build(config))
    if isinstance(config, GPTConfig):
        _check_cache(config, files[WEIGHTS].size_bytes, name)
    return Loaded(model=model.to(device).eval().requires_grad_(False), trained_on=trained_on)


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
    """All that turns text into samples of a medium."""

    tokenizer: Tokenizer
    text: TextTokenizer
    grammar: Grammar
    gpt: GPT
    denoiser: Denoiser


def load_stack(tokenizer_url: str, gpt_url: str, decoder_url: str, device: str = "cpu") -> Stack:
    """The three networks and their text tokenizer; ValueError if one is missing or was trained for another."""
    tokenizer = load_tokenizer(Store(tokenizer_url), device)
    gpt = load_model(Store(gpt_url).sub("model"), GPT, device)
    denoiser = load_model(Store(decoder_url).sub("model"), Denoiser, device)
    gpt.check_tokenizer(tokenizer.sha256)
    denoiser.check_tokenizer(tokenizer.sha256)
    text = TextTokenizer.load(Store(gpt_url))
    if text.sha256 != gpt.trained_on.text_sha256:
        raise ValueError(f"{gpt_url}/text.json is not the text tokenizer that the transformer was trained with")
    stack = Stack(tokenizer=tokenizer, text=text, grammar=gpt.grammar, gpt=gpt.model, denoiser=denoiser.model)
    for what, one, other in _meetings(stack):
        if one != other:
            raise ValueError(
                f"{gpt_url}, {decoder_url} and {tokenizer_url} do not fit together: {what} {one} and {other}; name "
                "folders of networks that were trained for each other"
            )
    return stack


def _meetings(stack: Stack) -> list[tuple[str, int, int]]:
    """Where two of a stack's parts meet, and what each of them says there: digests that match prove nothing."""
    grammar, tokenizer = stack.grammar, stack.tokenizer
    decoder, dvae, modality = stack.denoiser.config, tokenizer.config, tokenizer.medium.modality
    return [
        ("the vocabularies of transformer and grammar are", stack.gpt.config.vocab_size, grammar.vocab_size),
        ("the text ids of grammar and text tokenizer are", grammar.text_size, stack.text.vocab_size),
        ("the codes of grammar and tokenizer are", grammar.size(modality), tokenizer.codebook_size),
        ("the axes of decoder and tokenizer are", decoder.dims, dvae.dims),
        ("the components of a code of decoder and tokenizer are", decoder.code_width, dvae.quantizer.width),
        ("the channels of decoder and tokenizer are", decoder.channels, dvae.channels),
    ]
