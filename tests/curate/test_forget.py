"""What is revoked goes wherever it lies, copies and words included; and secrets go once nothing needs them."""

from pathlib import Path

import pytest

from pipeline.curate import decide, export, forget, revoke, sweep, waves
from pipeline.curate.journal import Journal
from pipeline.curate.revoke import Revocation
from pipeline.lease import hold
from pipeline.records import key_of
from pipeline.storage import Store
from tests.curate.finished import ledger_of
from tests.curate.toy import curation, listing


def ends(store: Store) -> dict[int, tuple[str, str | None]]:
    """Episode's number -> how it ended."""
    table = decide.verdicts(Journal(store), ledger_of(store).verdicts)
    return {row["order"]: (row["state"], row["reason"]) for row in table.to_pylist() if row["unit"] == "episode"}


def held(store: Store) -> set[int]:
    """Numbers of the episodes of which any medium or word is left."""
    numbers = set()
    for part in waves.parts(Journal(store)):
        for row in waves.read_part(store, part).to_pylist():
            if row["audio"] is not None or row["text"] is not None:
                numbers.add(row["order"])
    return numbers


@pytest.mark.parametrize(("victim", "gone"), [(2, {2, 20, 21}), (20, {2, 20, 21}), (14, {14})])
def test_copies_of_what_is_revoked_go_whichever_is_named(
    store: Store, finished: Store, victim: int, gone: set[int]
) -> None:
    toy = curation(f"{finished.url}-back")
    before = held(store)
    assert ends(store)[20] == ("dropped", "duplicate_audio") and gone <= before
    toy.revoke(store, [Revocation(kind="key", value=listing("a")[victim]["key"])])
    assert held(store) == before - gone
    assert not gone & {row["order"] for row in _exported(store)}
    assert ends(store)[victim][0] == "dropped"
    if victim == 20:
        assert ends(store)[2] == ("dropped", "revoked_copy"), "it was the one that was kept"
    toy.run(store)
    assert held(store) == before - gone and sweep.sweep(Journal(store)) == []


def _exported(store: Store) -> list[dict]:
    keys = set(export.read_index(Journal(store))["key"].to_pylist())
    rows = [row for part in waves.parts(Journal(store)) for row in waves.read_part(store, part).to_pylist()]
    return [row for row in rows if row["key"] in keys]


def test_what_was_cut_from_a_row_goes_with_its_digest(store: Store, finished: Store) -> None:
    toy, before = curation(f"{finished.url}-back"), held(store)
    digest = key_of("14")
    assert {row["order"] for row in _exported(store) if row["unit"] == "clip"} >= {14}
    toy.revoke(store, [Revocation(kind="sha256", value=digest)])
    assert held(store) == before - {14} and 14 not in {row["order"] for row in _exported(store)}
    assert ends(store)[14] == ("dropped", "revoked")
    toy.run(store)
    assert held(store) == before - {14} and sweep.sweep(Journal(store)) == []


def test_a_copy_that_a_later_round_fetches_goes_as_well(store: Store, finished: Store) -> None:
    toy = curation(f"{finished.url}-back")
    toy.revoke(
        store, [Revocation(kind="url", value="https://h2.example.org/a/5")]
    )  # deferred so far: nothing of it is known
    assert ends(store)[5] == ("deferred", "retry_after")
    Path(f"{finished.url}-back").touch()
    try:
        assert toy.retry(store)[0] == 2
    finally:
        Path(f"{finished.url}-back").unlink()
    assert ends(store)[5] == ("dropped", revoke.BEFORE) and 5 not in held(store) and 7 in held(store)


def test_hits_count_inputs_rows_and_files(store: Store) -> None:
    hits = forget.hits(
        Journal(store),
        [
            Revocation(kind="host", value="h1.example.org"),
            Revocation(kind="host", value="H1.Example.ORG."),
            Revocation(kind="host", value="nowhere.example.org"),
            Revocation(kind="license", value=" cc-by "),
        ],
    )
    assert [hit.inputs for hit in hits] == [10, 10, 0, 15]
    assert len(hits[0].keys) == 10 + 3 * 8 and hits[0] == hits[1] and not hits[2].keys  # 7 and 28 fail
    assert hits[0].files <= set(store.list("rows"))


def test_secrets_stay_while_they_are_needed(store: Store) -> None:
    with hold(store) as lease:
        table = waves.read_inputs(Journal(store))
        signed = [f"{url}?Signature=0123456789abcdef{i}" for i, url in enumerate(table["url"].to_pylist())]
        position = table.schema.get_field_index("url")
        waves.replace_inputs(Journal(store), 0, table.set_column(position, table.schema.field("url"), [signed]))
        needed = listing("a")[5]["key"]
        forget.cut_secrets(Journal(store), lease, {needed})
        urls = dict(zip(table["key"].to_pylist(), waves.read_inputs(Journal(store))["url"].to_pylist(), strict=True))
        assert urls.pop(needed) == signed[5] and all(url.endswith("?Signature=REDACTED") for url in urls.values())
        assert waves.read_inputs(Journal(store)).drop_columns("url").equals(table.drop_columns("url"))
        sweep.sweep(Journal(store))
    assert len(store.list("inputs")) == 1, "what held the secrets is gone"


def test_a_damaged_bundle_goes_with_what_is_revoked(store: Store, finished: Store) -> None:
    store.write(f"quarantine/{'ab' * 16}.parquet", b"")
    store.write("quarantine/notes.txt", b"mine")
    curation(f"{finished.url}-back").revoke(store, [Revocation(kind="key", value=listing("a")[14]["key"])])
    assert store.list("quarantine") == ["quarantine/notes.txt"]
