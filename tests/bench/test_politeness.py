"""The trial of manners, at a small size."""

import pytest

from pipeline.bench.politeness import Politeness, measure


def test_two_processes_share_the_turns_of_a_host(local_ray: None) -> None:
    (line,) = measure(Politeness(processes=(2,), files=8, interval_s=0.2))
    assert line["lost"] == 0 and line["documents_read"] == 3
    # Nine turns, eight intervals; a request may come late and the next one in time.
    assert float(str(line["requests_per_s"])) <= 5.2 and int(str(line["most_in_a_second"])) <= 6


def test_a_host_is_promised_some_time() -> None:
    with pytest.raises(ValueError, match="interval_s is 0.0; use more than 0"):
        Politeness(interval_s=0.0)
