"""The example has what breaks other checkpoints: fan-out, a filter, inputs that fail."""
from pipeline.curate.chaos import example


def test_the_listing_is_stable_and_the_baseline_fans_out_and_filters() -> None:
    rows = example.listing(24)
    assert rows == example.listing(24) and len({row["key"] for row in rows}) == 24
    wanted = example.baseline_rows(24)
    failing = [row for row in rows if row["order"] % 9 == 4]
    assert len(failing) == 3 and len(wanted) == (24 - 3) * 2
    assert {part for _, part in wanted} == {1, 2} and not {row["key"] for row in failing} & {key for key, _ in wanted}
