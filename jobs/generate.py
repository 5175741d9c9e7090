"""Draw images from a prompt: codes from the transformer, a first picture from the DVAE, the last word to the decoder.

python -m jobs.generate --prompt "a handwritten seven" --num 16 --out grid.png
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from jobs._main import run
from pipeline.log import logger
from pipeline.media.image import encode_png
from pipeline.models.config import DecodingConfig, SamplingConfig
from pipeline.ranges import check_range
from pipeline.storage import Store
from pipeline.tokenize.pixels import to_bytes

if TYPE_CHECKING:
    from pipeline.generate.load import Stack


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Draw images from a prompt."""

    prompt: str
    """What to draw, in words."""
    num: int = 16
    """How many images."""
    out: str = "grid.png"
    """The grid of all images, a PNG; a local path or any fsspec URL."""
    seed: int = 0
    """Number that the random numbers are computed from: image i depends on it, the prompt and i alone."""
    tokenizer: str = "runs/demo/dvae/tokenizer"
    """Tokenizer package, as jobs.train_dvae leaves it."""
    gpt: str = "runs/demo/gpt"
    """Folder of a jobs.train_gpt run."""
    decoder: str = "runs/demo/decoder"
    """Folder of a jobs.train_decoder run."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    verbose: bool = False
    """Show the whole of an error."""

    def __post_init__(self) -> None:
        check_range(self, "num", low=1)
        if not self.prompt.strip():
            raise ValueError('prompt is empty; say what to draw, as in --prompt "a handwritten seven"')
        if not self.out.endswith(".png"):
            raise ValueError(f"out is {self.out!r}; name a .png file")


def draw(stack: "Stack", prompts: list[str], config: Generate) -> np.ndarray:
    """One image per prompt, uint8 (N, H, W, C)."""
    from pipeline.generate.sample import generate_images  # torch: a mistake in an option is told before

    made = generate_images(
        prompts,
        stack.gpt,
        stack.grammar,
        stack.text,
        stack.tokenizer,
        stack.denoiser,
        sampling=config.sampling,
        decoding=config.decoding,
        seed=config.seed,
    )
    return to_bytes(made.images.numpy())


def grid_png(images: np.ndarray, columns: int | None = None, gap: int = 2) -> bytes:
    """Images uint8 (N, H, W, C) as one PNG, in reading order."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = -(-len(images) // columns)
    _, height, width, channels = images.shape
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 128, np.uint8)
    for i, image in enumerate(images):
        y, x = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return encode_png(sheet)


def main(config: Generate) -> None:
    """Draw, and write the grid."""
    from pipeline.generate.load import load_stack  # torch, as above

    stack = load_stack(config.tokenizer, config.gpt, config.decoder)
    folder, _, name = config.out.rpartition("/")
    store = Store(folder or ".")
    store.check_writable()
    store.write(name, grid_png(draw(stack, [config.prompt] * config.num, config)))
    logger.info("generate: %d images of %r in %s", config.num, config.prompt, config.out)


if __name__ == "__main__":
    run(Generate, main)
