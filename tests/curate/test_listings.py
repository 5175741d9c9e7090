"""The door of a run: listings that fail, that are mended, and that grow."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs import status
from pipeline.curate import audit, decide, forget, listings, plan, revoke, waves
from pipeline.curate.guard import Guard, GuardConfig
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import ExportConfig
from pipeline.curate.run import Curation
from pipeline.curate.stage import Leave, Row, Split, left
from pipeline.records import CLIP, INPUT, INPUTS, key_of
from pipeline.storage import Store
from tests.curate.finished import ledger_of
from tests.curate.toy import Cut, DropShort, Listed


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """Listings as a file has them: source -> numbers of episodes (below 0 a line that cannot be read, a text where it
    is cut), or the reason why it cannot be read."""

    path: str

    def put(self, **named: list[int | str] | str) -> None:
        Path(self.path).write_text(json.dumps(named))

    def __call__(self, source: str) -> list[Row]:
        blank = dict.fromkeys(INPUT.names)
        named = json.loads(Path(self.path).read_text())[source]
        if isinstance(named, str):
            return [
                left(blank | {"key": key_of("of", source), "url": source}, Leave("failed", named, detail="so it is"))
            ]
        rows = []
        for n in named:
            if isinstance(n, str):
                cut = Leave("failed", "listing_cut", detail=n)
                rows.append(left(blank | {"key": key_of(source, "cut"), "url": source}, cut))
                continue
            row = blank | {"key": key_of(str(n)), "url": f"http://e.example/{n}"}
            rows.append(left(row, Leave("failed", "list_line_unreadable")) if n < 0 else row)
        return rows


def curation(shelf: Shelf, *sources: str) -> Curation:
    return Curation(
        name="toy",
        sources=sources or ("a", "b"),
        discover=Listed(read=shelf),
        schema=CLIP,
        unit="episode",
        stages=(Cut(),),
        rules=(decide.Rules(unit="episode"), decide.Rules(unit="clip", filters=(DropShort(),))),
        export_unit="clip",
        export_columns=("key", "text"),
        waves=waves.WaveConfig(wave_rows=4, split_rows=2),
        export=ExportConfig(),
    )


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(path=str(tmp_path / "shelf.json"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "run"))


def inputs_of(store: Store) -> Counter[str]:
    """Each input that stands and where it ended."""
    table = decide.verdicts(Journal(store), ledger_of(store).verdicts)
    episodes = [row for row in table.to_pylist() if row["unit"] == "episode"]
    assert len({row["key"] for row in episodes}) == len(episodes)
    assert len({row["order"] for row in episodes}) == len(episodes)
    return Counter(
        (row["url"] or "").rpartition("/")[2] + f" {row['state']} {row['reason'] or ''}".rstrip() for row in episodes
    )


def sound(store: Store) -> bool:
    return not audit.audit(Journal(store)).findings and status._show(Journal(store))


def test_a_run_that_no_listing_gives_inputs_commits_nothing(local_ray: None, shelf: Shelf, store: Store) -> None:
    toy = curation(shelf)
    for failed in ({"a": "http_404", "b": "list_unreadable"}, {"a": "http_404", "b": [-1, -2]}, {"a": [], "b": []}):
        shelf.put(**failed)
        with pytest.raises(
            ValueError, match="^no listing could be read: a .and 1 more.: .*nothing was committed"
        ) as error:
            toy.run(store)
        assert "\n" not in str(error.value)
        assert not store.exists(INPUTS) and not plan.rounds(Journal(store)) and not store.list("fingerprints")
    with pytest.raises(ValueError, match="there is no listing"):
        Curation(**{**vars(toy), "sources": ()}).run(store)
    shelf.put(a="http_404", b=[10, 11])
    toy.run(store)
    assert inputs_of(store) == Counter(["a failed http_404", "10 kept", "11 kept"]) and sound(store)


def test_a_listing_that_failed_is_read_again_by_retry(local_ray: None, shelf: Shelf, store: Store) -> None:
    toy = curation(shelf)
    shelf.put(a="http_404", b=[10, 11])
    toy.run(store)
    assert toy.retry(store)[0] == 0
    shelf.put(a=[11, 12, -1, 12], b=[10, 11, 13])
    tried, ledger = toy.retry(store)
    assert tried == 4 and ledger.rounds == 2
    expected = [
        "10 kept",
        "11 kept",
        "11 dropped duplicate_url",
        "12 kept",
        "12 dropped duplicate_url",
        "-1 failed list_line_unreadable",
    ]
    assert inputs_of(store) == Counter(expected), "b was read: what it names anew is for --refresh"
    assert sound(store) and toy.retry(store)[0] == 0
    assert ledger.steps["episode"].in_ == 6 and toy.is_finished(Journal(store))
    assert listings.every_input(Journal(store)).num_rows == 6
    hit = forget.hits(Journal(store), [revoke.Revocation(kind="host", value="e.example")])[0]
    assert hit.inputs == 6


def test_refresh_takes_in_what_is_new(local_ray: None, shelf: Shelf, store: Store) -> None:
    toy = curation(shelf)
    shelf.put(a=[10, 10, -1], b="timeout")
    toy.run(store, refresh=True)
    first = {name: store.read(name) for name in store.list("rows")}
    expected = ["10 kept", "10 dropped duplicate_url", "-1 failed list_line_unreadable"]
    assert inputs_of(store) == Counter([*expected, "b failed timeout"])
    shelf.put(a="http_500", b="timeout")
    toy.run(store, refresh=True)
    assert inputs_of(store) == Counter([*expected, "b failed timeout"])
    shelf.put(a=[14, 10, -1, 10, -2], b=[10, 15])
    for _ in range(2):
        ledger = toy.run(store, refresh=True)
        more = ["14 kept", "15 kept", "10 dropped duplicate_url", "-2 failed list_line_unreadable"]
        assert inputs_of(store) == Counter([*expected, *more]) and ledger.rounds == 2
    shelf.put(a=[-1, 16, -2], b=[])
    toy.run(store, refresh=True)
    assert inputs_of(store) == Counter([*expected, *more, "16 kept"]) and sound(store), "what is gone from a list stays"
    assert first.items() <= {name: store.read(name) for name in store.list("rows")}.items()
    assert toy.run(store).rounds == 3 and toy.is_finished(Journal(store))


LINE, CUT = "-1 failed list_line_unreadable", "a failed listing_cut"


@pytest.mark.parametrize(
    ("before", "after", "expected", "rounds"),
    [
        ([10, "page 2"], [10, 11], ["10 kept", "11 kept"], 2),
        ([10, "page 2"], [10], ["10 kept"], 2),
        ([10, "page 2"], [11, "page 2"], ["10 kept", "11 kept", CUT], 2),
        ([10, "page 2"], [10, "page 2"], ["10 kept", CUT], 1),
        ([10, "page 2"], [10, "page 3"], ["10 kept", CUT], 2),
        ([10, "page 2"], "http_500", ["10 kept", CUT], 1),
        ([10, -1], [10, 11], ["10 kept", "11 kept"], 2),
        ([10, -1, -1, -1], [10, -1], ["10 kept", LINE], 2),
        ([10, 12, -1, "page 2"], [-1, 12, 10], ["10 kept", "12 kept", LINE], 2),
        ([-1, "page 2"], [10], ["10 kept"], 2),
    ],
)
def test_what_could_not_be_read_within_a_listing_goes_once_it_is(
    local_ray: None, shelf: Shelf, store: Store, before: list, after: list | str, expected: list[str], rounds: int
) -> None:
    toy = curation(shelf)
    shelf.put(a=before, b=[20, "page 9"])
    toy.run(store)
    assert toy.retry(store)[0] == 0 or before[0] == -1
    shelf.put(a=after, b="http_500")
    others = ["20 kept", "b failed listing_cut"]  # of a listing that cannot be read now, nothing goes
    for _ in range(2):
        ledger = toy.run(store, refresh=True)
        assert inputs_of(store) == Counter([*expected, *others]) and ledger.rounds == rounds and sound(store)
    details = {row["detail"] for row in decide.verdicts(Journal(store), ledger.verdicts).to_pylist()}
    if rounds > 1 and CUT in expected:
        assert after[-1] in details and details <= {None, after[-1], "page 9"}
    assert toy.is_finished(Journal(store)) and toy.run(store).rounds == rounds
    assert listings.every_input(Journal(store)).num_rows == sum(inputs_of(store).values())
    shelf.put(a=[10, "page 7"], b=[20])
    toy.run(store, refresh=True)
    shelf.put(a=[10], b=[20])
    toy.run(store, refresh=True)
    assert not [name for name in inputs_of(store) if "failed" in name] and sound(store)


def test_a_refresh_that_was_cut_short_is_ended(
    local_ray: None, shelf: Shelf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = curation(shelf)
    shelf.put(a="http_404", b=[10])
    toy.run(store)
    shelf.put(a=list(range(20, 30)), b=[10])
    run_wave = waves._run_wave

    def one(journal: Journal, attempt: waves.Attempt, *rest: object) -> None:
        if attempt.wave == 1:
            raise KeyboardInterrupt
        run_wave(journal, attempt, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(waves, "_run_wave", one)
        with pytest.raises(KeyboardInterrupt):
            toy.run(store, refresh=True)
    assert not toy.is_finished(Journal(store))
    toy.run(store)
    assert sum(inputs_of(store).values()) == 11 and sound(store) and plan.rounds(Journal(store)) == [0, 1]


@dataclass(frozen=True, kw_only=True)
class Three(Split):
    """Three files of each listing, but for one that never ends."""

    endless: str

    def split(self, row: Row) -> Iterator[Row]:
        while row["source"] == self.endless:
            pass
        blank = dict.fromkeys(INPUT.names)
        for n in range(3):
            yield blank | {"key": key_of(str(n)), "url": f"http://e.example/{n}", "order": row["order"] + n}


def test_discovery_is_guarded(local_ray: None, store: Store) -> None:
    guard = Guard(limits=GuardConfig(timeout_s=1.0), run_dir=store.url)
    good, hung = listings.read(Three(endless="hang"), ["fine", "hang"], guard)
    assert good.num_rows == 3 and good["source"].to_pylist() == ["fine"] * 3
    assert hung.to_pylist()[0]["reason"] == "timeout" and hung["retryable"].to_pylist() == [True]
