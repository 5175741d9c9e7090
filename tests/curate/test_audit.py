"""Each kind of object of a finished run, damaged in each way: it is named, and healed by what the audit says heals
it."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.curate import audit, export, plan, waves
from pipeline.curate.journal import Journal
from pipeline.manifest import Manifest, unsealed, write_sealed
from pipeline.records import INPUTS, LEDGER
from pipeline.storage import Store
from tests.curate import toy
from tests.curate.finished import ledger_of
from tests.jobs.toy_job import Ended, Toy, as_job, call, job, made

AGAIN, FETCHED, COPY = "run its job again", "are fetched again", "put it back from a copy"
KINDS = {
    "inputs.json": COPY,
    r"inputs/\w+\.parquet": COPY,
    "plan.json": COPY,
    "plans/001.json": COPY,
    "waves/000-000001.json": FETCHED,
    "waves/001-000000.json": FETCHED,
    r"rows/000-000001.*scores\.parquet": FETCHED,
    r"rows/000-000001.*payload\.parquet": FETCHED,
    r"rows/000-000000.*scores\.parquet": FETCHED,
    r"rows/000-000000.*payload\.parquet": FETCHED,
    r"rows/001.*scores\.parquet": FETCHED,
    r"rows/001.*payload\.parquet": FETCHED,
    r"verdicts/\w+\.json": AGAIN,
    r"verdicts/.*\.parquet": AGAIN,
    LEDGER: AGAIN,
    "export/manifest.json": AGAIN,
    "export/README.md": AGAIN,
    r"export/_index.*": AGAIN,
    r"export/data/.*": AGAIN,
    r"export/webdataset/.*": AGAIN,
    "revocations/000000.json": COPY,
    "revocations/000001.json": COPY,
    "fingerprints/000.json": "--accept-plan",
    "config.json": AGAIN,
}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "deleted": Path.unlink,
}


@pytest.fixture(scope="module")
def finished(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Toy]]:
    with as_job():
        yield made(tmp_path_factory.mktemp("audit"))


@pytest.fixture
def store(finished: tuple[Store, Toy], tmp_path: Path) -> Store:
    return copied(finished[0], tmp_path)


def copied(run: Store, folder: Path) -> Store:
    shutil.rmtree(folder / "run", ignore_errors=True)
    shutil.copytree(run.url, folder / "run")
    return Store(f"{folder}/run")


def one(store: Store, kind: str) -> str:
    """The name of an object of this kind that the ledger is made of."""
    ours = ledger_of(store).verdicts
    names = [name for name in store.list() if re.fullmatch(kind, name)]
    return next((name for name in names if ours in name), names[len(names) // 2])


def bytes_of(store: Store, folder: str = "") -> dict[str, bytes]:
    return {name: store.read(name) for name in store.list(folder)}


def settled(found: dict[str, bytes]) -> dict[str, bytes]:
    """But for who holds it, and for the folder's name in its options."""
    return {name: data for name, data in found.items() if not name.startswith(("lease/", "config.json"))}


def whole(kind: str, damage: str) -> bool:
    """A JSON object without its last line end says what it said."""
    return kind.endswith("json") and damage == "truncated"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_damaged_is_named_with_what_heals_it(finished: tuple[Store, Toy], tmp_path: Path, kind: str) -> None:
    for damage, harm in DAMAGES.items():
        if kind == "config.json" and damage in ("flipped", "truncated"):
            continue  # options have no digest: the test below
        store = copied(finished[0], tmp_path)
        name = one(store, kind)
        harm(Path(store.url) / name)
        shown, audited = call("status", store), call("audit", store)
        assert (shown.status, audited.status) == (1, 1), (damage, shown, audited)
        assert re.search(rf"^DAMAGED   {name} ", shown.out, re.MULTILINE) and not (shown.err + audited.err).startswith(
            "Trace"
        )
        line = next(line for line in audited.out.splitlines() if line.startswith(name))
        heals = AGAIN if whole(kind, damage) or (damage, kind) == ("deleted", "fingerprints/000.json") else KINDS[kind]
        assert heals in line, (damage, line)
        assert re.search("(is|are) wrong$", audited.out, re.MULTILINE)


@pytest.mark.parametrize("kind", [kind for kind, heals in KINDS.items() if heals != AGAIN])
def test_what_a_job_cannot_make_again_it_names_in_one_line(
    finished: tuple[Store, Toy], tmp_path: Path, kind: str
) -> None:
    for damage, harm in DAMAGES.items():
        if whole(kind, damage) or (damage, kind) == ("deleted", "fingerprints/000.json"):
            continue
        store = copied(finished[0], tmp_path)
        name = one(store, kind)
        harm(Path(store.url) / name)
        before = bytes_of(store)
        ended = job(store, finished[1])
        assert ended.status == 2 and len(ended.err.splitlines()) == 1 and f"{store.url}/{name} " in ended.err, (
            damage,
            ended,
        )
        assert settled(bytes_of(store)) == settled(before), damage


