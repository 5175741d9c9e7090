"""What is counted for Prometheus, and that nothing is outside a Ray session."""

from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from pipeline.curate import metrics


class Metric:
    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.name, self.tag_keys = name, tag_keys

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == set(self.tag_keys) and value > 0
        SEEN[self.name, *tags.values()] += value

    def set(self, value: float, tags: dict[str, str]) -> None:
        SEEN[self.name, *tags.values()] = value


SEEN: Counter[Any] = Counter()


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> None:
    SEEN.clear()
    for maker in (metrics._counter, metrics._gauge):
        maker.cache_clear()
    monkeypatch.setattr("ray.util.metrics.Counter", Metric)
    monkeypatch.setattr("ray.util.metrics.Gauge", Metric)
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    yield
    for maker in (metrics._counter, metrics._gauge):
        maker.cache_clear()


def test_rows_bytes_states_and_seconds_of_a_stage(session: None) -> None:
    table = pa.table({"state": pa.array([None, None, "failed"], pa.string())})
    metrics.observe("Decode", table, 1.5)
    metrics.observe("Decode", table, 0.5)
    assert SEEN == {
        ("triptych_stage_rows", "Decode", "scored"): 4,
        ("triptych_stage_rows", "Decode", "failed"): 2,
        ("triptych_stage_bytes", "Decode"): 2 * table.nbytes,
        ("triptych_stage_seconds", "Decode"): 2.0,
    }


def test_waves_and_the_queue(session: None) -> None:
    metrics.queue("speech", 7)
    metrics.queue("speech", 3)
    metrics.committed("speech", {"clip/dropped/too_short": 2, "clip/scored/": 5}, 100, 2.0)
    assert SEEN["triptych_queue_depth", "speech"] == 3 and SEEN["triptych_waves", "speech"] == 1
    assert SEEN["triptych_wave_rows", "speech", "clip", "dropped", "too_short"] == 2
    assert SEEN["triptych_wave_rows", "speech", "clip", "scored", ""] == 5
    assert SEEN["triptych_wave_bytes", "speech"] == 100 and SEEN["triptych_wave_seconds", "speech"] == 2.0


def test_outside_a_session_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.util.metrics.Counter", Metric)
    SEEN.clear()
    metrics.observe("Decode", pa.table({"state": ["kept"]}), 1.0)
    metrics.queue("speech", 1)
    metrics.committed("speech", {"a/b/c": 1}, 1, 1.0)
    assert not SEEN


def test_a_reason_of_any_text_costs_no_committed_wave(session: None) -> None:
    metrics.committed("toy", {"clip/failed/\x9bü": 2}, 1, 1.0)
    assert SEEN["triptych_wave_rows", "toy", "clip", "failed", "\\x9b\\xfc"] == 2
