"""Each row that differs between two runs is named, with the kind of difference."""

import pytest

from pipeline.curate import diff
from pipeline.curate.journal import Journal
from pipeline.storage import Store
from tests.curate.finished import finished

SAME = {"key": "same", "unit": "image", "state": "kept", "sha256": "a"}


def test_every_kind_of_difference(tmp_path) -> None:
    a = finished(
        f"{tmp_path}/a",
        [
            SAME,
            SAME | {"key": "gone"},
            SAME | {"key": "threshold"},
            SAME | {"key": "bytes"},
            SAME | {"key": "flaky", "state": "failed", "reason": "timeout"},
        ],
    )
    b = finished(
        f"{tmp_path}/b",
        [
            SAME,
            SAME | {"key": "threshold", "state": "dropped", "reason": "image_flat"},
            SAME | {"key": "bytes", "sha256": "b"},
            SAME | {"key": "flaky"},
            SAME | {"key": "new"},
        ],
    )
    assert [(c.key, c.why, c.before, c.after) for c in diff.rows(Journal(a), Journal(b))] == [
        ("gone", "only_in_a", "kept", "absent"),
        ("threshold", "verdict", "kept", "dropped image_flat"),
        ("bytes", "content", "sha256=a", "sha256=b"),
        ("flaky", "error", "failed timeout", "kept"),
        ("new", "only_in_b", "absent", "kept"),
    ]
    assert list(diff.rows(Journal(a), Journal(a))) == []


def test_an_unfinished_run_is_named(tmp_path) -> None:
    with pytest.raises(ValueError, match="no finished curation run"):
        list(diff.rows(Journal(Store(str(tmp_path))), Journal(Store(str(tmp_path)))))
