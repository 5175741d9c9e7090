import json
import threading

import pytest
import torch
from safetensors.torch import load

from pipeline.manifest import sealed
from pipeline.storage import CorruptFileError, Store
from pipeline.train import checkpoint as module
from pipeline.train.checkpoint import Checkpoints
from pipeline.train.data.order import Chain
from pipeline.train.manifest import CHUNK, KINDS, Contents, NetworkSpec
from pipeline.train.saved import Want, best_saved, committed, open_saved
from pipeline.train.slices import Slice

torch.set_num_threads(1)
CPU = torch.device("cpu")


def slices(seed=0, sizes=(("a.weight", 1000), ("a.bias", 7), ("b", 333))):
    torch.manual_seed(seed)
    return [
        Slice(name=name, start=0, master=torch.randn(n), exp_avg=torch.randn(n), exp_avg_sq=torch.rand(n))
        for name, n in sizes
    ]


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


def contents(metrics=None):
    chain = Chain(step=1, value="", anchor="", stream="")
    spec = NetworkSpec(kind="tiny", model={"n": 1})
    return Contents(
        updates=1,
        chain=chain,
        network=spec,
        digest="d",
        averaged=True,
        engine="torch",
        shapes={},
        metrics=metrics or {},
    )


def save(store, step, state=None, *, keep=9, ema=True, best=None, metrics=None):
    state = state or slices(step)
    checkpoints = Checkpoints(store, CPU, keep=keep, best=best)
    average = [s.master * 2 for s in state] if ema else None
    checkpoints.save(step, state, average, {"count": torch.tensor(step)}, contents(metrics))
    return checkpoints.wait()


def read(saved, name, start, stop, kind="master"):
    into = torch.full((stop - start,), torch.nan)
    saved.read([Want(kind=kind, name=name, start=start, into=into)])
    return into


def test_what_is_saved_is_read_back_by_any_range(store):
    state = slices()
    saved = open_saved(store, save(store, 3, state))
    for s in state:
        n = s.master.numel()
        for start, stop in ((0, n), (0, 1), (n - 1, n), (n // 3, n // 2)):
            assert torch.equal(read(saved, s.name, start, stop), s.master[start:stop])
            assert torch.equal(read(saved, s.name, start, stop, "exp_avg_sq"), s.exp_avg_sq[start:stop])
            assert torch.equal(read(saved, s.name, start, stop, "ema"), 2 * s.master[start:stop])
    assert saved.statics()["count"] == 3
    assert (saved.manifest.step, saved.manifest.world_size, saved.manifest.contents) == (3, 1, contents())


def test_files_are_plain_safetensors(store):
    state = slices()
    name = save(store, 1, state)
    tensors = load(store.read(f"{name}/rank-00000.safetensors"))
    assert torch.equal(tensors["master:a.bias:0"], state[1].master)
    assert set(tensors) == {f"{kind}:{s.name}:0" for kind in KINDS for s in state}


def test_saving_copies_before_it_returns(store):
    state = slices()
    expected = state[0].master.clone()
    checkpoints = Checkpoints(store, CPU, keep=1)
    checkpoints.save(1, state, None, {}, contents())
    state[0].master.zero_()
    assert torch.equal(read(open_saved(store, checkpoints.wait()), "a.weight", 0, 1000), expected)
    assert checkpoints.wait() is None


def test_a_reader_fetches_little_more_than_it_needs(store):
    million = slices(sizes=(("big", 1 << 20), ("small", 10)))
    saved = open_saved(store, save(store, 1, million, ema=False))
    quarter = 1 << 18
    for part in range(4):
        saved.bytes_read = 0
        wants = [Want(kind=kind, name="big", start=part * quarter, into=torch.empty(quarter)) for kind in KINDS[:3]]
        saved.read(wants)
        assert torch.equal(wants[1].into, million[0].exp_avg[part * quarter : (part + 1) * quarter])
        assert saved.bytes_read <= 3 * (4 * quarter + CHUNK)


def damage(store, name, how):
    path = f"{name}/rank-00000.safetensors"
    data = bytearray(store.read(path))
    if how == "truncated":
        store.write(path, bytes(data[:-1]))
    elif how == "zeroed":
        store.write(path, bytes(len(data)))
    elif how == "flipped":
        data[len(data) // 2] ^= 4
        store.write(path, bytes(data))
    elif how == "deleted":
        store.delete(path)
    elif how == "swapped":
        store.write(path, store.read(f"{save(store, 99)}/rank-00000.safetensors"))
        store.delete(next(n.split("/")[0] for n in store.list() if n.startswith("00000099")))


@pytest.mark.parametrize("how", ["truncated", "zeroed", "flipped", "deleted", "swapped"])
def test_damage_to_a_file_is_found_and_named(store, how):
    name = save(store, 1)
    damage(store, name, how)
    saved = open_saved(store, name)
    with pytest.raises(CorruptFileError, match=r"rank-00000\.safetensors"):
        for s in slices():
            for kind in KINDS:
                read(saved, s.name, 0, s.master.numel(), kind)


def test_every_single_bit_flip_of_a_small_checkpoint_is_found(store):
    state = slices(sizes=(("w", 3),))
    name = save(store, 1, state)
    path = f"{name}/rank-00000.safetensors"
    good = store.read(path)
    for at in range(len(good)):
        store.write(path, good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :])
        with pytest.raises(CorruptFileError):
            read(open_saved(store, name), "w", 0, 3)


def test_damage_to_the_statics_is_found(store):
    name = save(store, 1)
    store.write(f"{name}/statics.safetensors", b"")
    with pytest.raises(CorruptFileError, match="statics"):
        open_saved(store, name).statics()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "{}",
        lambda text: "[1]",
        lambda text: "\x00" * 9,
        lambda text: text.replace('"step": 1', '"step": 2'),
        lambda text: text.replace('"a.bias"', '"a.bims"'),
    ],
)
def test_a_manifest_that_was_altered_is_found(store, change):
    name = save(store, 1)
    text = store.read(f"{name}/manifest.json").decode()
    assert change(text) != text
    store.write(f"{name}/manifest.json", change(text).encode())
    with pytest.raises(CorruptFileError, match="manifest"):
        open_saved(store, name)


