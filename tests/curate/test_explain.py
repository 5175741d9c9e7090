"""A row that cannot be told is named; `tests/jobs/test_curations` tells a real one."""
import pytest

from pipeline.curate.explain import explain
from tests.curate.finished import finished


def test_a_key_must_name_exactly_one_row(tmp_path) -> None:
    store = finished(f"{tmp_path}/a", [{"key": "ab1", "unit": "image", "state": "kept"}, {"key": "ab2", "unit": "image"}])
    with pytest.raises(ValueError, match="2 rows of .* begins with 'ab': ab1, ab2"):
        explain(store, "ab", (), "v1")
    with pytest.raises(ValueError, match="0 rows of"):
        explain(store, "x", (), "v1")
