"""A row that cannot be told is named; `tests/jobs/test_curations` tells a real one."""

import pytest

from pipeline.curate.explain import matching
from pipeline.curate.journal import Journal
from tests.curate.finished import finished


def test_a_url_is_found_in_any_spelling_inputs_first(tmp_path) -> None:
    url = "https://example.org/caf%C3%A9.jpg"
    store = finished(
        f"{tmp_path}/a",
        [
            {"key": "c", "input_key": "e", "url": url},
            {"key": "e", "input_key": "e", "url": url},
            {"key": "x", "input_key": "x", "url": "https://example.org/"},
        ],
    )
    for spelling in (url, "https://example.org/café.jpg", "HTTPS://EXAMPLE.org:443/caf%c3%a9.jpg#top"):
        assert [row["key"] for row in matching(Journal(store), spelling, "0123456789ab")] == ["e", "c"]
    with pytest.raises(ValueError, match="no row of .* was had from https://example.org/other"):
        matching(Journal(store), "https://example.org/other", "0123456789ab")


def test_a_key_must_name_exactly_one_row(tmp_path) -> None:
    store = finished(
        f"{tmp_path}/a", [{"key": "ab1", "unit": "image", "state": "kept"}, {"key": "ab2", "unit": "image"}]
    )
    with pytest.raises(ValueError, match="2 rows of .* begins with 'ab': ab1, ab2"):
        matching(Journal(store), "ab", "0123456789ab")
    with pytest.raises(ValueError, match="0 rows of"):
        matching(Journal(store), "x", "0123456789ab")
