"""The demo's results, gathered from what its jobs left: the figures of report.json and the page of report.html."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.curate import decide, export, waves
from pipeline.curate.journal import Journal
from pipeline.curate.stage import Row
from pipeline.demo.report import Fact, Generated, Ledger, Reconstruction, Report, Sample, Step
from pipeline.models.networks import NETWORKS
from pipeline.page.chart import Chart, Line
from pipeline.records import LEDGER, STATES
from pipeline.storage import Store, read_json, read_table, write_json
from pipeline.tokenize.media import to_png
from pipeline.train import metrics

CORPORA = {"images": "image", "speech": "episode"}
"""Corpus -> the unit of its inputs, which the figures count."""
NETWORK_OF = {"dvae": "dvae", "gpt": "gpt", "decoder": "denoiser"}
"""Folder of a training run -> its network, a key of NETWORKS."""
# What a reader looks at before the page becomes a catalogue.
_PER_REASON = 2
_PER_PROMPT = 4
_KEPT = 6


@dataclass(frozen=True, kw_only=True)
class Results:
    """What report.json holds, the part of it that the evaluation measured, and what report.html shows."""

    figures: dict[str, object]
    evaluation: Mapping[str, Mapping[str, float]]
    page: Report


def collect(store: Store, *, wall_s: float, peak_rss_gb: float) -> Results:
    """Read everything below a finished demo run."""
    # As JSON: the page shows what is written there, and not what this code makes of it.
    ledgers = {corpus: read_json(store.sub(corpus), LEDGER) for corpus in CORPORA}
    curation = {corpus: _book(ledgers[corpus]["steps"][unit]) for corpus, unit in CORPORA.items()}
    curation["speech"]["clips"] = _book(ledgers["speech"]["steps"]["clip"])
    evaluation = read_json(store.sub("evaluation"), "metrics.json")
    run = {"wall_s": round(wall_s, 1), "peak_rss_gb": round(peak_rss_gb, 2)}
    page = Report(
        title="Triptych: the demo",
        subtitle="Curated from a small web on loopback, learned by three networks, drawn from text.",
        facts=_facts(evaluation, **run),
        ledgers=tuple(_ledger(corpus, ledger["exported_rows"], ledger["steps"]) for corpus, ledger in ledgers.items()),
        charts=tuple(_charts(store)),
        reconstructions=tuple(_reconstructions(store.sub("evaluation/reconstructions"))),
        generated=tuple(_generated(store.sub("evaluation/generated"))),
        kept=tuple(_kept(Journal(store.sub("speech")))),
        left=tuple([*_left(Journal(store.sub("speech"))), *_left(Journal(store.sub("images")))]),
    )
    return Results(figures={**run, "curation": curation, **evaluation}, evaluation=evaluation, page=page)


def _book(book: Mapping[str, object]) -> dict[str, object]:
    """What a ledger counts in rows; hours and bytes are left out."""
    return {name: book[name] for name in ("in", *STATES)}


def _facts(evaluation: Mapping[str, Mapping[str, float]], wall_s: float, peak_rss_gb: float) -> tuple[Fact, ...]:
    generation, gpt = evaluation["generation"], evaluation["gpt"]
    decoder, dvae = evaluation["decoder"], evaluation["dvae"]
    return (
        Fact(
            label="generated digits read as asked",
            value=f"{generation['digit_accuracy']:.1%}",
            note=f"{generation['digit_accuracy_low']:.1%} to {generation['digit_accuracy_high']:.1%}, of "
            f"{generation['n']}; real held-out digits: {generation['digit_accuracy_real']:.1%}",
        ),
        Fact(
            label="copies among them",
            value=f"{generation['copies']:.1%}",
            note=f"code for code in the training set; {generation['near_copies']:.1%} nearer to it than all but "
            f"{generation['near_copies_real']:.0%} of held-out digits",
        ),
        Fact(
            label="Fréchet distance to held-out digits",
            value=f"{generation['frechet']:.0f}",
            note=f"of as many real training digits: {generation['frechet_real']:.0f}",
        ),
        Fact(
            label="held-out pictures named right",
            value=f"{gpt['picture_to_text']:.1%}",
            note=f"{gpt['picture_to_text_low']:.1%} to {gpt['picture_to_text_high']:.1%}; chance: "
            f"{gpt['picture_to_text_chance']:.0%}",
        ),
        Fact(
            label="transformer",
            value=f"{gpt['bits_per_code']:.2f} bits",
            note=f"per code, on held-out digits; best table of frequencies: {gpt['bits_per_code_table']:.2f}, chance: "
            f"{gpt['bits_per_code_uniform']:.2f}",
        ),
        Fact(
            label="decoder, PSNR on held-out digits",
            value=f"{decoder['psnr_db']:.2f} dB",
            note=f"DVAE alone: {decoder['psnr_db_dvae']:.2f} dB",
        ),
        Fact(label="codebook in use", value=f"{dvae['codebook_usage']:.1%}", note="of the codes, on held-out digits"),
        Fact(label="wall time", value=f"{wall_s / 60:.1f} min", note="all attempts together"),
        Fact(label="peak memory", value=f"{peak_rss_gb:.1f} GB", note="resident, all processes"),
    )


def _ledger(corpus: str, exported_rows: int, books: Mapping[str, Mapping[str, object]]) -> Ledger:
    steps = sorted(books.items(), key=lambda item: item[0] != CORPORA[corpus])  # inputs before what was cut from them
    return Ledger(
        title=corpus.capitalize(),
        unit=f"{exported_rows:,} rows exported",
        steps=tuple(Step.of(f"{unit}s", book) for unit, book in steps),
    )


def _charts(store: Store) -> Iterator[Chart]:
    for folder, name in NETWORK_OF.items():
        lines = metrics.read(store.sub(folder))
        curves = [
            Line(name=title, xs=[line["step"] for line in found], ys=[line[key] for line in found])
            for title, key in (("loss", "loss"), ("held out", "eval/loss"))
            if (found := [line for line in lines if key in line])
        ]
        yield Chart(title=NETWORKS[name].title, lines=tuple(curves))


def _reconstructions(store: Store) -> Iterator[Reconstruction]:
    for name in store.list():
        if name.endswith("-original.png"):
            stem = name.removesuffix("-original.png")
            yield Reconstruction(
                original=store.read(name),
                dvae=store.read(f"{stem}-dvae.png"),
                decoder=store.read(f"{stem}-decoder.png"),
            )


def write_generated(store: Store, images: NDArray[np.float32], prompts: list[str]) -> None:
    """Keep four generated images of each prompt for the page; `images` (N, C, H, W) in [-1, 1]."""
    shown: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        if len(shown.setdefault(prompt, [])) < _PER_PROMPT:
            shown[prompt].append(i)
    for number, places in enumerate(shown.values()):
        for place, i in enumerate(places):
            store.write(f"{number:02d}-{place}.png", to_png(images[i]))
    write_json(store, "prompts.json", list(shown))


def _generated(store: Store) -> Iterator[Generated]:
    names = store.list()
    for number, prompt in enumerate(read_json(store, "prompts.json")):
        images = [store.read(name) for name in names if name.startswith(f"{number:02d}-")]
        yield Generated(prompt=prompt, images=tuple(images))


def _kept(journal: Journal) -> Iterator[Sample]:
    exported = export.manifest_of(journal)
    if exported is not None and exported.files:
        for row in _rows(journal, exported.files[0].path, ["audio", "text", "url", "duration_s"])[:_KEPT]:
            yield Sample(
                text=row["text"] or "", url=row["url"] or "", note=f"{row['duration_s']:.1f} s", media=row["audio"]
            )


def _left(journal: Journal) -> Iterator[Sample]:
    """A few rows for each way to leave, with their media where a wave holds them."""
    table = decide.verdicts(journal, read_json(journal.store, LEDGER)["verdicts"])
    # Clips of a dropped episode say no more than the episode, which is shown.
    table = table.filter(
        pc.and_(pc.not_equal(table["state"], "kept"), pc.not_equal(table["reason"], "episode_dropped"))
    )
    shown: dict[tuple[str, str], int] = {}
    for verdict in table.to_pylist():
        way = verdict["state"], verdict["reason"]
        shown[way] = shown.get(way, 0) + 1
        if shown[way] > _PER_REASON:
            continue
        row = _rows(journal, verdict["file"])[verdict["row"]]
        is_image = verdict["unit"] == "image"
        media = row["image"] if is_image else row["audio"]
        # What could not be decoded is still held as it came.
        is_shown = bool(media) and (not is_image or media.startswith(b"\x89PNG"))
        text = row["caption"] if is_image else row["text"] or (row["transcript"] or "")[:200]
        yield Sample(
            text=text or "",
            state=verdict["state"],
            reason=verdict["reason"],
            note=verdict["detail"] or "",
            url=verdict["url"] or "",
            media=media if is_shown else None,
            media_type="image/png" if is_image else "audio/flac",
        )


def _rows(journal: Journal, path: str, columns: list[str] | None = None) -> list[Row]:
    """Rows of an exported shard, or of the part of a wave that has these scores."""
    exported = export.manifest_of(journal)
    for file in exported.files if exported else ():
        if file.path == path:
            return read_table(journal.store, file, columns).to_pylist()
    part = next(part for part in waves.parts(journal) if part.scores.path == path)
    return waves.read_part(journal.store, part, columns).to_pylist()
