"""Curate captioned images: URL lists and pages -> fetched, decoded, scored, judged, exported.

python -m jobs.curate_images jobs/configs/curate_images_demo.toml --sources list=http://127.0.0.1:8765/images/list.jsonl
python -m jobs.curate_images --run-dir s3://bucket/images --sources list=https://example.org/urls.csv page=https://example.org/
"""

from dataclasses import dataclass, field

from jobs._curate import CurateConfig, curate
from jobs._main import run
from pipeline.curate.decide import Rules
from pipeline.curate.fetch.discover import Discover, DiscoverConfig
from pipeline.curate.fetch.download import Fetch
from pipeline.curate.fetch.http import FetchConfig
from pipeline.curate.image.decode import DecodeImage
from pipeline.curate.image.filters import DropAspect, DropFlat, DropSmallImage
from pipeline.curate.run import Curation
from pipeline.curate.text.captions import DropFilenameCaption, DropLongCaption, DropShortCaption, ScoreCaption
from pipeline.records import IMAGE


@dataclass(frozen=True, kw_only=True)
class CurateImages(CurateConfig):
    """Curate captioned images from URL lists and web pages."""

    sources: tuple[str, ...]
    """Listings, each as KIND=URL with KIND one of list, page; a list may be a file or a folder by its path."""
    fetch: FetchConfig = field(default_factory=FetchConfig)
    decode: DecodeImage = field(default_factory=DecodeImage)
    small: DropSmallImage = field(default_factory=DropSmallImage)
    aspect: DropAspect = field(default_factory=DropAspect)
    flat: DropFlat = field(default_factory=DropFlat)
    short_caption: DropShortCaption = field(default_factory=DropShortCaption)
    long_caption: DropLongCaption = field(default_factory=DropLongCaption)


def curation(config: CurateImages) -> Curation:
    """The run that the config describes."""
    # The first that objects gives a row its reason.
    filters = (
        config.small,
        config.aspect,
        config.flat,
        DropFilenameCaption(),
        config.short_caption,
        config.long_caption,
    )
    return Curation(
        name="curate_images",
        sources=config.sources,
        discover=Discover(config=DiscoverConfig(fetch=config.fetch, lists=config.lists)),
        schema=IMAGE,
        unit="image",
        renamed={"caption": "text"},
        guard=config.guarded,
        resources=config.stage_resources,
        stages=(Fetch(config=config.fetch, into="image"), config.decode, ScoreCaption()),
        # By pixels, not bytes: one picture is compressed in many ways.
        rules=(Rules(unit="image", filters=filters, unique_by="pixel_sha256", unique_reason="duplicate_image"),),
        export_unit="image",
        export_columns=(
            *("key", "url", "page_url", "license", "sha256", "caption", "image", "width", "height"),
            *("orientation", "num_frames", "color_profile", "extra"),
        ),
        waves=config.waves,
        export=config.export,
    )


def main(config: CurateImages) -> None:
    """Curate, or say that it is done."""
    curate(config, curation)


if __name__ == "__main__":
    run(CurateImages, main)
