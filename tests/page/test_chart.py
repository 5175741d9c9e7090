import math
import re
from xml.etree import ElementTree

import pytest

from pipeline.page import chart

SVG = "{http://www.w3.org/2000/svg}"


def _draw(*lines: chart.Line, **options: str) -> ElementTree.Element:
    text = chart.svg(chart.Chart(title="Loss", lines=lines, **options))
    return ElementTree.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def _paths(drawn: ElementTree.Element) -> list[list[tuple[float, float]]]:
    found = [path.get("d") for path in drawn.iter(f"{SVG}path") if "line" in path.get("class")]
    return [[tuple(map(float, pair.split())) for pair in d[1:].split("h")[0].split("L")] for d in found]


def test_points_lie_where_the_axes_say():
    drawn = _draw(chart.Line(name="a", xs=[0, 5, 10], ys=[0.0, 1.0, 0.25]))
    labels = {text.text: text for text in drawn.iter(f"{SVG}text")}
    assert {"0", "10", "0.0", "1.0", "step", "loss"} <= set(labels)
    (left, bottom), (middle, top), (right, quarter) = _paths(drawn)[0]
    assert [float(labels[x].get("x")) for x in ("0", "10")] == [left, right]
    assert middle == pytest.approx((left + right) / 2, abs=0.1)
    assert quarter == pytest.approx(bottom + (top - bottom) / 4, abs=0.1) and top < bottom
    assert float(labels["0.0"].get("y")) == pytest.approx(bottom + 4, abs=0.1)
    assert float(labels["1.0"].get("y")) == pytest.approx(top + 4, abs=0.1)


@pytest.mark.parametrize(
    "values",
    [
        [0.0, 1.0],
        [4.21, 9.9],
        [-3, 8],
        [1e-6, 3e-6],
        [2e7, 9e7],
        [5.0, 5.0],
        [0.0],
        [-2.0, -2.0],
        [0.1, 0.3],
        [99, 101],
    ],
)
def test_ticks_are_round_even_and_enclose_the_values(values):
    ticks = chart._ticks(values)
    gaps = [b - a for a, b in zip(ticks, ticks[1:], strict=False)]
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= min(values) + 1e-9 * abs(min(values)) and ticks[-1] >= max(values) - 1e-9 * abs(max(values))
    assert gaps == pytest.approx([gaps[0]] * len(gaps))
    mantissa = gaps[0] / 10 ** math.floor(math.log10(gaps[0]) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-6
    labels = [chart._number(tick, ticks) for tick in ticks]
    assert len(set(labels)) == len(labels)


def test_long_lines_are_averaged_not_sampled():
    xs = list(range(100_000))
    (part,) = chart._thinned(chart.Line(name="a", xs=xs, ys=[x % 2 for x in xs]))
    assert len(part) <= chart.MAX_POINTS
    assert part[0][0] == pytest.approx(sum(xs[:334]) / 334)
    assert {y for _, y in part[:-1]} == {0.5}


def test_values_that_are_not_finite_leave_a_gap():
    ys = [1.0, 2.0, math.nan, math.inf, 3.0]
    drawn = _draw(chart.Line(name="a", xs=range(5), ys=ys))
    assert [len(path) for path in _paths(drawn)] == [2, 1]
    assert "nan" not in ElementTree.tostring(drawn, encoding="unicode")


def test_nothing_to_draw_is_said():
    for line in (chart.Line(name="a", xs=[], ys=[]), chart.Line(name="a", xs=[1], ys=[math.nan])):
        assert [text.text for text in _draw(line).iter(f"{SVG}text")] == ["no data"]
    assert _paths(_draw(chart.Line(name="a", xs=[], ys=[]))) == []


def test_lines_have_classes_of_their_own_and_texts_are_escaped():
    lines = [chart.Line(name=str(n), xs=[0, 1], ys=[0, n]) for n in range(3)]
    drawn = _draw(*lines, y_label="<script>&", x_label='"x"')
    assert [p.get("class") for p in drawn.iter(f"{SVG}path") if "line" in p.get("class")] == [
        "line line-0",
        "line line-1",
        "line line-2",
    ]
    assert "<script>&" in [text.text for text in drawn.iter(f"{SVG}text")]
    assert not re.search(r"<script", ElementTree.tostring(drawn, encoding="unicode"))


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="2 xs and 1 ys"):
        chart.Line(name="a", xs=[1, 2], ys=[1])
