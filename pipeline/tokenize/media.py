"""What a medium is to tokenizers and networks: one entry a modality. No torch: options are checked by it.

A new medium is an entry of `MEDIA`, and its bytes in `pipeline/media`; whatever tokenizes, trains, samples or evaluates
asks the entry.

Letters: N samples, C channels, H, W pixels, `...` the axes of a medium.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from pipeline.media.error import MediaError
from pipeline.media.image import affine, cover, encode_png, open_image
from pipeline.models.config import Dims, DVAEConfig, Modality

Samples = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Medium:
    """A modality that has a discrete VAE."""

    modality: Modality
    noun: str
    """What several are called, in messages."""
    made_by: str
    """The job whose run holds them."""
    column: str
    """Of an exported table: the encoded bytes of a sample."""
    text_column: str
    """Of an exported table: what is said of it; may be null."""
    dims: Dims
    channels: tuple[int, ...]
    """Numbers of channels that a sample can have."""
    blank: float
    """Value of a sample in which nothing is."""
    length_rule: str
    """How many codes a sample has, for those who read tokenizer.json."""
    read: Callable[[bytes, DVAEConfig], Samples]
    """Encoded bytes -> a sample (C, ...) in [-1, 1], of the shape that the config asks for; ValueError if broken."""
    write: Callable[[Samples], bytes]
    """A sample (C, ...) in [-1, 1] -> encoded bytes."""
    vary: Callable[[Samples, np.random.Generator], Samples]
    """A sample (C, ...) -> one of the same shape that people would call the same: what keeps a network from learning
    samples by heart."""
    draw: Callable[..., NDArray[np.uint8]]
    """Rows of samples (n, C, ...), one under the other, as one picture (H, W, C)."""
    metrics: Mapping[str, Callable[[ArrayLike, ArrayLike], float]]
    """How near reconstructions (N, C, ...) are to the truth, by name."""

    def check(self, config: DVAEConfig) -> None:
        """ValueError if a DVAE of these sizes is for something else."""
        for name, known in (("dims", (self.dims,)), ("channels", self.channels)):
            value = getattr(config, name)
            if value not in known:
                channels = " or ".join(map(str, self.channels))
                raise ValueError(f"model.{name} is {value}; {self.noun} have {self.dims} dims and {channels} channels")

    def samples(self, table: pa.Table, config: DVAEConfig) -> Samples:
        """The samples of a table, (N, C, ...) float32 in [-1, 1]; ValueError names the key of a broken one."""
        samples = np.empty((table.num_rows, *config.shape), np.float32)
        for i, data in enumerate(table[self.column].to_pylist()):
            try:
                samples[i] = self.read(data, config)
            except (ValueError, TypeError) as error:
                raise ValueError(f"{self.modality} {table['key'][i].as_py()}: {error}") from error
        return samples

    def measure(self, samples: ArrayLike, truth: ArrayLike) -> dict[str, float]:
        """Each of its metrics, by name."""
        return {name: metric(samples, truth) for name, metric in self.metrics.items()}


def medium_of(config: DVAEConfig) -> Medium:
    """The medium that a DVAE of these sizes is for, which its axes tell; ValueError if there is none."""
    of_axes = [medium for medium in MEDIA.values() if medium.dims == config.dims]
    medium = next(iter(of_axes or MEDIA.values()))
    medium.check(config)
    return medium


def psnr_db(samples: ArrayLike, truth: ArrayLike) -> float:
    """Peak signal-to-noise ratio of samples in [-1, 1] in dB, from the mean squared error of the whole set.

    Infinite for equal samples; ValueError if the shapes differ, which broadcasting would hide.
    """
    a = np.asarray(samples, dtype=np.float64)
    b = np.asarray(truth, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"samples of shape {a.shape} cannot be compared with {b.shape}")
    mse = float(np.square(a - b).mean())
    return 10 * math.log10(4 / mse) if mse else math.inf  # the peak is 2, from -1 to 1


def read_image(data: bytes, config: DVAEConfig) -> Samples:
    """A picture as (C, H, W) float32 in [-1, 1]: -1 is black, transparent parts are white.

    Other sizes are scaled until they cover the square, and cropped around the centre. ValueError if the bytes are no
    picture.
    """
    size_bytes = len(data)  # here, so that a null in a column is a TypeError of its own
    try:
        picture = open_image(data)
    except MediaError as error:
        raise ValueError(f"{size_bytes} bytes are not a picture: {error.detail}") from error
    square = cover(picture.convert("L" if config.channels == 1 else "RGB"), config.size)
    pixels = np.asarray(square, dtype=np.float32).reshape(config.size, config.size, config.channels)  # (H, W, C)
    return (pixels / 127.5 - 1).transpose(2, 0, 1)  # (C, H, W)


_MAX_TURN, _MAX_SHEAR = math.radians(10), 0.1
_MAX_SCALE, _MAX_SHIFT = 0.1, 0.04  # shares of the size
# By eye, on digits: none becomes another. Turns and shears of writers' hands are about as large (LeCun et al., 1998,
# section III.D, deform digits by as much).


def vary_image(sample: Samples, random: np.random.Generator) -> Samples:
    """A picture (C, H, W) slightly turned, sheared, scaled and shifted; what comes in at the edges repeats them."""
    turn, shear, scale = random.uniform(-1, 1, 3) * (_MAX_TURN, _MAX_SHEAR, _MAX_SCALE)
    height, width = sample.shape[1:]
    shift = random.uniform(-_MAX_SHIFT, _MAX_SHIFT, 2) * (width, height)
    margin = math.ceil(0.5 * max(height, width))  # the corners of a turned picture lie outside of it
    matrix = (1 + scale) * np.array(
        [[math.cos(turn), shear - math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    )  # pixels of the result -> pixels of the picture, around the centre
    centre = np.array([width, height]) / 2
    offset = centre + margin + shift - matrix @ centre  # (2,)
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
    padded = np.pad(sample, ((0, 0), (margin, margin), (margin, margin)), mode="edge")
    return np.stack([affine(channel, (width, height), coefficients) for channel in padded])


def to_bytes(pixels: ArrayLike) -> NDArray[np.uint8]:
    """Floats (..., C, H, W) in [-1, 1] to bytes (..., H, W, C), rounded and clipped."""
    scaled = (np.asarray(pixels, dtype=np.float32) + 1) * 127.5
    rounded = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return np.moveaxis(rounded, -3, -1)


def to_png(pixels: ArrayLike) -> bytes:
    """Floats (C, H, W) in [-1, 1] as a PNG."""
    return encode_png(to_bytes(pixels))


def grid(*rows: Samples) -> NDArray[np.uint8]:
    """Rows (n, C, H, W) of pictures, one under the other, as one of (rows * H, n * W, C) bytes."""
    strips = [np.concatenate(list(row), axis=-1) for row in rows]  # (C, H, n * W) each
    return to_bytes(np.concatenate(strips, axis=-2))


IMAGE = Medium(
    modality="image",
    noun="images",
    made_by="jobs.curate_images",
    column="image",
    text_column="caption",
    dims=2,
    channels=(1, 3),
    blank=-1.0,  # black
    length_rule="size / stride codes along each axis, in raster order",
    read=read_image,
    write=to_png,
    vary=vary_image,
    draw=grid,
    metrics={"psnr_db": psnr_db},
)

MEDIA: dict[Modality, Medium] = {medium.modality: medium for medium in (IMAGE,)}
