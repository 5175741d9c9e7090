"""What the web wrote, in every column that it writes, before every command that shows rows: nothing of it acts on a
terminal, a spreadsheet, or a reader of the export."""

import csv
import dataclasses
import io
import json
import re
import shutil
import tarfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.curate import decide, export, guard, waves
from pipeline.curate.guard import GuardConfig
from pipeline.curate.journal import Journal
from pipeline.curate.run import Curation
from pipeline.curate.stage import Leave, Map, Row
from pipeline.curate.work import start
from pipeline.records import CARD, CLIP, INPUT
from pipeline.storage import Store, parquet_bytes, read_file
from tests.curate import toy
from tests.curate.finished import ledger_of
from tests.jobs.toy_job import Ended, Toy, as_job, call, job

NASTY = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;pwned\x07",
    "\x9b31m",
    "\x9d0;pwned\x9c",
    "\x1bPq\x1b\\",
    "\x1b[2J\x1b[H",
    "a\x00b\x7f\x08\r",
    "\u202egnp.exe",
    "\u2066\u2067\u2068\u2069",
    "a\u200b\u200c\u200d\ufeffb",
    "one\u2028two\u2029three",
    "\x85next\x0bline\x0c",
    "\U000e0001\U000e0041\U000e007f",
    "a\u00adb\u061c\u180e",
    "line\r\n\n# heading\n\t| a | b |",
    "<img src=x onerror=alert(1)>",
    "[a](javascript:alert(1)) ![](http://evil.example/x.png)",
    "`code` **bold** ~~~",
    "---\nlicense: mit\n---",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    '"quoted",unquoted;\'x',
    "http://[x",
    "\ue000\ufff0\U0010ffff",
    "x" * 100_000,
    "\u202e" * 3000,
]
ODD = "\x1b]0;reason\x07\r"  # a reason is ours, and in ASCII, or metrics refuse it
SHOWN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
FORMULA = ("=", "+", "-", "@")


@dataclass(frozen=True, kw_only=True)
class Speak(Map):
    """Errors whose names and words are hostile, a lone surrogate among them; words of all kinds for the rest."""

    def map(self, row: Row) -> Row:
        nasty = NASTY[row["order"]]
        match row["order"] % 6:
            case 2:
                raise type(f"Evil{nasty[:200]}", (Exception,), {})(nasty)
            case 3:
                raise Leave("failed", "http_503", retryable=True, detail=nasty)
            case 5:
                raise Leave("unknown", f"odd{ODD}", detail=nasty)
            case 4:
                raise ValueError(f"{nasty[:100]}\ud800")
        return row | {"transcript": nasty, "language": nasty[:50], "detail": nasty, "text_language": nasty[:50]}


def listing(source: str) -> list[Row]:
    return [
        row
        | {
            "url": f"{row['url']}?{nasty}" if number % 5 else nasty,
            "page_url": nasty,
            "license": nasty,
            "language": nasty,
            "text": nasty,
            "transcript_url": nasty,
            "transcript_type": nasty,
            "transcript_kind": nasty,
        }
        for number, (row, nasty) in enumerate(zip(toy.listing(source), NASTY, strict=True))
    ]


@dataclass(frozen=True, kw_only=True)
class Cut(toy.Cut):
    """Clips that say what their episode says."""

    def split(self, row: Row) -> Iterator[Row]:
        for made in super().split(row):
            # A page may be anywhere; a file that was had has a URL that can be asked for.
            yield made | {"text": row["transcript"], "url": made["url"].replace("http://[x", "http://x")}


def curation(config: Toy) -> Curation:
    columns = ("key", "audio", "text", "url", "page_url", "license", "language")
    return dataclasses.replace(
        toy.curation("", config.short.min_s),
        discover=toy.Listed(read=listing),
        export_columns=columns,
        export=config.export,
        stages=(Speak(), Cut()),
    )


@pytest.fixture(scope="module")
def run(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Ended]]:
    assert len(NASTY) == 30
    folder = tmp_path_factory.mktemp("hostile")
    store = Store(f"{folder}/run")
    with as_job(curation):
        ended = job(store, Toy(run_dir=store.url))
        assert ended.status == 0, ended.text[-2000:]
        quarantine(store, 0, Leave("failed", NASTY[1], detail=NASTY[0]))
        yield store, ended


def quarantine(store: Store, number: int, leave: Leave) -> None:
    row = start(pa.Table.from_pylist([listing("a")[number] | {"order": number}], schema=INPUT), CLIP, unit="episode")
    limits = GuardConfig(timeout_s=30.0, memory_mb=4096)
    guard._quarantine(store, guard.Work(stage=Speak(), schema=CLIP, limits=limits), row, leave)


