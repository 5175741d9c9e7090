"""The tokenizer package: a trained DVAE as a folder that proves itself to whoever loads it.

    tokenizer.json         what the codes mean, and the digests of the other two; written last
    weights.safetensors    the DVAE
    golden.safetensors     pictures and the codes they had at export

Guarantees: `load` refuses altered bytes, and refuses a machine or a library on which the golden pictures come out as
other codes. The codes of a picture do not depend on what else is in its batch. `Tokenizer.sha256`, the digest of
tokenizer.json, goes into every table of codes.
"""

import contextlib
import hashlib
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor

from pipeline import config as configs
from pipeline import foreign, storage, weights
from pipeline.models.config import DVAEConfig
from pipeline.models.dvae import DVAE
from pipeline.storage import CorruptFileError, File, Store

NUM_GOLDEN = 16
ENCODE_ROWS = 32
"""Encoding always runs on this many rows: convolution kernels differ in the last bit between batch sizes, and a
component near a boundary would then round the other way."""

_CODES = 1 << 24
"""Most codes of a tokenizer: the quantizer counts in float32, which goes no further."""

_FLAGS = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """A loaded package; picklable."""

    model: DVAE
    facts: dict[str, Any]
    """The contents of tokenizer.json."""
    sha256: str

    @property
    def config(self) -> DVAEConfig:
        """Sizes of the DVAE."""
        return self.model.config

    @property
    def codebook_size(self) -> int:
        """Codes are 0 <= code < codebook_size."""
        return self.model.quantizer.codebook_size

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(h, w) of an image's codes."""
        return (self.config.image_size // self.config.stride,) * self.config.dims

    def encode(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> codes (N, h, w) int64, on the CPU; in float32 whatever the autocast."""
        return torch.cat([_encode(self.model, part) for part in images.split(ENCODE_ROWS)])

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (N, h, w) -> (N, C, H, W) float32 in [-1, 1], on the CPU."""
        device = next(self.model.parameters()).device
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            parts = [self.model.decode(part.to(device)).clamp(-1, 1).cpu() for part in codes.split(ENCODE_ROWS)]
        return torch.cat(parts)


def export(
    model: DVAE, store: Store, golden: Tensor, *, blank: float = -1.0, data_facts: Mapping[str, Any] | None = None
) -> Tokenizer:
    """Write a package and load it back.

    `golden` (N, C, H, W) are pictures of the training data, of which the NUM_GOLDEN whose codes are furthest from any
    rounding boundary are kept: those tell a wrong kernel from a rounding error. `blank` is the value of an empty
    picture, and `data_facts` is stored as it is.
    """
    model = _frozen(model.config, model.state_dict())
    config = model.config
    if len(golden) == 0:
        raise ValueError("a tokenizer package needs at least one golden picture")
    golden = golden.float()
    with torch.no_grad():
        margins = torch.cat([model.quantizer.margin(model.latents(part)) for part in golden.split(ENCODE_ROWS)])
    golden = golden[margins.argsort(descending=True, stable=True)[:NUM_GOLDEN]].contiguous()
    codes = _encode(model, golden)
    blank_codes = _encode(model, torch.full_like(golden[:1], blank))[0]
    files = [
        store.write("weights.safetensors", safetensors.save(model.state_dict())),
        store.write("golden.safetensors", safetensors.save({"images": golden, "codes": codes})),
    ]
    facts = {
        "format": 1,
        "quantizer": "fsq",
        "model": configs.to_json(config),
        "levels": list(config.levels),
        "codebook_size": model.quantizer.codebook_size,
        "stride": config.stride,
        "channels": config.channels,
        "image_size": config.image_size,
        "range": [-1.0, 1.0],
        "length_rule": "size / stride codes along each axis, in raster order",
        "blank": blank,
        "blank_code": int(blank_codes[tuple(n // 2 for n in blank_codes.shape)]),
        "data": dict(data_facts or {}),
        "files": [asdict(file) for file in files],
    }
    storage.write_json(store, "tokenizer.json", facts)
    return load(store)


def load(store: Store, device: str | torch.device = "cpu") -> Tokenizer:
    """Read a package, check its digests, and encode its golden pictures again.

    ValueError if there is none, if its files are damaged or hostile, or if a golden picture comes out as other codes
    here.
    """
    name = f"{store.url}/tokenizer.json"
    try:
        data = foreign.read(store, "tokenizer.json")
    except FileNotFoundError as error:
        raise ValueError(f"no tokenizer package at {store.url}; make one with jobs.train_dvae") from error
    facts = foreign.parsed(data, name)
    try:
        files = _files(facts, name)
        config = foreign.config_of(DVAEConfig, facts.get("model"), name)
        if math.prod(config.levels) > _CODES:
            raise CorruptFileError(f"its levels {config.levels} make more than {_CODES} codes")
    except CorruptFileError as error:
        raise CorruptFileError(
            f"{name} is not that of a tokenizer package; make one with jobs.train_dvae ({error})"
        ) from error
    images, codes = _golden(store, files["golden.safetensors"], config)
    model = (
        weights.load(store, files["weights.safetensors"], lambda: DVAE(config)).eval().requires_grad_(False).to(device)
    )
    different = (_encode(model, images) != codes).flatten(1).any(1)
    if different.any():
        raise ValueError(
            f"the tokenizer {store.url} gives other codes here than where it was exported, for "
            f"{int(different.sum())} of {len(different)} golden pictures: codes made on this machine "
            "would not mean what its models learned"
        )
    return Tokenizer(model=model, facts=facts, sha256=hashlib.sha256(data).hexdigest())


def _files(facts: dict[str, Any], name: str) -> dict[str, File]:
    """The files that a tokenizer.json names, by name; CorruptFileError if it does not name those of a package."""
    foreign.check_types(facts, {"files": list}, name)
    try:
        files = {file.path: file for file in (File(**entry) for entry in facts["files"])}
    except TypeError as error:
        raise CorruptFileError("it does not list files with their sizes and sha256") from error
    for file in files.values():
        foreign.check_file(file, name)
    if missing := {"weights.safetensors", "golden.safetensors"} - files.keys():
        raise CorruptFileError(f"it names no {min(missing)}")
    return files


def _golden(store: Store, file: File, config: DVAEConfig) -> tuple[Tensor, Tensor]:
    """The golden pictures (N, C, H, W) and their codes (N, h, w); CorruptFileError if they are not those of such a
    DVAE.

    They are the only evidence for the size of the pictures, which no weight knows.
    """
    name, header = f"{store.url}/{file.path}", weights.header(store, file)
    rows = header["images"].shape[:1] if "images" in header else ()
    side = (config.image_size,) * config.dims
    wanted = {
        "images": weights.Entry(dtype=torch.float32, shape=(*rows, config.channels, *side)),
        "codes": weights.Entry(dtype=torch.int64, shape=(*rows, *(n // config.stride for n in side))),
    }
    if header != wanted or not 1 <= rows[0] <= NUM_GOLDEN:
        raise CorruptFileError(
            f"{name} does not hold 1 to {NUM_GOLDEN} pictures of {config.image_size} pixels and their codes; "
            "make the package with jobs.train_dvae"
        )
    batch_bytes = (
        4 * ENCODE_ROWS * config.image_size**config.dims * max(config.channels, config.width * config.multipliers[0])
    )
    if batch_bytes > (memory := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
        raise ValueError(
            f"{store.url} is for pictures of {config.image_size} pixels: encoding {ENCODE_ROWS} of them takes "
            f"{batch_bytes / 1e9:.3g} GB, and this machine has {memory / 1e9:.3g} GB; use a larger one"
        )
    golden = weights.tensors(store, file)
    if not golden["images"].isfinite().all():
        raise CorruptFileError(f"{name} holds pictures that are not finite; make the package with jobs.train_dvae")
    return golden["images"], golden["codes"]


def _frozen(config: DVAEConfig, weights: Mapping[str, Tensor]) -> DVAE:
    model = DVAE(config)
    model.load_state_dict({name: value.detach().float().contiguous() for name, value in weights.items()})
    return model.eval().requires_grad_(False)


def _encode(model: DVAE, images: Tensor) -> Tensor:
    """Codes of at most ENCODE_ROWS images; the rest of the batch is filled with copies of the first."""
    device = next(model.parameters()).device
    batch = torch.cat([images, images[:1].expand(ENCODE_ROWS - len(images), *images.shape[1:])]).to(device).float()
    # TF32 and algorithm search would make codes depend on the graphics card and on what ran before. These flags belong
    # to the process, so only one thread sets them at a time.
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    alone = _FLAGS if device.type == "cuda" else contextlib.nullcontext()
    with alone, torch.no_grad(), torch.autocast(device.type, enabled=False), exact:
        return model.encode(batch)[: len(images)].cpu()
