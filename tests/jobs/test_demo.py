"""The whole stack at a reduced size, killed twice on the way: the books, the keys and the results are all there."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from pipeline.config import from_json
from pipeline.curate import decide
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import Book
from pipeline.demo import corpus
from pipeline.manifest import Manifest, read_manifest
from pipeline.records import EXPORT
from pipeline.storage import Store, read_json, read_table

ROOT = Path(__file__).parents[2]


def demo(run_dir: Path, port: int) -> subprocess.Popen:
    """On the Ray that is there, so that not each of its jobs starts one."""
    command = [sys.executable, "-m", "jobs.demo", "--profile", "debug", "--run-dir", str(run_dir), "--port", str(port)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_when(process: subprocess.Popen, condition: Callable[[], bool], timeout_s: float = 600) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def digests(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def finished(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, int]:
    run_dir = tmp_path_factory.mktemp("demo") / "run"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = min(probe.getsockname()[1], 65_000)
    kill_when(demo(run_dir, port), lambda: any((run_dir / "images/waves").glob("*.json")))
    kill_when(demo(run_dir, port), lambda: any((run_dir / "dvae/checkpoints").rglob("manifest.json")))
    process = demo(run_dir, port)
    output = process.communicate(timeout=900)[0]
    assert process.returncode == 0, output
    return Store(str(run_dir)), port


def test_each_planted_trouble_is_found_under_its_reason(finished: tuple[Store, int]) -> None:
    store, port = finished
    found = {}
    for name in ("images", "speech"):
        table = decide.verdicts(Journal(store.sub(name)), read_json(store.sub(name), "ledger.json")["verdicts"])
        for row in table.to_pylist():
            if row["key"] == row["input_key"] and row["state"] != "kept":
                found[row["url"].split("/", 3)[3]] = (row["state"], row["reason"])
    expected = {path[1:]: way for path, way in corpus.PLANTED.items()}
    assert found == expected


def test_the_report_carries_every_figure(finished: tuple[Store, int]) -> None:
    report = read_json(finished[0], "report.json")
    speech = dict(report["curation"]["speech"])
    for book in (report["curation"]["images"], speech.pop("clips"), speech):
        assert from_json(Book, book | {"hours": {}, "bytes": {}}).balances()  # the report leaves these two out
    assert (report["curation"]["images"]["in"], report["curation"]["images"]["kept"]) == (1448, 1437)
    assert (report["curation"]["speech"]["in"], report["curation"]["speech"]["kept"]) == (21, 12)
    assert report["wall_s"] > 0 and 0.5 < report["peak_rss_gb"] < 10
    assert 5 < report["dvae"]["psnr_db"] < 60 and 0 < report["dvae"]["codebook_usage"] <= 1
    gpt, generation = report["gpt"], report["generation"]
    assert 0 < gpt["bits_per_code"] < 20 and 0 < gpt["bits_per_code_table"] < gpt["bits_per_code_uniform"]
    assert 0 <= gpt["picture_to_text_low"] <= gpt["picture_to_text"] <= gpt["picture_to_text_high"] <= 1
    assert report["decoder"]["psnr_db_dvae"] == report["dvae"]["psnr_db"] and report["decoder"]["psnr_db"] > 5
    assert generation["n"] == 20 and generation["digit_accuracy_real"] > 0.95
    assert 0 <= generation["copies"] <= 1 and 0 <= generation["near_copies"] <= 1
    assert 0 < generation["frechet_real"] < generation["frechet"]
    page = finished[0].read("report.html").decode()
    assert "http-equiv" in page and page.count("<audio") >= 6 and page.count("data:image/png") >= 36


def test_exported_rows_are_the_sites_good_pictures_once_each(finished: tuple[Store, int]) -> None:
    store = finished[0].sub("images")
    files = read_manifest(store, EXPORT, Manifest).files
    rows = [row for file in files for row in read_table(store, file, ["key", "url", "caption"]).to_pylist()]
    urls = [row["url"].split("/", 3)[3] for row in rows]
    assert len(rows) == len({row["key"] for row in rows}) == 1437
    assert not {f"images/{i:04d}.png" for i in range(0, 1797, corpus.HELDOUT_EVERY)} & set(urls)
    assert {row["caption"] for row in rows} == {corpus.caption(i) for i in range(1797) if not corpus.is_heldout(i)}


def test_run_again_it_says_so_and_changes_no_byte(finished: tuple[Store, int]) -> None:
    store, port = finished
    before = digests(Path(store.local_path))
    process = demo(Path(store.local_path), port)
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 0 and "nothing left to do" in output
    assert digests(Path(store.local_path)) == before