@pytest.fixture
def store(run: tuple[Store, Ended], tmp_path: Path) -> Store:
    shutil.copytree(run[0].url, tmp_path / "run")
    return Store(f"{tmp_path}/run")


def loud(text: str) -> list[str]:
    """Characters that do something to a terminal, or are not seen."""
    return [c for c in text if unicodedata.category(c) in SHOWN and c not in "\n\t"]


def verdicts(store: Store) -> list[Row]:
    return decide.verdicts(Journal(store), ledger_of(store).verdicts).to_pylist()


def test_the_rows_are_as_hostile_as_they_are_meant_to_be(run: tuple[Store, Ended]) -> None:
    rows = [row for part in waves.parts(Journal(run[0])) for row in waves.read_part(run[0], part).to_pylist()]
    assert {row["license"] for row in rows} == set(NASTY)
    for name in ("url", "page_url", "license", "detail", "transcript", "text", "language", "reason"):
        assert len(loud("".join(row[name] or "" for row in rows))) > 10, name
    assert {row["reason"] for row in rows} >= {"http_503", "unicode_encode_error", f"odd{ODD}"}
    assert all(re.fullmatch("[a-z0-9_]+", row["reason"]) for row in rows if row["reason"] and ODD not in row["reason"])


COMMANDS = {
    "status": {},
    "audit": {},
    "rows": {"limit": 1000},
    "decide": {"set": ("short.min_s=2.5",)},
    "retry": {"every": True},
    "revoke": {"license": (NASTY[0], NASTY[6])},
    "diff": {},
    "replay_failure": {},
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_lets_them_reach_the_terminal(run: tuple[Store, Ended], store: Store, name: str) -> None:
    options = dict(COMMANDS[name])
    if name == "diff":
        assert call("revoke", store, host=("h1.example.org",)).status == 0
        options["b"] = run[0].url
    ended = call(name, store, **options)
    assert ended.status == (1 if name == "diff" else 0), ended.text[-3000:]
    assert loud(ended.text) == [] and len(ended.text) > 20
    assert max(map(len, ended.text.splitlines())) <= 2001


def test_the_job_itself_is_as_quiet(run: tuple[Store, Ended]) -> None:
    assert loud(run[1].text) == [] and "of 30 episodes kept" in run[1].text


def test_each_row_is_explained_on_lines_of_its_own(run: tuple[Store, Ended]) -> None:
    for row in verdicts(run[0]):
        if row["unit"] == "episode" or row["order"] in (0, 6, 7, 12, 24):
            ended = call("explain", run[0], row=row["key"])
            assert ended.status == 0 and loud(ended.text) == [], (row["order"], ended.text[-2000:])
            assert ended.out.startswith(f"key       {row['key']}\n") and ended.text.count("\nkey ") == 0
            assert all(len(line) <= 1000 and re.match(r"[a-z]{3,10} ", line) for line in ended.out.splitlines()), (
                ended.out
            )
    for row in [row for row in verdicts(run[0]) if row["unit"] == "episode" and "/" in row["url"]]:
        ended = call("explain", run[0], row=row["url"])
        assert ended.status == 0 and f"key       {row['key']}\n" in ended.out and loud(ended.text) == []


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("explain", {"row": "https://example.org/\x1b]0;pwned\x07\u202e"}),
        ("explain", {"row": "\x1b[31m\u202e"}),
        ("revoke", {"host": ("\x1b[31m\u202e.example",)}),
        ("revoke", {"url": ("http://[x/\x9b",)}),
        ("revoke", {"key": ("\u2028",)}),
        ("revoke", {"sha256": ("\x1b",)}),
        ("revoke", {"license": ("\x1b" + "x" * 100_000,)}),
        ("replay_failure", {"key": "\x1b[31m\u202e"}),
        ("replay_failure", {"key": "../\x1b"}),
        ("decide", {"set": ("\x1b[31m",)}),
        ("decide", {"set": ("\x1b.x=1",)}),
        ("decide", {"set": ("short.min_s=\x1b\u202e",)}),
        ("rows", {"reason": "\x1b[31m\u202e"}),
        ("rows", {"out": "x.\x1b"}),
        ("diff", {"b": "/nowhere/\x1b[31m"}),
    ],
)
def test_what_is_asked_for_is_not_echoed_raw(store: Store, name: str, options: dict[str, object]) -> None:
    ended = call(name, store, **options)
    assert loud(ended.text) == [] and "Traceback" not in ended.text, ended
    assert ended.status == (0 if "reason" in options else 2) and max(map(len, ended.text.splitlines())) <= 2010


def test_a_replayed_row_is_shown_safely(run: tuple[Store, Ended], store: Store) -> None:
    key = listing("a")[0]["key"]
    ended = call("replay_failure", store, key=key)
    assert ended.status == 0 and loud(ended.text) == [] and "it was    \\x1b]0;pwned\\x07" in ended.out
    quarantine(store, 4, Leave("failed", "x"))
    ended = call("replay_failure", store, key=listing("a")[4]["key"])
    assert ended.status == 1 and loud(ended.text) == [] and len(ended.out.splitlines()) == 3, ended


