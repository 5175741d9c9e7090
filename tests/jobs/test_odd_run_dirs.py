"""Folders of runs with names that shells, globs, URLs and fsspec's chains read otherwise: a run in one is a run like
others."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.curate import decide
from pipeline.curate.journal import Journal
from pipeline.storage import Store
from tests.curate import toy
from tests.curate.finished import ledger_of
from tests.jobs.toy_job import as_job, call, job, made

ALL = "a::b [1]*?ünï-日本 #%41"
NAMES = ["[1]", "*", "a?b", "x y", "ünï-日本", "a::b", "br[1]*", "a#b", "100%41", "{a,b}", 'q"q', "$HOME"]


@pytest.fixture(scope="module")
def plain(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with as_job():
        yield made(tmp_path_factory.mktemp("plain"))[0]


def is_as_good(store: Store, plain: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # whatever lands elsewhere lands here
    _, config = made(tmp_path, store.url)
    assert {name: store.read(name) for name in store.list("export")} == {
        name: plain.read(name) for name in plain.list("export")
    }
    assert [name.split("/")[0] for name in store.list()] == [name.split("/")[0] for name in plain.list()]
    for name, options in (("status", {}), ("audit", {}), ("rows", {"limit": 1000})):
        said, wanted = call(name, store, **options), call(name, plain, **options)
        assert said.status == 0 and said.out == wanted.out
    for name, options in (
        ("retry", {"every": True}),
        ("decide", {"set": ("short.min_s=2.5",)}),
        ("replay_failure", {}),
        ("diff", {"b": plain.url}),
    ):
        ended = call(name, store, **options)
        assert ended.status == 0, (name, ended)
    for row in decide.verdicts(Journal(store), ledger_of(store).verdicts).to_pylist()[:3]:
        assert f"key       {row['key']}" in call("explain", store, row=row["key"]).out
    assert call("explain", store, row=toy.listing("a")[1]["url"]).status == 0
    assert "nothing left to do" in job(store, config).err
    store.delete("export/manifest.json")
    assert job(store, config).status == 0 and call("audit", store).status == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "back") == (
        [Path(store.url).name] if store.is_local else []
    )


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in [*NAMES, ALL]])
def test_on_a_disk(plain: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    is_as_good(Store(f"{tmp_path}/{name}"), plain, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", [ALL, *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES)])
def test_on_s3(plain: Store, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    beside = Store(f"{bucket}/1")  # what `[1]` would match
    beside.write("ledger.json", b"not ours")
    is_as_good(Store(f"{bucket}/{name}"), plain, tmp_path, monkeypatch)
    assert beside.list() == ["ledger.json"] and beside.read("ledger.json") == b"not ours"


def test_a_folder_that_is_named_from_where_one_stands(
    plain: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (*NAMES, ALL):
        shutil.copytree(plain.url, tmp_path / name)
        said = call("status", Store(name))
        assert said.status == 0 and said.out == call("status", plain).out, (name, said)
        assert call("explain", Store(name), row=toy.listing("a")[1]["url"]).status == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == [name]
        shutil.rmtree(tmp_path / name)