def test_what_has_no_manifest_is_not_there(store):
    name = save(store, 2)
    save(store, 1)
    store.delete(f"{name}/manifest.json")
    assert [n[:8] for n in Checkpoints(store, CPU, keep=1).names()] == ["00000001"]
    with pytest.raises(CorruptFileError, match="missing"):
        open_saved(store, name)


def test_names_are_newest_first_and_two_attempts_do_not_collide(store):
    names = [save(store, step) for step in (5, 20, 5, 10)]
    assert len(set(names)) == 4
    found = Checkpoints(store, CPU, keep=1).names()
    assert [int(name.split("-")[0]) for name in found] == [20, 10, 5, 5] and set(found) == set(names)


def test_only_the_newest_are_kept_and_dead_attempts_are_cleared_away(store):
    store.write("00000001-dead/rank-00000.safetensors", b"half")
    store.write("00000009-dead/rank-00000.safetensors", b"perhaps still writing")
    for step in (2, 3, 4):
        save(store, step, keep=2)
    folders = {name.split("/")[0][:8] for name in store.list()}
    assert folders == {"00000003", "00000004", "00000009"}


def test_a_failed_write_is_raised_on_the_training_thread(store, monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda _: None)

    def full(self, name, data):
        raise OSError(28, "no space left")

    monkeypatch.setattr(Store, "write", full)
    checkpoints = Checkpoints(store, CPU, keep=1)
    checkpoints.save(1, slices(), None, {}, contents())
    with pytest.raises(OSError, match="checkpoint 00000001-.* was not written: .*no space left"):
        checkpoints.wait()
    monkeypatch.undo()
    assert Checkpoints(store, CPU, keep=1).names() == []


