import types

import pytest

from pipeline.train.launch import worker
from pipeline.train.launch.worker import RaySupervisor


@pytest.mark.parametrize(
    ("deadline_s", "expected"), [(130, [100, 115, 122.5, 126.5, 128.5]), (0, [100, 160, 190, 205, 212.5])]
)
def test_a_node_that_is_to_go_is_saved_from_at_once_and_then_in_half_of_the_time_that_is_left(
    monkeypatch, deadline_s, expected
):
    info = types.SimpleNamespace(deadline_ms=1000 * deadline_s or None)
    context = types.SimpleNamespace(preemption_context=types.SimpleNamespace(preemption_info=None))
    now = [100.0]
    monkeypatch.setattr(worker, "get_train_context", lambda: context)
    monkeypatch.setattr(worker.time, "time", lambda: now[0])
    notice, found = worker._Notice(), []
    assert not notice.due()
    context.preemption_context.preemption_info = info
    while now[0] < 213:
        if notice.due():
            found.append(now[0])
        now[0] += 0.5
    assert found == expected


def test_numbers_are_gauges_of_the_run(monkeypatch):
    class Gauge:
        def __init__(self, name, description, tag_keys):
            assert name not in shown and tag_keys == ("run",)
            self._name = name

        def set(self, value, tags):
            shown.setdefault(self._name, []).append((value, tags["run"]))

    shown = {}
    monkeypatch.setattr(worker, "Gauge", Gauge)
    supervisor = RaySupervisor(None, "gpt", 9)
    supervisor.measured(1, {"loss": 2.5, "eval/psnr_db": 30.0})
    supervisor.measured(2, {"loss": 2.0})
    assert shown == {
        "triptych_train_step": [(1, "gpt"), (2, "gpt")],
        "triptych_train_loss": [(2.5, "gpt"), (2.0, "gpt")],
        "triptych_train_eval_psnr_db": [(30.0, "gpt")],
    }
