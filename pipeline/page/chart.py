"""Line charts as small inline SVG: no script, no font, no colour of their own, so that the page's style decides.

Guarantees: at most `MAX_POINTS` points a line whatever the input (neighbours are averaged); values that are not finite
leave a gap; every text is escaped.
"""

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline import log

MAX_POINTS = 300
TEXT_CHARS = 400

# In units of the picture, which the page scales; the margins hold the numbers and the names of the axes.
_WIDTH, _HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 8, 8, 38

Point = tuple[float, float]


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
    points = [point for line in lines for run in line for point in run]
    label = escape(f"{chart.title}: {chart.y_label} over {chart.x_label}")
    head = f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
    if not points:
        return f'{head}<text x="{_WIDTH / 2}" y="{_HEIGHT / 2}" text-anchor="middle">no data</text></svg>'
    plane = _Plane.around(points)
    return "".join([head, *_grid(plane), *_labels(chart), *_curves(lines, plane), "</svg>"])


@dataclass(frozen=True, kw_only=True)
class _Plane:
    """Where values lie on the picture: the ticks of both axes, and the values at the left and right end of x."""

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    left: float
    right: float

    @classmethod
    def around(cls, points: Sequence[Point]) -> "_Plane":
        """Wide enough for all points; y begins and ends at a tick, x where the first line begins and the last ends."""
        x_ticks = _ticks([x for x, _ in points])
        y_ticks = _ticks([y for _, y in points])
        left = min(x_ticks[0], points[0][0])
        right = max(max(x for x, _ in points), x_ticks[0])
        return cls(x_ticks=x_ticks, y_ticks=y_ticks, left=left, right=right)

    def x(self, value: float) -> float:
        """Units of the picture from its left edge."""
        share = (value - self.left) / ((self.right - self.left) or 1)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Units of the picture from its upper edge."""
        low, high = self.y_ticks[0], self.y_ticks[-1]
        share = (value - low) / ((high - low) or 1)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _grid(plane: _Plane) -> Iterator[str]:
    """A rule and a number for each tick of y; numbers alone for those of x, which has no room for rules."""
    for value in plane.y_ticks:
        height = plane.y(value)
        yield (
            f'<path class="rule" d="M{_LEFT} {height:.1f}H{_WIDTH - _RIGHT}"/>'
            f'<text x="{_LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{_number(value, plane.y_ticks)}</text>'
        )
    for value in plane.x_ticks:
        if plane.left <= value <= plane.right:
            number = _number(value, plane.x_ticks)
            yield f'<text x="{plane.x(value):.1f}" y="{_HEIGHT - _BOTTOM + 17}" text-anchor="middle">{number}</text>'


def _labels(chart: Chart) -> Iterator[str]:
    centre = (_LEFT + _WIDTH - _RIGHT) / 2
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    x_label = escape(chart.x_label)
    y_label = escape(chart.y_label)
    yield f'<text class="axis" x="{centre}" y="{_HEIGHT - 6}" text-anchor="middle">{x_label}</text>'
    yield f'<text class="axis" transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">{y_label}</text>'


def _curves(lines: Sequence[list[list[Point]]], plane: _Plane) -> Iterator[str]:
    for number, line in enumerate(lines):
        for run in line:
            path = "L".join(f"{plane.x(x):.1f} {plane.y(y):.1f}" for x, y in run)
            dot = "h0.1" if len(run) == 1 else ""  # a path of no length is not drawn
            yield f'<path class="line line-{number % 4}" d="M{path}{dot}"/>'


def _thinned(line: Line) -> list[list[Point]]:
    """Unbroken runs of finite points, neighbours averaged so that all runs together have at most `MAX_POINTS`."""
    size = max(1, -(-len(line.xs) // MAX_POINTS))
    runs: list[list[Point]] = [[]]
    for start in range(0, len(line.xs), size):
        points = zip(line.xs[start : start + size], line.ys[start : start + size], strict=True)
        group = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        if group:
            runs[-1].append((sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _ticks(values: Sequence[float], count: int = 5) -> list[float]:
    """Some `count` round numbers (1, 2, 5 times a power of ten), from at most the least value to at least the
    greatest."""
    low = min(values)
    high = max(values)
    span = (high - low) or abs(high) or 1.0
    power = 10 ** math.floor(math.log10(span / count))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * count >= span)
    # Rounding must not add a tick beyond a value that is a tick itself.
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, max(last, first + 1) + 1)]


def _number(value: float, ticks: Sequence[float]) -> str:
    step = ticks[1] - ticks[0]
    if not 1e-4 <= abs(step) < 1e6:
        return f"{value:.3g}"
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