def test_a_write_that_fails_twice_is_tried_again(store, monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    write, failures = Store.write, [OSError("reset"), OSError("503")]

    def flaky(self, name, data):
        if failures:
            raise failures.pop()
        return write(self, name, data)

    monkeypatch.setattr(Store, "write", flaky)
    assert open_saved(store, save(store, 1)).manifest.step == 1


def test_what_belongs_to_a_checkpoint_is_done_before_its_commit_and_beside_training(store):
    checkpoints, seen = Checkpoints(store, CPU, keep=1), []

    def before():
        seen.append((threading.current_thread() is threading.main_thread(), checkpoints.names()))

    checkpoints.save(1, slices(), None, {}, contents(), before)
    name = checkpoints.wait()
    assert seen == [(False, [])] and checkpoints.names() == [name]


def test_a_rank_that_never_finishes_is_named(store, monkeypatch):
    checkpoints = Checkpoints(store, CPU, keep=1, timeout_s=0.1)
    monkeypatch.setattr(module.ranks, "world_size", lambda: 2)
    checkpoints.save(1, slices(), None, {}, contents())
    checkpoints._thread.join()
    monkeypatch.undo()
    with pytest.raises(OSError, match="rank 1 did not finish"):
        checkpoints.wait()


def test_a_rank_that_fails_is_named_at_once(store, monkeypatch):
    checkpoints = Checkpoints(store, CPU, keep=1)
    monkeypatch.setattr(module.ranks, "world_size", lambda: 2)
    store.write(f"00000001-{checkpoints._attempt}/rank-00001.safetensors.failed", b"OSError: no space left")
    checkpoints.save(1, slices(), None, {}, contents())
    checkpoints._thread.join(10)
    monkeypatch.undo()
    with pytest.raises(OSError, match="rank 1 failed: OSError: no space left"):
        checkpoints.wait()


def test_a_rank_says_that_it_failed(store, monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    monkeypatch.setattr(module.ranks, "rank", lambda: 1)
    checkpoints = Checkpoints(store, CPU, keep=1)
    monkeypatch.setattr(checkpoints, "_write", lambda *_: (_ for _ in ()).throw(OSError("the key expired")))
    checkpoints.save(1, slices(), None, {}, contents())
    checkpoints._thread.join(10)
    (failed,) = (name for name in store.list() if name.endswith(".failed"))
    assert "rank-00001" in failed and store.read(failed) == b"OSError: the key expired"


def test_later_checkpoints_were_passed_over_and_count_for_nothing(store):
    damaged = save(store, 600)
    damage(store, damaged, "flipped")
    save(store, 200, keep=1)
    name = save(store, 400, keep=1)
    assert Checkpoints(store, CPU, keep=1).names() == [damaged, name]
    again = save(store, 600, keep=1)
    assert Checkpoints(store, CPU, keep=1).names() == [again]


def test_what_cannot_be_deleted_is_a_warning(store, monkeypatch, caplog):
    save(store, 1)
    monkeypatch.setattr(Store, "delete", lambda self, name: (_ for _ in ()).throw(PermissionError("no DeleteObject")))
    name = save(store, 2, keep=1)
    assert "old checkpoints" in caplog.text and "no DeleteObject" in caplog.text
    assert open_saved(store, name).manifest.step == 2


def test_works_on_s3(bucket):
    store, state = Store(f"{bucket}/checkpoints"), slices()
    assert torch.equal(read(open_saved(store, save(store, 4, state)), "b", 10, 20), state[2].master[10:20])


def test_works_on_a_remote_store():
    store = Store("memory://checkpoint-test")
    state = slices()
    name = save(store, 4, state)
    assert torch.equal(read(open_saved(store, name), "b", 10, 20), state[2].master[10:20])
    assert Checkpoints(store, CPU, keep=1).names() == [name]


def test_another_format_is_refused(store):
    name = save(store, 1)
    facts = json.loads(store.read(f"{name}/manifest.json"))
    facts["format"] = 1
    store.write(f"{name}/manifest.json", sealed(facts))
    with pytest.raises(ValueError, match="format 1, this version reads 2; use a new run_dir"):
        open_saved(store, name)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda facts: facts["pieces"].pop("exp_avg"), "lie in none"),
        (lambda facts: facts.update(pieces=[]), r"pieces is \[\], not of the type"),
        (lambda facts: facts["pieces"]["master"].update(b=[1, 0]), "lie in none"),
        (lambda facts: facts["pieces"]["master"].update(b=["1", 0, 20, 0]), r"b'\]\[0\] is .*, not of the type int"),
        (lambda facts: facts["pieces"]["master"].update(b=[9, 0, 20, 0]), "lie in none"),
        (lambda facts: facts["pieces"]["master"].update(b=[1, 0, 20, 1 << 40]), "lie in none"),
        (lambda facts: facts["pieces"]["master"].update(b=[1, 0, 20, 10**30]), "lie in none"),
        (lambda facts: facts["pieces"]["master"].update(b=[1, 0, 1 << 62, 0] * 4), "lie in none"),
        (lambda facts: facts["chunks"].pop(), "lie in none"),
        (lambda facts: facts["contents"].pop("chain"), "contents.chain is missing"),
        (lambda facts: facts.update(files=7), "is no manifest of a checkpoint: files is 7"),
    ],
)
def test_a_manifest_that_was_sealed_again_is_checked(store, change, error):
    name = save(store, 1)
    facts = json.loads(store.read(f"{name}/manifest.json"))
    change(facts)
    store.write(f"{name}/manifest.json", sealed(facts))
    with pytest.raises(CorruptFileError, match=error):
        open_saved(store, name)


