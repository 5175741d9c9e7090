"""Line charts as small inline SVG: no script, no font, no colour of their own, so that the page's style decides.

Guarantees: at most `MAX_POINTS` points a line whatever the input (neighbours are averaged); values that are not finite
leave a gap; every text is escaped.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import log

MAX_POINTS = 300
TEXT_CHARS = 400

_WIDTH, _HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 8, 8, 38


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve: `xs` rise, `ys` are as many."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.xs) != len(self.ys):
            raise ValueError(f"line {self.name!r} has {len(self.xs)} xs and {len(self.ys)} ys; they must be as many")


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Lines over a common x axis."""

    title: str
    lines: tuple[Line, ...]
    x_label: str = "step"
    y_label: str = "loss"


def escape(text: str) -> str:
    """Text from anywhere, on one line: control and direction characters visible, markup escaped, length bounded."""
    return html.escape(log.clean(" ".join(text.split()), TEXT_CHARS))


def svg(chart: Chart) -> str:
    """The chart as an `<svg>` element; classes `line-0`, `line-1`, … colour its lines."""
    lines = [_thinned(line) for line in chart.lines]
    points = [(x, y) for line in lines for part in line for x, y in part]
    label = escape(f"{chart.title}: {chart.y_label} over {chart.x_label}")
    head = f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
    if not points:
        return f'{head}<text x="{_WIDTH / 2}" y="{_HEIGHT / 2}" text-anchor="middle">no data</text></svg>'
    xs, ys = _ticks([x for x, _ in points]), _ticks([y for _, y in points])
    left, right = min(xs[0], points[0][0]), max(max(x for x, _ in points), xs[0])
    low, high = ys[0], ys[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - left) / ((right - left) or 1)
        up = (y - low) / ((high - low) or 1)
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    out = [head]
    for y in ys:
        at = place(left, y)[1]
        out.append(
            f'<path class="rule" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>'
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_number(y, ys)}</text>'
        )
    for x in xs:
        if left <= x <= right:
            out.append(
                f'<text x="{place(x, low)[0]:.1f}" y="{_HEIGHT - _BOTTOM + 17}" text-anchor="middle">'
                f"{_number(x, xs)}</text>"
            )
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    out.append(
        f'<text class="axis" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{escape(chart.x_label)}</text>"
    )
    out.append(
        f'<text class="axis" transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(chart.y_label)}</text>"
    )
    for number, line in enumerate(lines):
        for part in line:
            path = "L".join("{:.1f} {:.1f}".format(*place(x, y)) for x, y in part)
            out.append(f'<path class="line line-{number % 4}" d="M{path}{"h0.1" if len(part) == 1 else ""}"/>')
    return "".join([*out, "</svg>"])


def _thinned(line: Line) -> list[list[tuple[float, float]]]:
    """Unbroken runs of finite points, neighbours averaged so that all runs together have at most `MAX_POINTS`."""
    size = max(1, -(-len(line.xs) // MAX_POINTS))
    parts: list[list[tuple[float, float]]] = [[]]
    for at in range(0, len(line.xs), size):
        group = [
            (x, y)
            for x, y in zip(line.xs[at : at + size], line.ys[at : at + size], strict=True)
            if math.isfinite(x) and math.isfinite(y)
        ]
        if group:
            parts[-1].append((sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)))
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


def _ticks(values: Sequence[float], about: int = 5) -> list[float]:
    """Round numbers (1, 2, 5 times a power of ten) from at most the least value to at least the greatest."""
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    power = 10 ** math.floor(math.log10(span / about))
    step = next(power * m for m in (1, 2, 5, 10) if power * m * about >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, max(last, first + 1) + 1)]


def _number(value: float, ticks: Sequence[float]) -> str:
    step = ticks[1] - ticks[0]
    if not 1e-4 <= abs(step) < 1e6:
        return f"{value:.3g}"
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
