import types

import pytest

from pipeline.train.launch.fit import monitor
from pipeline.train.launch.monitor import Monitor, RaySupervisor

State = Monitor.__ray_metadata__.modified_class


def test_a_checkpoint_is_asked_for_until_one_of_that_step_or_later_is_there():
    state = State()
    assert state.progress(3, 1.0) is False
    state.ask()
    assert state.progress(4, 1.0) is True
    state.checkpointed(2)  # begun before
    assert state.progress(5, 1.0) is True and state.saved() is None
    state.checkpointed(5)
    assert state.progress(6, 1.0) is False and state.saved() == 5


def test_nothing_is_asked_where_the_checkpoint_is_there():
    state = State()
    state.progress(3, 1.0)
    state.checkpointed(3)
    state.ask()
    assert state.saved() == 3 and state.progress(3, 1.0) is False


def test_what_was_asked_of_a_group_that_died_is_asked_of_the_next_where_that_begins():
    state = State()
    state.checkpointed(200)
    state.progress(400, 1.0)
    state.ask()
    assert state.read(0) == (400, 1.0, [])
    state.started()  # at the checkpoint of step 200
    assert state.read(0)[1] is None  # there is no step to show
    assert state.saved() is None and state.progress(201, 1.0) is True
    state.checkpointed(201)
    assert state.saved() == 201 and state.progress(202, 1.0) is False
    state.started()
    state.ask()  # before its first step: there is a checkpoint of where it begins
    assert state.saved() == 201 and state.progress(202, 1.0) is False


def test_silence_counts_from_the_last_start_step_or_checkpoint(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(monitor.time, "monotonic", lambda: now[0])
    state = State()
    now[0] = 107.0
    assert state.silent() == (7.0, False)
    state.progress(1, 1.0)
    assert state.silent() == (0.0, True)
    now[0] = 110.0
    assert state.silent() == (3.0, True)
    state.checkpointed(1)
    assert state.silent() == (0.0, True)
    state.started()
    assert state.silent() == (0.0, False)


@pytest.mark.parametrize(
    ("deadline_s", "expected"), [(130, [100, 115, 122.5, 126.5, 128.5]), (0, [100, 160, 190, 205, 212.5])]
)
def test_a_node_that_is_to_go_is_saved_from_at_once_and_then_in_half_of_the_time_that_is_left(
    monkeypatch, deadline_s, expected
):
    info = types.SimpleNamespace(deadline_ms=1000 * deadline_s or None)
    context = types.SimpleNamespace(preemption_context=types.SimpleNamespace(preemption_info=None))
    now = [100.0]
    monkeypatch.setattr(monitor, "get_train_context", lambda: context)
    monkeypatch.setattr(monitor.time, "time", lambda: now[0])
    notice, found = monitor._Notice(), []
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
    monkeypatch.setattr(monitor, "Gauge", Gauge)
    host = RaySupervisor(None, "gpt", 9)
    host.measured(1, {"loss": 2.5, "eval/psnr_db": 30.0})
    host.measured(2, {"loss": 2.0})
    assert shown == {
        "triptych_train_step": [(1, "gpt"), (2, "gpt")],
        "triptych_train_loss": [(2.5, "gpt"), (2.0, "gpt")],
        "triptych_train_eval_psnr_db": [(30.0, "gpt")],
    }
