"""The exit: after a run, a retry, other thresholds and a revocation, every reader gets each key once, and nothing
revoked.

Real jobs on a real web of loopback; the folder is read as its users would first try.
"""

import io
import json
import os
import sys
import tarfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import duckdb
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import soundfile
import webdataset
from PIL import Image

from jobs import curate_images, curate_speech
from pipeline.config import load
from pipeline.curate import export, revoke, waves
from pipeline.curate.journal import Journal
from pipeline.curate.run import Curation
from pipeline.records import PAYLOAD
from pipeline.storage import Store
from tests.curate.fetch.conftest import Web, site  # noqa: F401 - a fixture
from tests.media.sounds import encode, voice

FETCH = [
    "--fetch.allow-private",
    "127.0.0.0/8",
    "--fetch.per-host-interval-s",
    "0",
    "--fetch.retries",
    "0",
    "--ray.cpus",
    "2",
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all the loads of a test, as a user has one.

    Even to pass encoded bytes through, `datasets` imports torchcodec, whose wheels do not load beside every torch.
    """
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    for name in ("torchcodec", "torchcodec.encoders"):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(AudioEncoder=None))


def picture(seed: int, side: int = 96) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)).save(out, "png")
    return out.getvalue()


def episode(seed: int) -> bytes:
    samples = voice(9.0, 16_000) * (0.5 + 0.1 * seed)
    return encode("wav", samples, 16_000)


VTT = """WEBVTT

00:00.500 --> 00:03.500
Number {n} tells how the lighthouse was painted, in a week without wind.

00:05.000 --> 00:08.500
Then the keeper of number {n} came down, and nobody said a word.
"""


def images(store: Store, web: Web, *options: str) -> Curation:
    config = load(
        curate_images.CurateImages,
        [
            "--run-dir",
            store.url,
            "--sources",
            f"list={web.url}/list.jsonl",
            *FETCH,
            "--export.shard-rows",
            "4",
            "--export.webdataset",
            *options,
        ],
    )
    return curate_images.curation(config)


def speech(store: Store, web: Web, *options: str) -> Curation:
    config = load(
        curate_speech.CurateSpeech,
        [
            "--run-dir",
            store.url,
            "--sources",
            f"feed={web.url}/feed.xml",
            *FETCH,
            "--export.shard-rows",
            "3",
            "--export.webdataset",
            *options,
        ],
    )
    return curate_speech.curation(config)


def serve_images(web: Web, count: int = 10) -> None:
    lines = [
        {"url": f"{web.url}/{i}.png", "caption": f"a field of noise, number {i}", "license": "CC0" if i > 4 else None}
        for i in range(count)
    ]
    lines.append({"url": f"{web.url}/copy-of-6.png", "caption": "the very picture of number six"})
    web.pages = {f"/{i}.png": picture(i, 96 + i) for i in range(count)} | {"/copy-of-6.png": picture(6, 102)}
    web.pages["/list.jsonl"] = "".join(json.dumps(line) + "\n" for line in lines)
    web.pages["/3.png"] = {"status": 500}


def serve_speech(web: Web, count: int = 4) -> None:
    items = "".join(
        f'<item><title>{i}</title><enclosure url="{web.url}/{i}.wav" type="audio/wav" length="1"/>'
        f'<podcast:transcript url="{web.url}/{i}.vtt" type="text/vtt" language="en"/></item>'
        for i in range(count)
    )
    web.pages = {f"/{i}.wav": episode(i) for i in range(count)} | {f"/{i}.vtt": VTT.format(n=i) for i in range(count)}
    web.pages["/feed.xml"] = (
        '<?xml version="1.0"?><rss version="2.0" xmlns:podcast="https://podcastindex.org/namespace/1.0"><channel>'
        f"<title>t</title><language>en</language>{items}</channel></rss>"
    )
    web.pages["/1.wav"] = {"status": 503}


def read_everywhere(store: Store, medium: str) -> list[dict[str, Any]]:
    """The exported rows by pandas, once all other readers were seen to say the same."""
    folder = f"{store.url}/export"
    frame = pandas.read_parquet(f"{folder}/data")
    keys = sorted(frame["key"])
    assert len(set(keys)) == len(keys) > 0
    table = pyarrow.dataset.dataset(f"{folder}/data").to_table()
    assert sorted(table["key"].to_pylist()) == keys == sorted(pq.read_table(f"{folder}/data")["key"].to_pylist())
    for pattern in ("data/*.parquet", "**/*.parquet"):
        assert sorted(key for (key,) in duckdb.sql(f"select key from '{folder}/{pattern}'").fetchall()) == keys
    by_card = datasets.load_dataset(folder, split="train")
    assert sorted(by_card["key"]) == keys and by_card.column_names == table.column_names
    by_name = datasets.load_dataset("parquet", data_files=f"{folder}/data/*.parquet", split="train")
    streamed = datasets.load_dataset(folder, split="train", streaming=True)
    tars = sorted(str(path) for path in Path(folder, "webdataset").glob("*.tar"))
    by_tar = datasets.load_dataset("webdataset", data_files=f"{folder}/webdataset/*.tar", split="train")
    if medium == "audio":  # decoding would need torchcodec
        streamed = streamed.cast_column("audio", datasets.Audio(decode=False))
    assert sorted(by_name["key"]) == sorted(row["key"] for row in streamed) == sorted(by_tar["__key__"]) == keys
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert sorted(sample["__key__"] for sample in samples) == keys
    if medium == "image":
        assert all(isinstance(row["image"], Image.Image) for row in by_card)
        decoded = list(webdataset.WebDataset(tars, shardshuffle=False).decode("pil"))
        assert all(sample["png"].size and sample["json"]["key"] == sample["__key__"] for sample in decoded)
        assert all(isinstance(row["png"], Image.Image) for row in by_tar)
    else:
        assert isinstance(by_card.features["audio"], datasets.Audio)
        for row in by_card.cast_column("audio", datasets.Audio(decode=False)):
            waveform, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]))
            assert rate == row["sample_rate"] and abs(len(waveform) / rate - row["duration_s"]) < 0.01
    for sample in samples:
        values = json.loads(sample["json"])
        assert None not in values.values() and {"license", "url"} <= values.keys()
    _check_folder(store, keys)
    return frame.to_dict("records")


def _check_folder(store: Store, keys: list[str]) -> None:
    """Nothing lies there that is not named, and the index says where each key is."""
    named = {file.path for file in export.shards(Journal(store))} | {"export/manifest.json", "export/README.md"}
    assert set(store.list("export")) == named
    for place in export.read_index(Journal(store)).to_pylist():
        table = pq.read_table(f"{store.url}/{place['shard']}")
        assert table["key"][place["row"]].as_py() == place["key"]
        with tarfile.open(fileobj=io.BytesIO(store.read(place["tar"])[place["tar_offset"] :])) as tar:
            assert tar.next().name.startswith(place["key"])
    assert sorted(export.read_index(Journal(store))["key"].to_pylist()) == keys


def everything(store: Store) -> Iterator[tuple[str, bytes]]:
    """Every byte of a run as any tool would see it: raw, and every value of every table in it."""
    for folder, _, names in os.walk(store.url):
        for name in names:
            path = os.path.join(folder, name)
            data = Path(path).read_bytes()
            yield path, data
            if name.endswith((".parquet", ".arrow")):
                table = (
                    pq.read_table(pa.BufferReader(data))
                    if name.endswith(".parquet")
                    else pa.ipc.open_file(data).read_all()
                )
                for column in table.column_names:
                    for value in table[column].to_pylist():
                        if isinstance(value, str | bytes):
                            yield f"{path} {column}", value if isinstance(value, bytes) else value.encode()


def payload_of(store: Store, url: str) -> list[bytes]:
    """The media and words of a row's input and of its parts, as the waves hold them."""
    found = []
    for part in waves.parts(Journal(store)):
        for row in waves.read_part(store, part).to_pylist():
            if row["url"] == url:
                found += [row[name] for name in PAYLOAD if row.get(name)]
    return [value if isinstance(value, bytes) else value.encode() for value in found]


def holding(store: Store, needles: list[bytes]) -> list[str]:
    return [where for where, data in everything(store) if any(needle in data for needle in needles)]


@pytest.fixture
def web(site: Web) -> Web:  # noqa: F811
    return site


def test_pictures_in_every_reader_after_each_step(web: Web, tmp_path: Path, local_ray: None) -> None:
    serve_images(web)
    store = Store(str(tmp_path / "images"))
    images(store, web).run(store)
    assert len(read_everywhere(store, "image")) == 9
    web.pages["/3.png"] = picture(3, 99)
    tried, _ = images(store, web).retry(store)
    rows = read_everywhere(store, "image")
    assert tried == 1 and len(rows) == 10 and sum(row["url"].endswith("/3.png") for row in rows) == 1
    images(store, web, "--small.min-side-px", "98").run(store)
    assert len(read_everywhere(store, "image")) == 8
    images(store, web, "--export.no-webdataset", "--export.shard-rows", "5").run(store)
    assert not store.list("export/webdataset") and len(pandas.read_parquet(f"{store.url}/export/data")) == 10
    curation = images(store, web)
    curation.run(store)
    read_everywhere(store, "image")
    taken = f"{web.url}/6.png"
    needles = payload_of(store, taken)
    assert len(needles) == 2 and len({where.split(" ")[0] for where in holding(store, needles)}) >= 4, "found before"
    curation.revoke(store, [revoke.Revocation(kind="url", value=taken, note="mail of 3 May")])
    rows = read_everywhere(store, "image")
    assert len(rows) == 9 and not any("6.png" in row["url"] for row in rows), "no copy of it takes its place"
    assert holding(store, needles) == []
    assert curation.is_finished(Journal(store))


def test_clips_in_every_reader_after_each_step(web: Web, tmp_path: Path, local_ray: None) -> None:
    serve_speech(web)
    store = Store(str(tmp_path / "speech"))
    speech(store, web).run(store)
    first = read_everywhere(store, "audio")
    assert len(first) == 6, "two clips of each episode that was had"
    web.pages["/1.wav"] = episode(1)
    assert speech(store, web).retry(store)[0] == 1
    assert len(read_everywhere(store, "audio")) == 8
    curation = speech(store, web, "--duration.min-s", "3.3")
    curation.run(store)
    stricter = read_everywhere(store, "audio")
    assert 0 < len(stricter) < 8
    curation = speech(store, web)
    curation.run(store)
    needles = payload_of(store, f"{web.url}/2.wav")
    assert len(needles) == 5 and holding(store, needles), "a transcript, two clips and their words"
    curation.revoke(
        store,
        [
            revoke.Revocation(kind="url", value=f"{web.url}/2.vtt"),
            revoke.Revocation(kind="url", value=f"{web.url}/2.wav"),
        ],
    )
    assert len(read_everywhere(store, "audio")) == 6 and holding(store, needles) == []


def test_two_corpora_and_two_versions_never_meet_in_a_cache(web: Web, tmp_path: Path, local_ray: None) -> None:
    serve_images(web)
    one, two = Store(str(tmp_path / "a")), Store(str(tmp_path / "b"))
    images(one, web).run(one)
    serve_speech(web)
    speech(two, web).run(two)
    before = datasets.load_dataset(f"{one.url}/export", split="train")
    assert (
        "image" in before.column_names
        and "audio" in datasets.load_dataset(f"{two.url}/export", split="train").column_names
    )
    assert "image" in datasets.load_dataset(f"{one.url}/export", split="train").column_names
    images(one, web).revoke(one, [revoke.Revocation(kind="url", value=f"{web.url}/0.png")])
    assert len(datasets.load_dataset(f"{one.url}/export", split="train")) == len(before) - 1


def test_an_export_of_nothing_is_an_empty_data_set(web: Web, tmp_path: Path, local_ray: None) -> None:
    serve_images(web)
    store = Store(str(tmp_path / "none"))
    images(store, web, "--small.min-side-px", "5000").run(store)
    folder = f"{store.url}/export/data"
    assert len(pandas.read_parquet(folder)) == 0 == len(pyarrow.dataset.dataset(folder).to_table())
    assert list(datasets.load_dataset(f"{store.url}/export", split="train", streaming=True)) == []


def test_the_manifest_does_not_grow_with_the_rows(web: Web, tmp_path: Path, local_ray: None) -> None:
    sizes = []
    for count in (20, 120):
        serve_images(web, count)
        store = Store(str(tmp_path / str(count)))
        curation = images(store, web, "--export.shard-rows", "2048")
        curation.run(store)
        sizes.append(store.size_bytes("export/manifest.json"))
    assert sizes[1] - sizes[0] < 40, f"{(sizes[1] - sizes[0]) / 100} bytes a row"