@pytest.mark.parametrize("kind", KINDS)
def test_no_command_ends_in_a_traceback(finished: tuple[Store, Toy], tmp_path: Path, kind: str) -> None:
    row = toy.listing("a")[1]
    for damage in ("flipped", "deleted"):
        store = copied(finished[0], tmp_path)
        DAMAGES[damage](Path(store.url) / one(store, kind))
        for name, options in (
            ("rows", {}),
            ("explain", {"row": row["key"]}),
            ("explain", {"row": row["url"]}),
            ("diff", {"b": finished[0].url}),
            ("replay_failure", {}),
        ):
            ended = call(name, store, **options)
            assert told(ended), (damage, name, ended)


def told(ended: Ended) -> bool:
    """It went well, or ended in one line and no more."""
    errors = [line for line in ended.err.splitlines() if re.match("error: |Traceback", line)]
    return (ended.status, len(errors)) in ((0, 0), (2, 1))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_command_that_changes_a_run_leaves_it_damaged(
    finished: tuple[Store, Toy], tmp_path: Path, kind: str
) -> None:
    for name, options in (
        ("decide", {"set": ("short.min_s=2.5",)}),
        ("retry", {}),
        ("revoke", {"host": ("h1.example.org",)}),
    ):
        store = copied(finished[0], tmp_path)
        DAMAGES["flipped"](Path(store.url) / one(store, kind))
        ended = call(name, store, **options)
        assert told(ended), (name, ended)
        assert ended.status == 2 or name == "decide" or call("audit", store).status == 0, (name, ended)
        assert (
            ended.status == 2
            or name != "decide"
            or not [finding for finding in audit.audit(Journal(store)).findings if not finding.made_from_waves]
        )


AGAIN_CASES = [
    (kind, damage)
    for kind in KINDS
    for damage in DAMAGES
    if KINDS[kind] == AGAIN or whole(kind, damage) or (kind, damage) == ("fingerprints/000.json", "deleted")
]
QUICK = [
    ("export/manifest.json", "flipped"),
    (r"export/data/.*", "flipped"),
    (LEDGER, "empty"),
    (r"verdicts/.*\.parquet", "deleted"),
]


@pytest.mark.parametrize(
    ("kind", "damage"), [case if case in QUICK else pytest.param(*case, marks=pytest.mark.slow) for case in AGAIN_CASES]
)
def test_the_job_makes_again_what_is_made_from_waves(
    finished: tuple[Store, Toy], store: Store, kind: str, damage: str
) -> None:
    before = bytes_of(store)
    name = one(store, kind)
    DAMAGES[damage](Path(store.url) / name)
    ended = job(store, finished[1])
    options = kind == "config.json" and damage != "empty"
    assert ended.status == 0 and (options or f"healing: {name} " in ended.err), ended
    after = bytes_of(store)
    assert settled(after) == settled(before)
    assert call("audit", store).status == call("status", store).status == 0
    assert "nothing left to do" in job(store, finished[1]).err


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        (r"rows/001.*scores\.parquet", "flipped"),
        *(
            pytest.param(kind, damage, marks=pytest.mark.slow)
            for kind in KINDS
            if KINDS[kind] == FETCHED
            for damage in DAMAGES
        ),
    ],
)
def test_waves_heal_once_the_user_says_so(finished: tuple[Store, Toy], store: Store, kind: str, damage: str) -> None:
    if whole(kind, damage):
        return
    before, keys = bytes_of(store, "export"), export.read_index(Journal(store))["key"].to_pylist()
    name = one(store, kind)
    DAMAGES[damage](Path(store.url) / name)
    healed = call("audit", store, heal=True)
    assert healed.status == 1 and f"healing: {name} " in healed.err
    assert "2 inputs are fetched again" in healed.out or "/001" not in name
    assert job(store, finished[1]).status == 0 and call("audit", store).status == 0
    assert export.read_index(Journal(store))["key"].to_pylist() == keys
    # Of what was revoked before it was fetched there are no clips, so they leave no gap in their shard.
    assert "000-000000" in name or bytes_of(store, "export") == before


@pytest.mark.parametrize(("option", "other"), [("min_s", "1.7"), ("shard_rows", "6"), ("back", '"')])
def test_options_that_are_not_those_of_the_run_are_named(store: Store, option: str, other: str) -> None:
    text = store.read("config.json").decode()
    store.write("config.json", re.sub(rf'"{option}": [^,\n]*', f'"{option}": {other}', text).encode())
    shown = call("status", store)
    assert shown.status == 1
    assert re.search(rf"^DAMAGED   config.json is .*({option}|valid JSON).*run its job", shown.out, re.MULTILINE), shown


