"""One host, many processes: the promised rate is that of all of them together."""

import asyncio
import time
from collections import Counter
from dataclasses import replace

import pytest
from aiohttp import web

from pipeline.curate.fetch import http, keepers
from pipeline.curate.fetch.download import Fetch
from pipeline.curate.fetch.keeper import Pause, Turn
from pipeline.curate.guard import Guard, GuardConfig
from pipeline.curate.stage import Row
from pipeline.curate.work import to_table
from pipeline.records import IMAGE
from pipeline.storage import Store, read_json


def rows(url: str, part: int, count: int) -> list[Row]:
    """Images of one host that no other part names."""
    return [dict.fromkeys(IMAGE.names) | {"key": f"{part}-{i}", "url": f"{url}/{part}/{i}"} for i in range(count)]


@pytest.fixture
def clocked(site) -> list[float]:
    """Monotonic times at which the site was asked for a picture."""
    times: list[float] = []

    async def picture(request: web.Request) -> web.StreamResponse:
        times.append(time.monotonic())
        return web.Response(body=b"x")

    for part in range(16):
        for i in range(16):
            site.pages[f"/{part}/{i}"] = picture
    return times


def busiest_second(times: list[float]) -> int:
    return max(sum(start <= other < start + 1 for other in times) for start in times)


def test_processes_of_one_machine_share_the_turns_of_a_host(site, clocked, config, local_ray, tmp_path):
    import ray

    config = replace(config, per_host_interval_s=0.25, max_wait_s=60.0)
    guard = Guard(limits=GuardConfig(timeout_s=60), run_dir=str(tmp_path))

    @ray.remote(num_cpus=0.25, max_retries=0)
    def fetch(part: int) -> list[str | None]:
        table = guard.run(Fetch(config=config), to_table(rows(site.url, part, 4), IMAGE), IMAGE)
        return table["reason"].to_pylist()

    assert ray.get([fetch.remote(part) for part in range(4)]) == [[None] * 4] * 4
    assert len(clocked) == 16 and site.hits["/robots.txt"] == 1
    clocked.sort()
    assert clocked[-1] - clocked[0] >= 15 * 0.25 - 0.1, "16 pictures are 15 intervals"
    assert busiest_second(clocked) <= 5


def test_a_retry_after_is_heard_by_all(site, config, local_ray, tmp_path):
    import ray

    asked: list[tuple[float, str]] = []

    async def busy(request: web.Request) -> web.StreamResponse:
        asked.append((time.monotonic(), request.path))
        if len(asked) == 2:
            return web.Response(status=503, headers={"Retry-After": "2"})
        return web.Response(body=b"x")

    for part in range(3):
        for i in range(4):
            site.pages[f"/{part}/{i}"] = busy
    config = replace(config, per_host_interval_s=0.3, max_wait_s=30.0)
    guard = Guard(limits=GuardConfig(timeout_s=60), run_dir=str(tmp_path))

    @ray.remote(num_cpus=0.25, max_retries=0)
    def fetch(part: int) -> list[str | None]:
        table = guard.run(Fetch(config=config), to_table(rows(site.url, part, 4), IMAGE), IMAGE)
        return table["reason"].to_pylist()

    assert ray.get([fetch.remote(part) for part in range(3)]) == [[None] * 4] * 3
    times = sorted(at for at, _ in asked)
    assert len(times) == 13 and times[2] - times[1] >= 1.9, "nobody asked while the host wanted to be left alone"


def test_a_wait_survives_the_actor(local_ray, tmp_path, monkeypatch):
    import ray

    host = f"a-{time.time_ns()}.example"
    run_dir = str(tmp_path)
    pause = keepers.keeper.dump([Pause(host=host, seconds=500.0)])
    keepers.answer(pause, run_dir)
    turn = Turn(host=host, interval_s=0.5, max_wait_s=60.0)
    deadline = time.monotonic() + 10
    number = keepers._number(turn)
    store = Store(run_dir)
    name = f"{keepers.FOLDER}/{number:03}.json"
    while not (store.exists(name) and host in read_json(store, name)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    actor = keepers._handles[number]
    ray.kill(actor, no_restart=True)
    with pytest.raises(ray.exceptions.RayActorError):  # it may answer for a moment yet
        while time.monotonic() < deadline + 20:
            ray.get(actor.answer.remote(keepers.keeper.dump([]), None))
    (grant,) = keepers.keeper.answers(keepers.answer(keepers.keeper.dump([turn]), run_dir))
    assert grant.busy == "host_busy" and 480 < grant.wait_s <= 500
    (grant,) = keepers.keeper.answers(keepers.answer(keepers.keeper.dump([turn]), str(tmp_path / "other")))
    assert grant.busy == "host_busy", "for every run"


def test_waits_that_are_none_of_ours_are_none(tmp_path):
    store = Store(str(tmp_path))
    for text in ("", "[]", "{", '{"a": "x"}', '{"a": 1}'):
        store.write("hosts/000.json", text.encode())
        assert keepers._saved(store, "hosts/000.json") == {}
    store.write("hosts/000.json", b'{"a": 1e300}')
    assert 0 < keepers._saved(store, "hosts/000.json")["a"] <= 7 * 24 * 3600


def test_a_host_that_is_down_costs_ten_tries(site, config, monkeypatch):
    monkeypatch.setattr(keepers, "_in_ray", lambda: False)  # of this process alone, whatever ran before
    closed = "http://127.0.0.1:1"
    hasty = replace(config, retries=0, max_wait_s=0.1)

    async def all_at_once() -> Counter[str]:
        async with http.Client(hasty) as client:
            got = await asyncio.gather(*(client.get(f"{closed}/{i}") for i in range(40)), return_exceptions=True)
        return Counter(getattr(error, "reason", "") for error in got)

    first = asyncio.run(all_at_once())
    assert first["connection_error"] == 40, "one robots.txt is asked for all"
    for _ in range(10):
        http._origins.clear()
        keepers._here._documents.clear()
        reasons = asyncio.run(all_at_once())
    assert reasons["host_unreachable"] == 40
