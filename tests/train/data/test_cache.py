"""Values shared by threads: made once, bounded, and an error is everyone's."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.train.data.cache import Cache


def test_threads_that_ask_at_once_get_one_value():
    made, shared = [], Cache(10, len)

    def make(key):
        made.append(key)
        time.sleep(0.05)
        return key * 2

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda key: shared.get(key, make), "ababab")) == ["aa", "bb"] * 3
    assert sorted(made) == ["a", "b"]


def test_the_values_used_last_are_kept_within_the_limit():
    shared = Cache(10, len)
    for key in ("aaaa", "bbbb", "aaaa", "cccc"):
        shared.get(key, str)
    assert [key in shared for key in ("aaaa", "bbbb", "cccc")] == [True, False, True] and shared.held == 8
    shared.get("d" * 99, str)
    assert len(shared) == 1 and shared.held == 99  # one is kept, however large
    shared.get("e", str)
    assert len(shared) == 1 and shared.held == 1


def test_an_error_reaches_all_who_wait_and_is_not_kept():
    shared, started, may_fail = Cache(10, len), threading.Event(), threading.Event()

    def fail(key):
        started.set()
        may_fail.wait(5)
        raise OSError("gone")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shared.get, "a", fail)
        started.wait(5)
        second = pool.submit(shared.get, "a", fail)
        time.sleep(0.05)
        may_fail.set()
        for found in (first, second):
            with pytest.raises(OSError, match="gone"):
                found.result(5)
    assert shared.get("a", str) == "a"
