"""A finished run, and what is done to it later: retries, revocations, other thresholds; each moves what it must, no
more."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.curate import decide, diff, export, guard, revoke, survey, waves
from pipeline.curate.explain import explain, matching
from pipeline.curate.guard import GuardConfig
from pipeline.curate.journal import Journal
from pipeline.curate.revoke import Revocation
from pipeline.curate.stage import Leave
from pipeline.curate.work import start
from pipeline.records import CARD, CLIP, INPUT
from pipeline.storage import Store, read_file, read_table
from tests.curate.finished import ledger_of
from tests.curate.toy import Cut, curation, listing


def table(store: Store) -> list[dict]:
    return decide.verdicts(Journal(store), ledger_of(store).verdicts).to_pylist()


def test_a_retry_works_on_what_may_pass_and_moves_nothing_else(finished: Store, store: Store) -> None:
    toy = curation(f"{finished.url}-back")
    before = {row["key"]: row for row in table(store)}
    Path(f"{finished.url}-back").touch()
    try:
        tried, ledger = toy.retry(store)
    finally:
        Path(f"{finished.url}-back").unlink()
    keys = {row["key"] for row in listing("a")[5:8:2]}
    assert tried == 2 and len(waves.superseded(waves.every_manifest(Journal(store)))) == 2
    book = ledger.steps["episode"]
    assert book.in_ == 30 and book.balances() and book.deferred == {} and book.failed["http_404"] == 1
    after = {row["key"]: row for row in table(store)}
    assert all(after[key]["state"] == "kept" for key in keys)
    assert {key for key in after if after[key] != before.get(key)} == {
        r["key"] for r in after.values() if r["input_key"] in keys
    }
    assert len([row for row in after.values() if row["input_key"] in keys]) == 2 * 4
    assert [c.why for c in diff.rows(Journal(finished), Journal(store))].count("error") == 2
    assert toy.retry(store)[0] == 0 and toy.is_finished(Journal(store))
    assert toy.retry(store, every=True)[0] == 3, "the 404 and the two that Cut cannot read"
    assert ledger_of(store).steps == ledger.steps


def test_revoked_rows_leave_their_shards_and_the_waves_and_no_other_shard_changes(
    finished: Store, store: Store
) -> None:
    toy, before = curation(f"{finished.url}-back"), export.shards(Journal(store))
    victim = next(
        row for row in table(store) if row["state"] == "kept" and row["unit"] == "clip" and row["order"] == 14
    )
    words = b"14/1"
    assert any(words in store.read(name) for name in store.list("export"))
    ledger = toy.revoke(store, [Revocation(kind="key", value=victim["input_key"], note="asked")])
    assert ledger.steps["clip"].dropped["revoked"] == 2 and ledger.steps["episode"].dropped["revoked"] == 1
    after = export.shards(Journal(store))
    gone = [a.path for a in before if a not in after]
    kinds = [path.rsplit("/", 1)[1].split("-")[0] + path[-4:] for path in gone]
    assert kinds == ["shardquet", "shard.tar", "_indexrrow"] and not any(store.exists(path) for path in gone)
    rows = [
        row
        for part in waves.parts(Journal(store))
        for row in waves.read_part(store, part).to_pylist()
        if row["order"] == 14
    ]
    assert len(rows) == 4 and all(row["audio"] is None and row["text"] is None for row in rows)
    named = {file.path for part in waves.parts(Journal(store)) for file in (part.scores, part.payload)}
    assert named == set(store.list("rows")), "the old file is gone"
    assert toy.is_finished(Journal(store))
    assert {c.after for c in diff.rows(Journal(finished), Journal(store))} == {"dropped revoked"}
    verdict = matching(Journal(store), victim["key"], ledger_of(store).verdicts)[0]
    lines = explain(Journal(store), verdict, toy.rules)
    assert "verdict   dropped revoked" in lines and "exported  no" in lines


def test_bundles_of_revoked_rows_leave_the_quarantine_and_no_other_does(finished: Store, store: Store) -> None:
    toy = curation(f"{finished.url}-back")
    listed = listing("a")[2:5:2]  # of hosts h2 and h1, both under CC-BY, no copies of each other
    rows = start(pa.Table.from_pylist(listed, schema=INPUT), CLIP, unit="episode")
    work = guard.Work(stage=Cut(), schema=CLIP, limits=GuardConfig())
    for i in range(2):
        guard._quarantine(store, work, rows.slice(i, 1), Leave("failed", "timeout"))
    toy.revoke(store, [Revocation(kind="host", value="h1.example.org")])
    assert store.list("quarantine") == [f"quarantine/{listed[0]['key']}.parquet"]
    toy.revoke(store, [Revocation(kind="license", value="CC-BY")])
    assert store.list("quarantine") == []


def test_what_is_revoked_before_it_was_fetched_is_not_fetched(tmp_path: Path, local_ray: None) -> None:
    store, toy = Store(str(tmp_path / "run")), curation(str(tmp_path / "back"))
    with pytest.raises(ValueError, match="the revocation is recorded"):
        toy.revoke(store, [Revocation(kind="host", value="h1.example.org"), Revocation(kind="license", value="CC0")])
    book = toy.run(store).steps["episode"]
    assert book.dropped[revoke.BEFORE] == len([i for i in range(30) if i % 3 == 1 or i % 2]) == 20
    assert book.balances()


@pytest.mark.parametrize(
    ("kind", "value", "hit"),
    [
        ("host", "example.org", True),
        ("host", "h.example.org", True),
        ("host", "ample.org", False),
        ("host", "cdn.net", True),
        ("url", "https://h.example.org/a", True),
        ("url", "https://h.example.org/", False),
        ("key", "i", True),
        ("license", "CC0", False),
        ("url", "https://H.example.org:443/%61", True),
        ("host", "Example.ORG.", True),
        ("host", "bücher.example", True),
        ("host", "h.example.org.evil.net", False),
        ("license", "  cc-by  4.0 ", True),
        ("sha256", "d1", True),
        ("sha256", "p1", True),
        ("sha256", "k", False),
        ("host", "t.example", True),
        ("url", "https://t.example/x.vtt?token=REDACTED", True),
        ("url", "https://t.example/x.vtt?token=s3cr3tAAAABBBB1", True),
        ("url", "https://more.example/a.srt?token=s3cr3tAAAABBBB1", True),
        ("url", "https://last.example/b", True),
        ("url", "srt https://last.example/b", False),
        ("host", "more.example", True),
        ("host", "last.example", True),
    ],
)
def test_what_a_revocation_matches(kind: revoke.Kind, value: str, hit: bool) -> None:
    row = {
        "url": "https://h.example.org/a",
        "page_url": "https://CDN.net/x",
        "key": "k",
        "input_key": "i",
        "license": "CC-BY 4.0",
        "sha256": "d1",
        "pixel_sha256": "p1",
        "transcript_url": "https://t.example/x.vtt?token=REDACTED",
        "more_transcripts": "srt https://more.example/a.srt?token=REDACTED\n- https://last.example/b",
    }
    row |= {"page_url": "https://xn--bcher-kva.example/"} if "bücher" in value else {}
    assert Revocation(kind=kind, value=value).matches(row) is hit


def test_another_threshold_gives_what_a_new_run_would_give(finished: Store, store: Store, tmp_path: Path) -> None:
    new, fresh = curation(f"{finished.url}-back", min_s=2.5), Store(str(tmp_path / "fresh"))
    name = decide.decide(Journal(store), new.rules, new.schema)
    new.run(fresh)
    assert [(r["key"], r["state"], r["reason"]) for r in decide.verdicts(Journal(store), name).to_pylist()] == [
        (r["key"], r["state"], r["reason"]) for r in table(fresh)
    ]
    old = decide.verdicts(Journal(store), ledger_of(store).verdicts)
    moved = survey.moved(old, decide.verdicts(Journal(store), name))
    kept = pc.sum(pc.and_(pc.equal(old["unit"], "clip"), pc.equal(old["state"], "kept"))).as_py()
    assert moved["clip", "kept", "dropped clip_too_short"] == kept / 2
    sweep = survey.Sweep(unit="clip", place=0, field="min_s", values=(0.5, 1.5, 2.5, 3.5))
    found = survey.survey(Journal(store), new.rules, new.schema, (sweep,))
    episodes = old.filter(pc.equal(old["unit"], "episode"))
    cut = sum(state not in ("failed", "deferred") for state in episodes["state"].to_pylist())
    assert [rows for _, rows, _ in found.yields[0]] == [3 * cut, 2 * cut, cut, 0]
    assert found.objections["clip"]["DropShort", "DropShort"] == found.alone["clip"]["DropShort"] == 2 * cut


def test_the_tars_hold_the_rows_and_the_index_says_where(finished: Store) -> None:
    found = export.manifest_of(Journal(finished))
    index = export.read_index(Journal(finished)).to_pylist()
    shards = {file.path: read_table(finished, file).to_pylist() for file in found.files}
    tars = {file.path: read_file(finished, file) for file in found.webdataset}
    assert len(index) == found.rows == sum(map(len, shards.values())) and len(tars) == len(shards) > 1
    for entry in index:
        row = shards[entry["shard"]][entry["row"]]
        assert row["key"] == entry["key"]
        with tarfile.open(fileobj=io.BytesIO(tars[entry["tar"]][entry["tar_offset"] :])) as tar:
            members = [tar.next() for _ in range(3)]
            data = {m.name: tar.extractfile(m).read() for m in members}
        assert data[f"{row['key']}.flac"] == row["audio"] and data[f"{row['key']}.txt"].decode() == row["text"]
        assert json.loads(data[f"{row['key']}.json"])["license"] == row["license"]
        assert all(m.mtime == m.uid == m.gid == 0 for m in members)
    card = finished.read(CARD).decode()
    assert f"# {found.rows} clip rows" in card and "| CC0 |" in card and "DropShort (min_s=1.5)" in card
