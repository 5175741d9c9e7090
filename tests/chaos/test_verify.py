"""Lost and doubled rows are counted, and seen."""

from collections import Counter

from pipeline.chaos.verify import Findings, compare, examine
from pipeline.storage import Store


def found(**rows: int) -> Findings:
    return Findings(rows=Counter(rows), exported=(), orphan_bytes=0)


def test_lost_and_doubled_are_told_apart(tmp_path) -> None:
    wanted = found(a=1, b=1, c=1)
    assert compare(wanted, wanted) == (0, 0)
    assert compare(found(a=1, c=1), wanted) == (1, 0)
    assert compare(found(a=3, b=1, c=1), wanted) == (0, 2)
    assert compare(found(a=2, c=1, d=1), wanted) == (1, 2)
    assert compare(examine(Store(str(tmp_path))), wanted) == (3, 0), "a run that left nothing lost everything"