def kept(store):
    return sorted(int(name[:8]) for name in committed(store))


@pytest.mark.parametrize(("mode", "expected"), [("min", [2, 5]), ("max", [4, 5])])
def test_the_best_checkpoint_is_kept_besides_the_newest(store, mode, expected):
    for step, value in ((1, 3.0), (2, 1.0), (3, 1.0), (4, 7.0), (5, float("nan"))):
        save(store, step, keep=1, best=("eval/nats", mode), metrics={"eval/nats": value})
    assert kept(store) == expected  # of equal ones the older: the value was measured there
    assert {name.split("/")[0] for name in store.list()} == set(committed(store))


def test_a_best_checkpoint_of_another_metric_or_with_a_damaged_manifest_is_none(store):
    names = [save(store, step, metrics={"loss": 1.0 / step}) for step in (1, 2, 3)]
    assert best_saved(store, names, "eval/nats", "min") is None
    assert best_saved(store, names, "loss", "min") == names[2]
    store.write(f"{names[2]}/manifest.json", b"{")
    assert best_saved(store, names, "loss", "min") == names[1]


@pytest.mark.parametrize(
    ("file", "how"), [("rank-00000", "flip"), ("rank-00000", "longer"), ("statics", "flip"), ("statics", "gone")]
)
def test_damage_names_each_file_that_is_not_what_was_saved(store, file, how):
    name = save(store, 1)
    saved, path = open_saved(store, name), f"{name}/{file}.safetensors"
    assert saved.damage() == []
    data = store.read(path)
    if how == "gone":
        store.delete(path)
    else:
        store.write(path, data + b"x" if how == "longer" else data[:-1] + bytes([data[-1] ^ 1]))
    (line,) = saved.damage()
    assert path in line


@pytest.mark.parametrize("left", [0, 100])
def test_a_shortened_file_is_found_on_s3_too(bucket, left):
    store = Store(f"{bucket}/checkpoints")
    name = save(store, 1)
    store.write(f"{name}/rank-00000.safetensors", store.read(f"{name}/rank-00000.safetensors")[:left])
    with pytest.raises(CorruptFileError, match="torn or altered"):
        read(open_saved(store, name), "b", 0, 333)
    assert [line for line in open_saved(store, name).damage() if "rank-00000" in line]


def test_a_store_that_does_not_answer_costs_no_checkpoint(store, monkeypatch):
    first, exists = save(store, 1), Store.exists

    asked = []

    def failing(self, name):
        asked.append(name)
        if name.endswith("manifest.json") or len(asked) == 1:  # the first is for a rank's part
            raise OSError("Service Unavailable")
        return exists(self, name)

    monkeypatch.setattr(Store, "exists", failing)
    second = save(store, 2)
    assert committed(store) == [second, first] and asked[0].startswith("rank-00000")
