"""Whole commands: what a user types first, what it says when the list is wrong, what comes of it when it is right."""

import functools
import http.server
import io
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.records import INPUTS, LEDGER
from pipeline.storage import Store
from tests.commands import command

NAMES = [f"{i}.png" for i in range(6)]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with six pictures of noise."""
    folder = tmp_path_factory.mktemp("web")
    for number, name in enumerate(NAMES):
        noise = np.random.default_rng(number).integers(0, 256, (96, 96, 3), np.uint8)
        Image.fromarray(noise).save(folder / name)
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        return


def curate(folder: Path, *options: str, job: str = "curate_images") -> tuple[int, str]:
    """Status and last words of a curation in `folder`."""
    fetch = ("--fetch.allow-private", "127.0.0.0/8", "--fetch.per-host-interval-s", "0", "--ray.cpus", "2")
    ended = command(f"jobs.{job}", "--run-dir", "run", *options, *fetch, cwd=folder, env=_environment(), timeout_s=240)
    return ended.returncode, ended.stderr


def _environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return dict(os.environ) | {"PYTHONPATH": root}


def exported(folder: Path) -> dict[str, str | None]:
    """Caption -> the further columns of each exported row."""
    tables = [pq.read_table(path) for path in (folder / "run/export/data").glob("*.parquet")]
    rows = pa.concat_tables(tables).to_pylist()
    return {row["caption"]: row["extra"] for row in rows}


@pytest.mark.parametrize("source", ["list=none.csv", "list=/none", "list=s3x://a/b.csv", "feed=feed.xml", "list="])
def test_a_list_that_is_not_there_is_told_before_ray_starts(tmp_path: Path, source: str) -> None:
    status, said = curate(tmp_path, "--sources", source)
    assert status == 2 and said.startswith("error: ") and said.count("\n") == 1
    assert not (tmp_path / "run/inputs.json").exists() and not (tmp_path / "run/config.json").exists()


def test_a_list_is_mended_grows_and_keeps_its_columns(tmp_path: Path, web: str) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("<!doctype html><title>Sign in</title>")
    status, said = curate(tmp_path, "--sources", "list=list.csv")
    assert status == 2 and said.count("\n") == 1, said
    assert "list_unreadable" in said and "HTML page" in said and "nothing was committed" in said
    store = Store(str(tmp_path / "run"))
    assert not store.exists(INPUTS) and not store.list("fingerprints")

    lines = [f'"{web}/{name}",a picture of coloured noise {name},id-{name}' for name in NAMES]
    torn = lines[1].replace(",a picture", ',"a picture')  # a quote that is left open
    listed.write_text("\n".join(["image,words,id", lines[0], torn, lines[2], "no url at all"]))
    named = ("--sources", "list=list.csv", "--lists.url", "image", "--lists.caption", "words")
    assert curate(tmp_path, *named)[0] == 0
    rows = exported(tmp_path)
    assert len(rows) == 3 and rows["a picture of coloured noise 0.png"] == '{"id": "id-0.png"}'
    ledger = json.loads(store.read(LEDGER))
    assert ledger["steps"]["image"]["failed"] == {"list_line_unreadable": 1}

    listed.write_text("\n".join(["image,words,id", *lines]))
    assert "nothing left to do" in curate(tmp_path, *named)[1]
    assert curate(tmp_path, *named, "--refresh")[0] == 0
    assert len(exported(tmp_path)) == 6 and json.loads(store.read("config.json"))["refresh"] is False
    assert command("jobs.status", "--run-dir", str(tmp_path / "run")).returncode == 0


def test_a_parquet_of_laion_from_a_folder(tmp_path: Path, web: str) -> None:
    (tmp_path / "laion").mkdir()
    sink = io.BytesIO()
    columns = {
        "URL": [f"{web}/{name}" for name in NAMES[:2]],
        "TEXT": [f"a picture of coloured noise {name}" for name in NAMES[:2]],
        "NSFW": ["UNLIKELY", None],
        "similarity": [0.31, 0.42],
    }
    pq.write_table(pa.table(columns), sink)
    (tmp_path / "laion/part-00000.parquet").write_bytes(sink.getvalue())
    assert curate(tmp_path, "--sources", "list=laion", f"list={web}/gone.csv")[0] == 0
    rows = exported(tmp_path)
    assert json.loads(rows["a picture of coloured noise 1.png"]) == {"NSFW": None, "similarity": 0.42}
    ledger = json.loads((tmp_path / "run/ledger.json").read_text())
    assert ledger["steps"]["image"]["failed"] == {"http_404": 1}
    # Options that make it another run are refused, and it stays the run of the options before.
    before = (tmp_path / "run/config.json").read_bytes()
    status, said = curate(tmp_path, "--sources", "list=laion", f"list={web}/gone.csv", "--decode.image-size", "16")
    assert status == 2 and "another plan" in said and (tmp_path / "run/config.json").read_bytes() == before
