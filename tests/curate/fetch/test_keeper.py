"""The keeper of hosts, by a clock of our own."""

import pytest

from pipeline.curate.fetch import keeper
from pipeline.curate.fetch.keeper import (
    Answer,
    Confirm,
    Document,
    Grant,
    Keeper,
    Outcome,
    Pause,
    Publish,
    Question,
    Reading,
    Turn,
)


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keep(clock: Clock) -> Keeper:
    return Keeper(clock)


def turn(host: str = "a.example", **fields: float) -> Turn:
    return Turn(host=host, **{"interval_s": 0.5, "max_wait_s": 60.0} | fields)  # type: ignore[arg-type]


def granted(answer: Answer) -> Grant:
    assert isinstance(answer, Grant)
    return answer


def test_turns_of_one_host_are_an_interval_apart_and_hosts_do_not_wait_for_each_other(keep, clock):
    assert [granted(keep.answer(turn())).wait_s for _ in range(4)] == [0, 0.5, 1.0, 1.5]
    assert granted(keep.answer(turn("b.example"))).wait_s == 0
    clock.now_s += 10
    assert granted(keep.answer(turn())).wait_s == 0, "turns that nobody wanted are not saved up"
    assert granted(keep.answer(turn())).wait_s == 0.5


def test_a_hosts_own_delay_goes_before_ours_where_it_is_longer(keep):
    assert [granted(keep.answer(turn(crawl_delay_s=20.0))).wait_s for _ in range(4)] == [0, 20, 40, 60]
    assert granted(keep.answer(turn(crawl_delay_s=20.0))).busy == "host_busy", "it wants us to wait for 80 s"
    short = [granted(keep.answer(turn("b.example", crawl_delay_s=0.1))).wait_s for _ in range(200)]
    assert short[-1] == 199 * 0.5, "our own queue is waited for"


def test_what_a_host_demands_voids_the_turns_that_were_dealt(keep, clock):
    first, second = granted(keep.answer(turn())), granted(keep.answer(turn()))
    assert first.dealt is None and second.dealt is not None
    keep.answer(Pause(host="a.example", seconds=30.0))
    clock.now_s += 0.5
    again = granted(keep.answer(Confirm(turn=turn(), dealt=second.dealt)))
    assert again.wait_s == 29.5
    clock.now_s += 29.5
    assert granted(keep.answer(Confirm(turn=turn(), dealt=again.dealt or 0))) == Grant(wait_s=0.0)
    keep.answer(Pause(host="a.example", seconds=61.0))
    assert granted(keep.answer(turn())).busy == "host_busy"
    keep.answer(Pause(host="a.example", seconds=1.0))
    assert granted(keep.answer(turn())).busy == "host_busy", "a shorter wish does not cancel a longer one"


def test_a_host_that_is_down_is_left_alone_and_tried_again(keep, clock):
    for _ in range(9):
        keep.answer(Outcome(host="a.example", is_answered=False))
    assert granted(keep.answer(turn(interval_s=0.0))).wait_s == 0
    keep.answer(Outcome(host="a.example", is_answered=False))
    assert granted(keep.answer(turn(max_wait_s=1.0))).busy == "host_unreachable"
    clock.now_s += 30
    assert granted(keep.answer(turn(max_wait_s=1.0))).wait_s == 0, "its turn to be tried"
    keep.answer(Outcome(host="a.example", is_answered=False))
    assert granted(keep.answer(turn(max_wait_s=1.0))).wait_s == 60, "twice as long"
    clock.now_s += 60
    keep.answer(Outcome(host="a.example", is_answered=True))
    for _ in range(9):
        keep.answer(Outcome(host="a.example", is_answered=False))
    assert granted(keep.answer(turn(max_wait_s=1.0))).busy is None, "it was there again: we count anew"


def test_a_document_is_read_once_and_again_when_its_reader_died(keep, clock):
    url = "https://a.example/robots.txt"
    ask = Document(url=url, patience_s=30.0)
    assert keep.answer(ask) == Reading()
    assert keep.answer(ask) == Reading(wait_s=0.1), "somebody reads it"
    clock.now_s += 31
    assert keep.answer(ask) == Reading(), "whoever read it is gone"
    keep.answer(Publish(url=url, text="words", ttl_s=3600.0))
    clock.now_s += 100
    assert keep.answer(ask) == Reading(text="words", ttl_s=3500.0)
    clock.now_s += 3500
    assert keep.answer(ask) == Reading()
    keep.answer(Publish(url=url, text="", ttl_s=0.0))
    assert keep.answer(ask) == Reading(), "it could not be read: the next one tries"


def test_long_waits_outlive_the_keeper(keep, clock):
    keep.answer(Pause(host="a.example", seconds=600.0))
    keep.answer(turn("slow.example", crawl_delay_s=10.0))
    keep.answer(turn("quick.example"))
    assert keep.changed and keep.waits() == {"a.example": 600.0, "slow.example": 10.0}
    heir = Keeper(clock)
    heir.restore(keep.waits())
    assert granted(heir.answer(turn())).busy == "host_busy"
    assert granted(heir.answer(turn("slow.example"))).wait_s == 10.0


def test_messages_survive_the_way_and_others_are_refused():
    asked: list[Question] = [
        turn(),
        Confirm(turn=turn(crawl_delay_s=2.0), dealt=3),
        Pause(host="é.example", seconds=1.5),
        Outcome(host="a", is_answered=False),
        Document(url="u", patience_s=1.0),
        Publish(url="u", text="\u2028\x00", ttl_s=2.0),
    ]
    assert keeper.questions(keeper.dump(asked)) == asked
    answers: list[Answer] = [Grant(wait_s=1.0, dealt=2), None, Reading(text="x", ttl_s=1.0)]
    assert keeper.answers(keeper.dump(answers)) == answers
    for bad in (b"[5]", b'[{"Turn": {"host": 5}}]', b'[{"os.system": {}}]', b'[{"Turn": {}, "Pause": {}}]'):
        with pytest.raises(ValueError):
            keeper.questions(bad)
