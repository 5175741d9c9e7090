"""One driver a run, on a disk and on S3: others are refused, the dead succeeded, zombies fenced."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pipeline import lease
from pipeline.lease import FencedError, HeldError, Lease, hold
from pipeline.storage import Store


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "run") if request.param == "disk" else request.getfixturevalue("bucket") + "/run")


def test_a_second_driver_is_refused_and_told_by_whom(store: Store) -> None:
    with hold(store) as held:
        with pytest.raises(HeldError, match=f"process {os.getpid()} on "), hold(store):
            pass
        held.check()
    with hold(store) as later:
        assert later.epoch == held.epoch + 1


def test_of_many_at_once_one_holds_the_run(store: Store) -> None:
    store.write("warm-up", b"")
    won, refused, ready, done = [], [], threading.Barrier(5), threading.Event()

    def drive() -> None:
        ready.wait()
        try:
            with hold(Store(store.url)) as held:
                won.append(held.epoch)
                done.wait(30)
        except HeldError as error:
            refused.append(error)

    threads = [threading.Thread(target=drive) for _ in range(5)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 30
    while len(refused) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    done.set()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and len(refused) == 4


def test_what_a_killed_driver_never_finished_goes_with_the_next_one(tmp_path: Path) -> None:
    """Of a lease that was succeeded; what is written of the one that holds now is whoever writes it's."""
    store = Store(str(tmp_path))
    dead = [f"lease/{epoch:06d}.json.tmp-0123456789ab" for epoch in (1, 2)]
    for name in [*dead, "lease/000003.json.tmp-0123456789ab", "lease/notes.tmp-0123456789ab"]:
        store.write(name, b"half")
    for _ in range(3):
        with hold(store):
            pass
    assert not any(map(store.exists, dead))
    assert store.exists("lease/000003.json.tmp-0123456789ab") and store.exists("lease/notes.tmp-0123456789ab")


def test_a_killed_holder_on_this_machine_is_succeeded_at_once(store: Store) -> None:
    script = (
        "import sys, time\nfrom pipeline.lease import hold\nfrom pipeline.storage import Store\n"
        f"with hold(Store({store.url!r})):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        with pytest.raises(HeldError, match=f"process {process.pid}"), hold(store):
            pass
    finally:
        process.kill()
        process.wait()
    with hold(store) as held:
        assert held.epoch == 2


def elsewhere(store: Store, silent_s: float) -> Lease:
    holder = replace(lease._me(), host="far", machine="another", beat_s=time.time() - silent_s)
    assert store.create("lease/000001.json", json.dumps(asdict(holder)).encode())
    return Lease(store=store, epoch=1, holder=holder)


def test_a_holder_elsewhere_is_believed_until_it_falls_silent(store: Store) -> None:
    zombie = elsewhere(store, silent_s=lease.EXPIRY_S / 2)
    with pytest.raises(HeldError, match="on far"), hold(store):
        pass
    store.delete("lease/000001.json")
    zombie = elsewhere(store, silent_s=lease.EXPIRY_S + 1)
    zombie.check()
    with hold(store) as held:
        with pytest.raises(FencedError, match="epoch 2, ours is 1"):
            zombie.check()
        zombie.beat()  # what a zombie still writes disturbs nobody
        held.check()
    for _ in range(3):
        with hold(store):
            pass
    assert len(store.list("lease")) <= 2


def test_a_holder_whose_clock_runs_ahead_does_not_hold_it_for_that_long(store: Store) -> None:
    elsewhere(store, silent_s=-lease.EXPIRY_S / 2)
    with pytest.raises(HeldError, match="on far .last heard of 0 s ago"), hold(store):
        pass
    store.delete("lease/000001.json")
    elsewhere(store, silent_s=-365 * 86_400)
    with hold(store) as held:
        assert held.epoch == 2


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b"\xff",
        b'{"pid": 1}',
        b"[" * 100_000,
        json.dumps(asdict(lease._me()) | {"beat_s": "now"}).encode(),
        json.dumps(asdict(lease._me()) | {"pid": True}).encode(),
        json.dumps(asdict(lease._me()) | {"fence": 3}).encode(),
    ],
    ids=range(11),
)
def test_a_lease_that_is_none_is_named_with_what_mends_it(written: bytes, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("lease/000003.json", written)
    words = r"lease/000003\.json is not a lease .*if no other driver works on the run, delete it"
    with pytest.raises(ValueError, match=words), hold(store):
        pass
    assert store.list("lease") == ["lease/000003.json"]
    store.delete("lease/000003.json")
    with hold(store) as held:
        assert held.epoch == 1


def test_stray_files_are_no_leases(store: Store) -> None:
    for name in (".nfs0000001", "notes.txt", "000007.json.bak", "x/000009.json", "7.json"):
        store.write(f"lease/{name}", b"")
    with hold(store) as held:
        assert held.epoch == 1
        held.check()
    with hold(store) as held:
        assert held.epoch == 2


def test_a_lease_that_goes_between_listing_and_reading_is_no_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        with hold(store):
            pass
    listed = iter([1])  # as another driver saw it that was overtaken twice
    latest = lease._latest
    store.delete("lease/000001.json")
    monkeypatch.setattr(lease, "_latest", lambda store: next(listed, None) or latest(store))
    with hold(store) as held:
        assert held.epoch == 3


DRIVER = """
import os, sys, time
from pipeline.lease import HeldError, hold
from pipeline.storage import Store
urls = sys.argv[1:]
print("ready", flush=True)
for url in urls:
    sys.stdin.readline()
    try:
        Store(url).check_writable()
        with hold(Store(url)):
            print("held", flush=True)
            sys.stdin.readline()
    except HeldError as error:
        print("refused", error, flush=True)
        sys.stdin.readline()
    print("free", flush=True)
"""


def test_three_processes_at_once_one_holds_and_the_others_are_told_who(tmp_path: Path) -> None:
    """Thirty times, on new runs and on runs that were held before."""
    urls = [str(tmp_path / f"run{i // 3}") for i in range(30)]
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", DRIVER, *urls], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]

    def ask(go: bool = True) -> list[str]:
        for driver in drivers if go else ():
            driver.stdin.write("\n")
            driver.stdin.flush()
        return [driver.stdout.readline().strip() for driver in drivers]

    try:
        assert ask(go=False) == ["ready"] * 3
        for _ in urls:
            said = ask()
            (holder,) = (driver for driver, words in zip(drivers, said, strict=True) if words == "held")
            refused = [words for words in said if words != "held"]
            by = f"is held by process {holder.pid} on {socket.gethostname()}"
            assert len(refused) == 2 and all(by in words for words in refused), said
            assert ask() == ["free"] * 3
    finally:
        for driver in drivers:
            driver.communicate(timeout=20)
