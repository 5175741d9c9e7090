"""The tokenizer package: a trained DVAE as a folder that proves itself to whoever loads it.

    tokenizer.json         what the codes mean, and the digests of the other two; written last
    weights.safetensors    the DVAE
    golden.safetensors     samples and the codes they had at export

Guarantees: `load_tokenizer` refuses altered bytes, and refuses a machine or a library on which the golden samples come
out as other codes. The codes of a sample do not depend on what else is in its batch. `Tokenizer.sha256`, the digest of
tokenizer.json, goes into every table of codes.

Letters: N samples, C channels, H, W pixels, h, w codes, K components of a code vector; one axis for two in sequences.
"""

import contextlib
import hashlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from safetensors import torch as safetensors
from torch import Tensor

from pipeline import foreign, weights
from pipeline.config import from_json, to_json
from pipeline.models.config import DVAEConfig, Modality
from pipeline.models.dvae import DVAE
from pipeline.storage import CorruptFileError, File, Store, write_json
from pipeline.tokenize.media import MEDIA, Medium

NUM_GOLDEN = 16
ENCODE_ROWS = 32
"""Encoding always runs on this many rows: convolution kernels differ in the last bit between batch sizes, and a
component near a boundary would then round the other way."""

_WEIGHTS = "weights.safetensors"
_GOLDEN = "golden.safetensors"
_CARD = "tokenizer.json"
_FLAGS = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a tokenizer says of itself: the contents of tokenizer.json."""

    format: int = 2
    modality: Modality
    model: DVAEConfig
    codebook_size: int
    stride: int
    """Pixels (or frames) per code, along each axis."""
    code_shape: tuple[int, ...]
    """(h, w) of the codes of one sample."""
    range: tuple[float, float] = (-1.0, 1.0)
    """Of the values of a sample."""
    length_rule: str
    blank: float
    """Value of a sample in which nothing is."""
    blank_code: int
    """The code in the middle of such a sample."""
    data: Mapping[str, object] = field(default_factory=dict)
    """What the DVAE was trained on."""
    files: tuple[File, ...]

    def __post_init__(self) -> None:
        if self.modality not in MEDIA:
            raise ValueError(f"modality is {self.modality}; this version has {', '.join(MEDIA)}")
        MEDIA[self.modality].check(self.model)
        # Written for readers without this code, and for them alone: what is derived must not contradict the model.
        derived = (self.model.quantizer.codebook_size, self.model.stride, self.model.code_shape)
        if (self.codebook_size, self.stride, self.code_shape) != derived:
            raise ValueError(f"codebook_size, stride and code_shape are not those of the model, {derived}")


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """A loaded package; picklable."""

    model: DVAE
    card: Card
    sha256: str

    @property
    def config(self) -> DVAEConfig:
        """Sizes of the DVAE."""
        return self.model.config

    @property
    def medium(self) -> Medium:
        """What its samples are."""
        return MEDIA[self.card.modality]

    @property
    def codebook_size(self) -> int:
        """Codes are 0 <= code < codebook_size."""
        return self.model.quantizer.codebook_size

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(h, w) of the codes of one sample."""
        return self.config.code_shape

    def encode(self, samples: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> codes (N, h, w) int64, on the CPU; in float32 whatever the autocast."""
        return torch.cat([_encode(self.model, part) for part in samples.split(ENCODE_ROWS)])

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (N, h, w) -> (N, C, H, W) float32 in [-1, 1], on the CPU."""
        device = _device(self.model)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            parts = [self.model.decode(part.to(device)).clamp(-1, 1).cpu() for part in codes.split(ENCODE_ROWS)]
        return torch.cat(parts)

    def vectors(self, codes: Tensor) -> Tensor:
        """Codes (N, h, w) -> the quantizer's vectors of them (N, K, h, w) float32, on the CPU: what a decoder reads."""
        with torch.no_grad():
            return self.model.quantizer.vectors(codes.to(_device(self.model))).cpu()


def export_tokenizer(
    model: DVAE, store: Store, golden: Tensor, *, medium: Medium, data: Mapping[str, object] | None = None
) -> Tokenizer:
    """Write a package and load it back.

    `golden` (N, C, H, W) are samples of the training data, of which the NUM_GOLDEN whose codes are furthest from any
    rounding boundary are kept: those tell a wrong kernel from a rounding error. `data` is stored as it is.
    """
    if len(golden) == 0:
        raise ValueError("a tokenizer package needs at least one golden sample")
    model = _frozen(model)
    safest = _safest(model, golden.float())
    files = (
        store.write(_WEIGHTS, safetensors.save(model.state_dict())),
        store.write(_GOLDEN, safetensors.save({"samples": safest, "codes": _encode(model, safest)})),
    )
    config = model.config
    card = Card(
        modality=medium.modality,
        model=config,
        codebook_size=model.quantizer.codebook_size,
        stride=config.stride,
        code_shape=config.code_shape,
        length_rule=medium.length_rule,
        blank=medium.blank,
        blank_code=_blank_code(model, medium.blank),
        data=data or {},
        files=files,
    )
    write_json(store, _CARD, to_json(card))
    return load_tokenizer(store)


def load_tokenizer(store: Store, device: str | torch.device = "cpu") -> Tokenizer:
    """Read a package, check its digests, and encode its golden samples again.

    ValueError if there is none, if its files are damaged or hostile, or if a golden sample comes out as other codes
    here.
    """
    try:
        data = foreign.read(store, _CARD)
    except FileNotFoundError as error:
        raise ValueError(f"no tokenizer package at {store.url}; make one with jobs.train_dvae") from error
    card = _card(data, f"{store.url}/{_CARD}")
    files = {file.path: file for file in card.files}
    samples, codes = _golden(store, files[_GOLDEN], card)
    model = weights.load(store, files[_WEIGHTS], lambda: DVAE(card.model))
    model.eval().requires_grad_(False).to(device)
    different = (_encode(model, samples) != codes).flatten(1).any(1)  # (N,)
    if different.any():
        raise ValueError(
            f"the tokenizer {store.url} gives other codes here than where it was exported, for "
            f"{int(different.sum())} of {len(different)} golden samples: codes made on this machine "
            "would not mean what its models learned"
        )
    return Tokenizer(model=model, card=card, sha256=hashlib.sha256(data).hexdigest())


def _card(data: bytes, name: str) -> Card:
    """The tokenizer.json `name`; CorruptFileError if it is not that of a package."""
    values = foreign.parsed(data, name)
    try:
        foreign.check_bounds(values.get("model"))
        card = from_json(Card, values)
        for file in card.files:
            foreign.check_file(file, name)
        if missing := {_WEIGHTS, _GOLDEN} - {file.path for file in card.files}:
            raise ValueError(f"it names no {min(missing)}")
    except (ValueError, ArithmeticError) as error:
        raise CorruptFileError(
            f"{name} is not that of a tokenizer package; make one with jobs.train_dvae ({error})"
        ) from error
    return card


def _golden(store: Store, file: File, card: Card) -> tuple[Tensor, Tensor]:
    """The golden samples (N, C, H, W) and their codes (N, h, w); CorruptFileError if they are not those of such a
    DVAE.

    They are the only evidence for the size of the samples, which no weight knows.
    """
    name, config, noun = f"{store.url}/{file.path}", card.model, MEDIA[card.modality].noun
    header = weights.header(store, file)
    rows = header["samples"].shape[:1] if "samples" in header else ()
    expected = {
        "samples": weights.Entry(dtype=torch.float32, shape=(*rows, *config.shape)),
        "codes": weights.Entry(dtype=torch.int64, shape=(*rows, *config.code_shape)),
    }
    if header != expected or not 1 <= rows[0] <= NUM_GOLDEN:
        raise CorruptFileError(
            f"{name} does not hold 1 to {NUM_GOLDEN} {noun} of size {config.size} and their codes; "
            "make the package with jobs.train_dvae"
        )
    _check_memory(config, f"{store.url} is for {noun} of size {config.size}")
    golden = weights.tensors(store, file)
    if not golden["samples"].isfinite().all():
        raise CorruptFileError(f"{name} holds {noun} that are not finite; make the package with jobs.train_dvae")
    return golden["samples"], golden["codes"]


def _check_memory(config: DVAEConfig, name: str) -> None:
    """ValueError if this machine cannot hold a batch at the first layer of the encoder, in float32."""
    batch_bytes = 4 * ENCODE_ROWS * config.size**config.dims * max(config.channels, config.widths[0])
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if batch_bytes > memory_bytes:
        raise ValueError(
            f"{name}: encoding {ENCODE_ROWS} of them takes {batch_bytes / 1e9:.3g} GB, and this machine has "
            f"{memory_bytes / 1e9:.3g} GB; use a larger one"
        )


def _frozen(model: DVAE) -> DVAE:
    """A copy in float32 that learns no more."""
    copy = DVAE(model.config)
    copy.load_state_dict({name: value.detach().float().contiguous() for name, value in model.state_dict().items()})
    return copy.eval().requires_grad_(False)


def _safest(model: DVAE, samples: Tensor) -> Tensor:
    """The NUM_GOLDEN samples (N, C, H, W) whose codes are furthest from any boundary."""
    with torch.no_grad():
        margins = torch.cat([model.quantizer.margin(model.latents(part)) for part in samples.split(ENCODE_ROWS)])
    order = margins.argsort(descending=True, stable=True)
    return samples[order[:NUM_GOLDEN]].contiguous()


def _blank_code(model: DVAE, blank: float) -> int:
    """The code in the middle of a sample in which nothing is: the edges see padding."""
    codes = _encode(model, torch.full((1, *model.config.shape), blank))[0]  # (h, w)
    middle = tuple(n // 2 for n in codes.shape)
    return int(codes[middle])


def _device(model: DVAE) -> torch.device:
    return next(model.parameters()).device


def _encode(model: DVAE, samples: Tensor) -> Tensor:
    """Codes of at most ENCODE_ROWS samples; the rest of the batch is filled with copies of the first."""
    device = _device(model)
    filling = samples[:1].expand(ENCODE_ROWS - len(samples), *samples.shape[1:])
    batch = torch.cat([samples, filling]).to(device).float()  # (ENCODE_ROWS, C, H, W)
    # TF32 and algorithm search would make codes depend on the graphics card and on what ran before. These flags belong
    # to the process, so only one thread sets them at a time.
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    alone = _FLAGS if device.type == "cuda" else contextlib.nullcontext()
    with alone, torch.no_grad(), torch.autocast(device.type, enabled=False), exact:
        return model.encode(batch)[: len(samples)].cpu()