def test_what_others_leave_is_ignored_but_where_readers_take_it_for_data(
    finished: tuple[Store, Toy], store: Store
) -> None:
    folders = {name.rpartition("/")[0] for name in store.list()} | {"", "nobody/knows"}
    names = [
        f"{folder}/{name}".lstrip("/")
        for folder in folders
        for name in (
            ".nfs0000001",
            "notes.txt",
            "000001.json~",
            "x.parquet",
            "001.json.bak",
            "0 (copy).json",
            "-1.json",
        )
    ]
    read = [name for name in names if name.startswith("export/data/") and "/." not in name]
    for name in names:
        if name not in read:
            store.write(name, b"not ours")
    assert call("status", store).status == call("audit", store).status == 0
    assert "nothing left to do" in job(store, finished[1]).err
    ended = call("retry", store)
    assert ended.status == 0 and "nothing to retry" in ended.err
    for name in ("rows", "diff"):
        assert call(name, store, **({"b": store.url} if name == "diff" else {})).status == 0
    assert call("explain", store, row=toy.listing("a")[1]["url"]).status == 0
    assert call("replay_failure", store).out.splitlines() == [toy.listing("a")[2]["key"]]
    assert all(store.read(name) == b"not ours" for name in names if name not in read)
    for name in read:
        store.write(name, b"not ours")
        shown, ended = call("status", store), job(store, finished[1])
        assert (
            shown.status == 1
            and f"DAMAGED   {name} is no file of this export" in shown.out
            and "move it away" in shown.out
        )
        assert (
            ended.status == 2 and f"/{name} is no file of this export" in ended.err and len(ended.err.splitlines()) == 1
        )
        store.delete(name)


def test_what_another_attempt_left_costs_no_wave(finished: tuple[Store, Toy], store: Store) -> None:
    before = bytes_of(store, "waves") | bytes_of(store, "rows")
    left = [
        "rows/000-000000-abcdef012345/0123456789abcdef.scores.parquet",
        "verdicts/0123456789ab-0123456789ab.parquet",
    ]
    for name in left:
        store.write(name, b"half")
    shown = call("status", store)
    assert shown.status == 1 and all(f"DAMAGED   {name} is named by no manifest" in shown.out for name in left)
    assert job(store, finished[1]).status == 0
    assert bytes_of(store, "waves") | bytes_of(store, "rows") == before and not any(map(store.exists, left))


def test_a_retry_that_was_cut_short_is_no_damage(finished: tuple[Store, Toy], store: Store) -> None:
    config = finished[1]
    rows = toy.curation(config.back)._started(waves.read_inputs(Journal(store))).slice(9, 1)
    plan.add_round(Journal(store), rows, np.ones(1), 16)
    assert call("status", store).status == 0
    assert job(store, config).status == 0 and len(waves.every_manifest(Journal(store))) == 4
    assert call("audit", store).status == 0


def test_a_revocation_that_is_lost_is_revoked_again(finished: tuple[Store, Toy], store: Store) -> None:
    lost = unsealed(store, "revocations/000000.json", store.read("revocations/000000.json"))
    keys = export.read_index(Journal(store))["key"].to_pylist()
    store.delete("revocations/000000.json")
    assert call("retry", store).status == job(store, finished[1]).status == 2
    assert call("revoke", store, **{lost["kind"]: (lost["value"],)}).status == 0
    assert call("audit", store).status == 0 and export.read_index(Journal(store))["key"].to_pylist() == keys


def test_a_missing_manifest_takes_nothing_with_it(store: Store) -> None:
    files = [name for name in store.list() if name.startswith(("inputs/", "rows/", "export/"))]
    for name in ("inputs.json", "plans/001.json", "waves/000-000000.json", "export/manifest.json"):
        store.delete(name)
    assert call("audit", store, heal=True).status == 1
    assert [name for name in files if not store.exists(name)] == ["export/manifest.json"] and not store.exists(LEDGER)


def test_of_a_large_run_so_much_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    found = audit.audit(Journal(store), limit_bytes=60_000)
    assert not found.findings and 0 < found.read_bytes <= 60_000 < found.size_bytes
    monkeypatch.setattr(audit, "QUICK_BYTES", 60_000)
    shown = call("status", store)
    assert shown.status == 0
    assert re.search(
        r"^files: 33 there .* of 0\.3 MB 0\.1 were read \(jobs\.audit reads all\)$", shown.out, re.MULTILINE
    )
    flip(Path(store.url) / one(store, r"export/webdataset/.*"))
    assert call("status", store).status == 0 and call("audit", store).status == 1


def test_a_run_that_has_not_begun_is_no_damage(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert not audit.audit(Journal(store)).findings
    audit.check(Journal(store))
    ended = call("audit", store)
    assert ended.status == 2 and "is no curation run" in ended.err
    Journal(store).create(INPUTS, Manifest(files=()))
    assert not audit.audit(Journal(store)).findings
    write_sealed(store, "fingerprints/000.json", {"job": "toy", "config": {}})
    store.delete(INPUTS)
    assert [finding.path for finding in audit.audit(Journal(store)).findings] == [INPUTS]
