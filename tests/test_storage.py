"""Storage on a local disk and on a real S3 protocol server: one set of promises, tested on both."""

import pickle
import socket
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import storage
from pipeline.manifest import Manifest, commit, read_manifest
from pipeline.storage import CorruptFileError, Store, read_part


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "run") if request.param == "disk" else request.getfixturevalue("bucket") + "/run")


def test_write_read_list_delete(store: Store) -> None:
    store.write("a/x.bin", b"one")
    store.write("a/x.bin", b"two")
    store.write("b/y.bin", b"0123456789")
    assert store.read("a/x.bin") == b"two" and store.read_range("b/y.bin", 2, 5) == b"234"
    assert store.list() == ["a/x.bin", "b/y.bin"] and store.list("a") == ["a/x.bin"] and store.list("none") == []
    assert store.exists("a/x.bin") and not store.exists("a") and store.size_bytes("b/y.bin") == 10
    store.delete("a")
    store.delete("a")
    assert store.list() == ["b/y.bin"]
    with pytest.raises(FileNotFoundError):
        store.read("a/x.bin")


def test_create_is_exclusive_among_racing_writers(store: Store) -> None:
    store.write("warm-up", b"")
    for round_ in range(5):
        wins: list[int] = []
        start = threading.Barrier(6)

        def race(writer: int, round_: int = round_, wins: list[int] = wins, start: threading.Barrier = start) -> None:
            start.wait()
            if Store(store.url).create(f"m/{round_}.json", f"writer {writer}".encode()):
                wins.append(writer)

        threads = [threading.Thread(target=race, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(wins) == 1
        assert store.read(f"m/{round_}.json") == f"writer {wins[0]}".encode()
    assert not [name for name in store.list() if "tmp" in name]


def test_commit_shows_files_and_reads_are_checked(store: Store) -> None:
    table = pa.table({"x": list(range(100))})
    file = storage.write_parquet(store, "data/part-{sha256}.parquet", table)
    assert file.sha256.startswith(file.path[-20:-8]) and file.rows == 100
    assert read_manifest(store, "m.json", Manifest) is None
    assert commit(store, "m.json", [file])
    assert not commit(store, "m.json", []), "the first commit stands"
    assert read_manifest(store, "m.json", Manifest) == Manifest(files=(file,))
    assert storage.read_table(store, file, ["x"]).equals(table)
    data = store.read(file.path)
    store.write(file.path, data[:-1])
    with pytest.raises(CorruptFileError, match="torn or altered"):
        storage.read_table(store, file)
    store.write(file.path, bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(CorruptFileError, match=file.path):
        storage.read_table(store, file)
    store.delete(file.path)
    with pytest.raises(CorruptFileError, match="missing"):
        storage.read_table(store, file)


@pytest.mark.parametrize("name", ["[1]", "*", "a?b", "x y", "ünï-日本", "a{b,c}", "100%41", "a+b", "~"])
def test_names_are_taken_as_they_are(store: Store, name: str) -> None:
    odd = store.sub(f"runs/{name}")
    other = store.sub("runs/1")
    other.write("w/0.json", b"other")
    for number in range(3):
        assert odd.create(f"w/{number}.json", str(number).encode())
    assert odd.list() == odd.list("w") == ["w/0.json", "w/1.json", "w/2.json"] and odd.exists("w/1.json")
    assert odd.read_many(["w/0.json", "w/2.json"]) == {"w/0.json": b"0", "w/2.json": b"2"}
    assert odd.sizes("w") == dict.fromkeys(odd.list("w"), 1)
    odd.check_writable()
    odd.delete("w")
    assert odd.list() == [] and other.read("w/0.json") == b"other"


def test_what_others_leave_in_a_folder_is_not_taken_for_ours(store: Store) -> None:
    for name in ("000000.json", ".nfs0000001", "000000.json~", "notes.txt", "deep/000001.json", "a b"):
        store.write(f"waves/{name}", b"{}")
    assert store.list("waves", r"\d{6}\.json") == ["waves/000000.json"] and len(store.list("waves")) == 6


def test_a_listing_is_whole_while_files_come_and_go(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for number in range(20):
        store.write(f"lease/{number:06d}.json", b"{}")
    stop = threading.Event()

    def beat() -> None:
        while not stop.is_set():
            store.write("lease/000000.json", b"{}")

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        assert all(len(store.list("lease")) == 20 for _ in range(300))
    finally:
        stop.set()
        beating.join()


def test_probes_of_others_are_left_alone(store: Store) -> None:
    store.write(".probe-of-another", b"")
    store.check_writable()
    assert store.list() == [".probe-of-another"]


def test_a_store_pickles_and_its_names_stay_inside(store: Store) -> None:
    store.write("x", b"1")
    assert pickle.loads(pickle.dumps(store)).read("x") == b"1"
    for name in ("../x", "/etc/passwd", "a/../../x"):
        with pytest.raises(ValueError, match="leaves the store"):
            store.read(name)


def test_write_json_leaves_equal_bytes_alone(store: Store) -> None:
    storage.write_json(store, "a.json", {"x": "é"})
    assert storage.read_json(store, "a.json") == {"x": "é"}
    store.write("a.json", b"{")
    with pytest.raises(CorruptFileError, match="a.json"):
        storage.read_json(store, "a.json")


def test_parquet_bytes_depend_on_the_table_alone() -> None:
    whole = pa.table({"x": list(range(1000))})
    pieces = pa.concat_tables([whole.slice(0, 3), whole.slice(3)])
    assert storage.parquet_bytes(whole, 64) == storage.parquet_bytes(pieces, 64)


def test_an_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write to run_dir"):
        Store(str(tmp_path / "file" / "run")).check_writable()
    good = Store(str(tmp_path / "good"))
    good.check_writable()
    assert good.list() == []


def test_a_store_that_does_not_answer_is_an_error_not_an_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("memory://does-not-answer")
    store.write("a", b"1")
    assert store.exists("a") and not store.exists("b") and not store.exists("a/b")

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("Service Unavailable")

    monkeypatch.setattr(store._fs, "info", refuse)
    with pytest.raises(OSError, match="Service Unavailable"):
        store.exists("a")


def test_errors_of_the_connection_are_os_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setattr("s3fs.S3FileSystem.cachable", False)
        monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
        store = Store("s3://bucket-of-nobody")
        for call in (lambda: store.read_range("a", 0, 1), lambda: store.write("a", b""), lambda: store.list()):
            with pytest.raises(OSError, match="s3://bucket-of-nobody.* connect to"):
                call()


def test_a_part_beyond_a_shortened_object_is_found_on_s3_too(bucket: str, tmp_path: Path) -> None:
    for store in (Store(f"{bucket}/parts"), Store(str(tmp_path))):
        file = store.write("a", bytes(100))
        assert read_part(store, file, 90, 100) == bytes(10)
        store.write("a", bytes(50))
        if not store.is_local:  # a disk answers with nothing, and the reader checks what it got
            with pytest.raises(CorruptFileError, match="50 bytes where the manifest says 100"):
                read_part(store, file, 90, 100)
        store.delete("a")
        with pytest.raises(CorruptFileError, match="committed but missing"):
            read_part(store, file, 0, 10)
