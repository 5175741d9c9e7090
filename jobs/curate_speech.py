"""Curate transcribed speech: podcast feeds and pages with captions -> fetched, cut into clips, scored, judged,
exported.

python -m jobs.curate_speech jobs/configs/curate_speech_demo.toml --sources feed=http://127.0.0.1:8765/podcast/feed.xml
python -m jobs.curate_speech --run-dir s3://bucket/speech --sources feed=https://example.org/feed.xml
"""

from dataclasses import dataclass, field

from jobs._curate import CurateConfig, curate
from jobs._main import run
from pipeline.curate.audio.filters import DropClipDuration, DropClipped, DropNoSpeech, DropQuiet, DropTextRate
from pipeline.curate.audio.segment import CutClips
from pipeline.curate.decide import Rules
from pipeline.curate.fetch.discover import Discover, DiscoverConfig
from pipeline.curate.fetch.download import FetchEpisode
from pipeline.curate.fetch.http import FetchConfig
from pipeline.curate.run import Curation
from pipeline.curate.text.forensics import (
    DropAutoTranscript,
    DropLowerTranscript,
    DropRollingTranscript,
    DropUnpunctuatedTranscript,
    DropUpperTranscript,
    ScoreTranscript,
)
from pipeline.curate.text.language import DetectLanguage, DropLanguageMismatch
from pipeline.curate.waves import WaveConfig
from pipeline.records import CLIP


@dataclass(frozen=True, kw_only=True)
class CurateSpeech(CurateConfig):
    """Curate transcribed speech from podcast feeds and video pages."""

    sources: tuple[str, ...]
    """Listings, each as KIND=URL with KIND one of feed, video_page."""
    fetch: FetchConfig = field(default_factory=lambda: FetchConfig(max_bytes=256 << 20, timeout_s=600.0))
    cut: CutClips = field(default_factory=CutClips)
    rolling: DropRollingTranscript = field(default_factory=DropRollingTranscript)
    upper: DropUpperTranscript = field(default_factory=DropUpperTranscript)
    lower: DropLowerTranscript = field(default_factory=DropLowerTranscript)
    unpunctuated: DropUnpunctuatedTranscript = field(default_factory=DropUnpunctuatedTranscript)
    language: DropLanguageMismatch = field(default_factory=DropLanguageMismatch)
    duration: DropClipDuration = field(default_factory=DropClipDuration)
    speech: DropNoSpeech = field(default_factory=DropNoSpeech)
    quiet: DropQuiet = field(default_factory=DropQuiet)
    clipped: DropClipped = field(default_factory=DropClipped)
    text_rate: DropTextRate = field(default_factory=DropTextRate)
    waves: WaveConfig = field(default_factory=lambda: WaveConfig(wave_rows=256, split_rows=4))


def rules(config: CurateSpeech) -> tuple[Rules, Rules]:
    """What an episode and then a clip has to pass. Rolling captions come first: they are lower-case as well."""
    episode = (DropAutoTranscript(), config.rolling, config.upper, config.lower, config.unpunctuated, config.language)
    clip = (config.duration, config.speech, config.quiet, config.clipped, config.text_rate)
    return (
        Rules(unit="episode", filters=episode, unique_by="sha256", unique_reason="duplicate_audio"),
        Rules(unit="clip", filters=clip),
    )


def curation(config: CurateSpeech) -> Curation:
    """The run that the config describes."""
    return Curation(
        name="curate_speech",
        sources=config.sources,
        discover=Discover(config=DiscoverConfig(fetch=config.fetch, lists=config.lists)),
        schema=CLIP,
        unit="episode",
        guard=config.guarded,
        resources=config.stage_resources,
        stages=(FetchEpisode(config=config.fetch), ScoreTranscript(), DetectLanguage(), config.cut),
        rules=rules(config),
        export_unit="clip",
        export_columns=(
            "key",
            "url",
            "page_url",
            "license",
            "audio",
            "text",
            "language",
            "start_s",
            "end_s",
            "duration_s",
            "sample_rate",
            "extra",
        ),
        waves=config.waves,
        export=config.export,
    )


def main(config: CurateSpeech) -> None:
    """Curate, or say that it is done."""
    curate(config, curation)


if __name__ == "__main__":
    run(CurateSpeech, main)
