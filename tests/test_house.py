"""The house's own rules that a machine can count: sizes in tokens, open types, names that say what they are."""

import dataclasses

from tests import house

EVERY = [house.measured(path) for path in house.sources()]


def test_files_and_functions_are_small() -> None:
    assert house.over_budget(EVERY) == []


def test_few_signatures_are_open() -> None:
    open_ones = [name for file in EVERY for name in file.any_signatures]
    assert len(open_ones) < house.ANY_SIGNATURES, open_ones


def test_public_names_say_what_they_are() -> None:
    assert [name for file in EVERY for name in file.undocumented] == []


SOURCE = '''
"""A module."""
from typing import Any


class Box:
    """Holds."""

    size: int
    """In bytes."""
    depth: int  # in cm

    def put(self, value: "dict[str, Any]") -> None:  # noqa: N802
        # A reason.
        def inner(x: int) -> int:
            return x + 1

        self.value = """not
        a docstring"""
'''


def test_what_is_counted() -> None:
    file = house.figures("box.py", SOURCE)
    assert file.functions == {"box.py:Box.put": 31, "box.py:Box.put.inner": 14}
    assert (file.tokens, file.lines, file.comments) == (44, 9, 2)
    assert file.any_signatures == ["box.py:Box.put"] and file.undocumented == ["box.py:Box.put"]


def test_what_is_too_large_is_named() -> None:
    def function(name: str, tokens: int) -> house.Figures:
        return house.figures(f"{name}.py", "def f() -> None:\n    f()\n" + "    f()\n" * ((tokens - 10) // 3))

    assert house.over_budget([function("small", house.FUNCTION_TOKENS)]) == []
    assert house.over_budget([function("large", house.FUNCTION_TOKENS + 3)]) == ["352 large.py:f"]
    loop = dataclasses.replace(function("x", 0), functions={house.LOOP: house.FUNCTION_TOKENS + 1})
    assert house.over_budget([loop]) == []


def test_the_table_adds_up() -> None:
    rows = [line.split() for line in house.table(EVERY).splitlines()]
    tokens = {row[0]: int(row[2].replace(",", "")) for row in rows[1:]}
    assert tokens.pop("all") == sum(tokens.values()) == sum(file.tokens for file in EVERY)
    assert {"jobs", "pipeline", "pipeline/train"} <= tokens.keys()
