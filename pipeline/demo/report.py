"""The demo's result as one self-contained HTML page: ledgers, loss curves, pictures, and clips to listen to.

Guarantees: the page loads nothing from anywhere and runs no script (its Content-Security-Policy says so to the
browser); text from the web is escaped and bounded in length, its control and bidi characters are made visible, and its
URLs lose their secrets; ledgers that do not balance are marked in red. Costs the size of the media in it, times 4/3.
"""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from pipeline.page import chart, style
from pipeline.page.chart import escape
from pipeline.redact import redacted_text, redacted_url

MEDIA_TYPES = ("audio/flac", "audio/wav", "audio/mpeg", "audio/ogg", "image/png")
"""What a sample may be; browsers play or show all of them."""

_LEFT = ("dropped", "failed", "unknown", "deferred")
_POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One figure; `note` says what to compare it with."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step of curation made of its input: how many came, how many stay, and why the others left."""

    name: str
    incoming: int
    kept: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    deferred: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, book: Mapping[str, object]) -> "Step":
        """A step from the JSON form of a ledger: `in`, `kept`, and reason to count under each way to leave."""
        reasons = {state: cast(Mapping[str, int], book.get(state, {})) for state in _LEFT}
        return cls(name=name, incoming=cast(int, book["in"]), kept=cast(int, book["kept"]), **reasons)

    def total(self, state: str) -> int:
        """How many left in one state."""
        return sum(getattr(self, state).values())

    @property
    def missing(self) -> int:
        """How many are unaccounted for; 0 when the books balance."""
        return self.incoming - self.kept - sum(self.total(state) for state in _LEFT)


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """One corpus; `unit` is what is counted. The reasons of all steps are listed together under the table."""

    title: str
    unit: str
    steps: tuple[Step, ...]

    def reasons(self, state: str) -> list[tuple[str, int]]:
        """Why inputs left in one state, at whichever step, and how many: the most frequent reason first."""
        counts: Counter[str] = Counter()
        for step in self.steps:
            counts.update(getattr(step, state))
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """One held-out picture, as PNG files."""

    original: bytes
    dvae: bytes
    decoder: bytes


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What was drawn for one prompt, as PNG files."""

    prompt: str
    images: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row of a corpus to look at or listen to; `media` is None where the bytes never came."""

    text: str
    state: Literal["kept", "dropped", "failed", "unknown", "deferred"] = "kept"
    reason: str = ""
    note: str = ""
    url: str = ""
    media: bytes | None = None
    media_type: str = "audio/flac"

    def __post_init__(self) -> None:
        if self.media_type not in MEDIA_TYPES:
            raise ValueError(f"media type {self.media_type!r} is none of {', '.join(MEDIA_TYPES)}")


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that the page shows; an empty part is left out."""

    title: str
    subtitle: str = ""
    facts: tuple[Fact, ...] = ()
    ledgers: tuple[Ledger, ...] = ()
    charts: tuple[chart.Chart, ...] = ()
    reconstructions: tuple[Reconstruction, ...] = ()
    generated: tuple[Generated, ...] = ()
    kept: tuple[Sample, ...] = ()
    left: tuple[Sample, ...] = ()


def render(report: Report) -> str:
    """The page as HTML, to be written in UTF-8."""
    sections = [
        _section("", "", "min(45%, 14rem)", [_fact(fact) for fact in report.facts]),
        _ledgers(report.ledgers),
        _section("Learning curves", "", "21rem", [_chart(curves) for curves in report.charts]),
        _section(
            "Reconstructions",
            "Held-out pictures through the discrete VAE and then the diffusion decoder.",
            "13rem",
            [_reconstruction(triple) for triple in report.reconstructions],
        ),
        _section(
            "Generated",
            "Drawn from text alone: codes from the transformer, pixels from the decoder.",
            "24rem",
            [_generated(drawn) for drawn in report.generated],
        ),
        _section(
            "Kept",
            "What the models learn from: a few of the rows that passed every filter.",
            "19rem",
            [_sample(sample) for sample in report.kept],
        ),
        _section(
            "Left out",
            "Each with the reason that the ledger gives for it.",
            "19rem",
            [_sample(sample) for sample in report.left],
        ),
    ]
    title = escape(report.title)
    subtitle = escape(report.subtitle)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{style.CSS}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        f'<p class="soft">{subtitle}</p>\n'
        + "\n".join(section for section in sections if section)
        + "\n</main>\n</body>\n</html>\n"
    )


def _section(title: str, introduction: str, least: str, cards: Sequence[str]) -> str:
    """Cards side by side, each `least` wide or more; nothing if there are none."""
    if not cards:
        return ""
    head = f"<h2>{title}</h2>\n" if title else ""
    lead = f'<p class="soft">{introduction}</p>\n' if introduction else ""
    body = "\n".join(cards)
    return f'<section>\n{head}{lead}<div class="grid" style="--least: {least}">\n{body}\n</div>\n</section>'


def _fact(fact: Fact) -> str:
    note = f"<span>{escape(fact.note)}</span>" if fact.note else ""
    return f'<div class="card fact"><span>{escape(fact.label)}</span><b>{escape(fact.value)}</b>{note}</div>'


# ---- ledgers ----


def _ledgers(ledgers: Sequence[Ledger]) -> str:
    if not ledgers:
        return ""
    return (
        '<section>\n<h2>Ledger</h2>\n<p class="soft">Every input ends in exactly one state.</p>\n'
        + "\n".join(_ledger(ledger) for ledger in ledgers)
        + "\n</section>"
    )


def _ledger(ledger: Ledger) -> str:
    heads = "".join(f"<th>{name}</th>" for name in ("step", "in", "kept", *_LEFT, ""))
    rows = "\n".join(_step(step) for step in ledger.steps)
    alarms = "".join(
        f'<p class="alarm">{escape(step.name)} does not balance: '
        f"{step.missing:,} of {step.incoming:,} unaccounted for.</p>"
        for step in ledger.steps
        if step.missing
    )
    listed = "".join(
        f'<span class="{state}"><i class="dot"></i>{state}: <code>{escape(reason)}</code> <b>{count:,}</b></span>'
        for state in _LEFT
        for reason, count in ledger.reasons(state)
    )
    title = f'{escape(ledger.title)} <span class="soft">({escape(ledger.unit)})</span>'
    return (
        f'<div class="card wide"><h3>{title}</h3>{alarms}<table><thead><tr>{heads}</tr></thead><tbody>\n{rows}\n'
        f'</tbody></table><div class="reasons">{listed}</div></div>'
    )


def _step(step: Step) -> str:
    counts = {"kept": step.kept} | {state: step.total(state) for state in _LEFT}
    numbers = (step.incoming, *counts.values())
    cells = "".join(f"<td{'' if number else ' class=zero'}>{number:,}</td>" for number in numbers)
    # Widths in proportion by the browser's own layout, without a script.
    bar = "".join(
        f'<i class="{state}" style="flex: {count}" title="{state}: {count:,}"></i>'
        for state, count in counts.items()
        if count
    )
    return f'<tr><td>{escape(step.name)}</td>{cells}<td class="share"><div class="bar">{bar}</div></td></tr>'


# ---- curves, pictures, samples ----


def _chart(curves: chart.Chart) -> str:
    key = "".join(
        f'<span class="line-{n % 4}"><i></i>{escape(line.name)}</span>' for n, line in enumerate(curves.lines)
    )
    return f'<div class="card"><h3>{escape(curves.title)}</h3>{chart.svg(curves)}<div class="key">{key}</div></div>'


def _reconstruction(triple: Reconstruction) -> str:
    named = (("original", triple.original), ("discrete VAE", triple.dvae), ("decoder", triple.decoder))
    pictures = "".join(_picture(png, name) for name, png in named)
    return f'<div class="card triple">{pictures}<span>original</span><span>DVAE</span><span>decoder</span></div>'


def _generated(drawn: Generated) -> str:
    pictures = "".join(_picture(png, drawn.prompt) for png in drawn.images)
    return f'<div class="card"><h3>“{escape(drawn.prompt)}”</h3><div class="drawn">{pictures}</div></div>'


def _sample(sample: Sample) -> str:
    why = f": <code>{escape(sample.reason)}</code>" if sample.reason else ""
    note = f"<small>{escape(redacted_text(sample.note))}</small>" if sample.note else ""
    place = f"<small><code>{escape(redacted_url(sample.url).partition('?')[0])}</code></small>" if sample.url else ""
    media = f'<div class="media">{_player(sample.media, sample)}</div>' if sample.media is not None else ""
    return (
        f'<div class="card sample"><div><span class="chip {sample.state}">{sample.state}{why}</span></div>'
        f"<p>{escape(sample.text)}</p>{note}{place}{media}</div>"
    )


def _player(media: bytes, sample: Sample) -> str:
    if sample.media_type.startswith("image/"):
        return _picture(media, sample.text)
    # Lengths are shown, and nothing is played by itself.
    return f'<audio controls preload="metadata" src="{_data(media, sample.media_type)}"></audio>'


def _picture(png: bytes, name: str) -> str:
    return f'<img alt="{escape(name)}" src="{_data(png, "image/png")}">'


def _data(body: bytes, media_type: str) -> str:
    # In the page itself, which loads nothing from anywhere.
    return f"data:{media_type};base64,{base64.b64encode(body).decode()}"
