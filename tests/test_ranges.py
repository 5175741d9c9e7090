"""Ranges of numbers: what is refused, and in which words."""

from types import SimpleNamespace

import pytest

from pipeline.ranges import check_range


@pytest.mark.parametrize(
    ("limits", "bad", "said"),
    [
        ({"low": 1}, 0, "lr is 0; use 1 or more"),
        ({"low": 0, "high": 1}, 1.5, "lr is 1.5; use 0 or more, 1 at most"),
        ({"above": 0, "high": 1}, 0, "lr is 0; use more than 0, 1 at most"),
        ({"low": 0, "below": 2}, 2, "lr is 2; use 0 or more, less than 2"),
        ({"low": 0}, float("nan"), "lr is nan; use 0 or more"),
        ({"low": 0}, float("inf"), "lr is inf; use a finite number, 0 or more"),
        ({"low": 1}, (2, 0), r"lr is \(2, 0\); use 1 or more"),
    ],
)
def test_a_range_names_what_is_outside(limits: dict[str, float], bad: float, said: str) -> None:
    for fine in (1, None):
        check_range(SimpleNamespace(lr=fine), "lr", **limits)
    with pytest.raises(ValueError, match=f"^{said}$"):
        check_range(SimpleNamespace(size=1, lr=bad), "size", "lr", **limits)
