"""One driver a run, on a disk and on S3: others are refused, the dead succeeded, zombies fenced."""
import json
import os
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


def test_a_killed_holder_on_this_machine_is_succeeded_at_once(store: Store) -> None:
    script = ("import sys, time\nfrom pipeline.lease import hold\nfrom pipeline.storage import Store\n"
              f"with hold(Store({store.url!r})):\n    print('held', flush=True)\n    time.sleep(60)\n")
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
