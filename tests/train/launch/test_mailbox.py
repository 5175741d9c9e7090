from pipeline.train.launch import mailbox
from pipeline.train.launch.mailbox import Mailbox


def test_a_checkpoint_is_asked_for_until_one_of_that_step_or_later_is_there():
    state = Mailbox()
    assert state.progress(3, 1.0) is False
    state.ask()
    assert state.progress(4, 1.0) is True
    state.checkpointed(2)  # begun before
    assert state.progress(5, 1.0) is True and state.saved() is None
    state.checkpointed(5)
    assert state.progress(6, 1.0) is False and state.saved() == 5


def test_nothing_is_asked_where_the_checkpoint_is_there():
    state = Mailbox()
    state.progress(3, 1.0)
    state.checkpointed(3)
    state.ask()
    assert state.saved() == 3 and state.progress(3, 1.0) is False


def test_what_was_asked_of_a_group_that_died_is_asked_of_the_next_where_that_begins():
    state = Mailbox()
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
    monkeypatch.setattr(mailbox.time, "monotonic", lambda: now[0])
    state = Mailbox()
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