def test_a_bundle_keeps_no_secret_and_one_that_is_none_is_named(store: Store) -> None:
    url = "https://user:hunter2@example.org/a?X-Amz-Signature=0123456789abcdef0123456789abcdef"
    row = listing("a")[0] | {"order": 0, "url": url, "page_url": url}
    rows = start(pa.Table.from_pylist([row], schema=INPUT), CLIP, unit="episode")
    work = guard.Work(stage=Speak(), schema=CLIP, limits=GuardConfig())
    guard._quarantine(store, work, rows, Leave("failed", "x", detail=f"{url} timed out"))
    table = pq.read_table(io.BytesIO(store.read(f"quarantine/{row['key']}.parquet")))
    assert not re.search("hunter2|0123456789abcdef", f"{table.to_pylist()} {table.schema.metadata}")
    store.write("quarantine/notes.parquet", b"not ours")
    assert call("replay_failure", store).out == f"{row['key']}\n"
    for data in (b"", b"PAR1junk", parquet_bytes(pa.table({"x": [1]}), 1)):
        store.write("quarantine/abcd.parquet", data)
        ended = call("replay_failure", store, key="abcd")
        assert ended.status == 2 and f"{store.url}/quarantine/abcd.parquet is no bundle" in ended.err
        assert len(ended.err.splitlines()) == 1


def test_files_of_rows_are_what_their_readers_take_them_for(run: tuple[Store, Ended], tmp_path: Path) -> None:
    rows = verdicts(run[0])
    for ending in ("csv", "jsonl", "parquet"):
        ended = call("rows", run[0], out=f"{tmp_path}/rows.{ending}")
        assert ended.status == 0 and loud(ended.text) == [] and ended.out == ""
    data = (tmp_path / "rows.csv").read_bytes().decode()
    assert loud(data.replace("\r\n", "\n")) == [] and len(data.splitlines()) == len(rows) + 1
    listed = list(csv.DictReader(io.StringIO(data, newline="")))
    assert [row["key"] for row in listed] == [row["key"] for row in rows] and None not in listed[0]
    cells = [(value, name) for row in listed for name, value in row.items()]
    assert [cell for cell in cells if cell[0].startswith(FORMULA)] == []
    assert "'=cmd|' /C calc'!A0" in {row["license"] for row in listed}
    lines = (tmp_path / "rows.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["license"] for line in lines] == [row["license"] for row in rows]
    assert loud((tmp_path / "rows.jsonl").read_text()) == []
    assert pq.read_table(tmp_path / "rows.parquet")["license"].to_pylist() == [row["license"] for row in rows]


def test_differences_as_json_are_one_object_a_line(run: tuple[Store, Ended], store: Store) -> None:
    assert call("revoke", store, license=(NASTY[0],)).status == 0
    ended = call("diff", store, b=run[0].url, json_lines=True)
    assert ended.status == 1 and loud(ended.text) == []
    assert {json.loads(line)["why"] for line in ended.out.splitlines()} == {"verdict"}


def test_the_card_shows_their_words_and_nothing_else(run: tuple[Store, Ended]) -> None:
    card = run[0].read(CARD).decode()
    assert loud(card) == [] and not re.search(r"<\w|\]\(|!\[|javascript:|onerror=", card)
    front, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL).groups()
    yaml = pytest.importorskip("yaml")
    assert set(yaml.safe_load(front)) == {"configs", "dataset_info"}
    tables = [line for line in body.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) in (3, 4) and len(line) < 1000 for line in tables)
    assert [line for line in body.splitlines() if line.startswith("#")] == [
        line
        for line in body.splitlines()
        if re.match(r"# \d+ clip rows$|## (Columns|Licenses|Hosts|Rules|Identity)", line)
    ]


def test_the_tars_hold_json_that_says_what_they_wrote(run: tuple[Store, Ended]) -> None:
    found = export.manifest_of(Journal(run[0]))
    said = {row["key"]: row for row in verdicts(run[0])}
    number = 0
    for file in found.webdataset:
        with tarfile.open(fileobj=io.BytesIO(read_file(run[0], file))) as tar:
            for member in tar.getmembers():
                assert re.fullmatch(r"[0-9a-f]{32}\.(json|txt|flac)", member.name)
                if member.name.endswith(".json"):
                    value = json.loads(tar.extractfile(member).read())
                    assert value["license"] == said[value["key"]]["license"] and set(value) >= {
                        "url",
                        "page_url",
                        "text",
                    }
                    number += 1
    assert number == found.rows > 10
