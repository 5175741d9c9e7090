"""A corpus becomes tables of codes: row for row, once, and only what is missing."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.manifest import read_manifest, write_sealed
from pipeline.models.config import DVAEConfig
from pipeline.models.dvae import DVAE
from pipeline.storage import CorruptFileError, Store, read_table, write_parquet
from pipeline.tokenize import corpus, package
from pipeline.tokenize.collate import pictures
from pipeline.tokenize.pixels import to_png
from pipeline.tokenize.text import TextTokenizer


@pytest.fixture
def source(tmp_path: Path) -> Store:
    store, rng = Store(str(tmp_path / "images")), np.random.default_rng(0)
    files = []
    for shard in range(3):
        rows = [
            {
                "key": f"{shard}-{i}",
                "image": to_png(rng.uniform(-1, 1, (1, 8, 8)).astype(np.float32)),
                "caption": f"picture {i} of {shard}",
            }
            for i in range(10)
        ]
        files.append(write_parquet(store, "export/{sha256}.parquet", pa.Table.from_pylist(rows)))
    write_sealed(store, "export/manifest.json", {"files": [asdict(file) for file in files]})
    return store


def test_codes_are_those_of_the_tokenizer_and_shards_are_not_made_twice(
    local_ray: None, source: Store, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    folder = Store(str(tmp_path / "tokenizer"))
    dvae = DVAE(DVAEConfig(image_size=8, width=4, multipliers=(1, 2)))
    tokenizer = package.export(dvae, folder, torch.rand(4, 1, 8, 8) * 2 - 1)
    out, files = Store(str(tmp_path / "codes")), corpus.source_files(source)
    facts = corpus.tokenize(source, files, folder.url, tokenizer, out, text_vocab_size=280)
    found = read_manifest(out, corpus.MANIFEST)
    assert facts["identity"] == found["identity"] == corpus.identity(files, tokenizer.sha256, 280)
    for shard, file in zip(found["files"], files, strict=True):
        codes, images = read_table(out, shard), read_table(source, file)
        assert codes["key"].equals(images["key"]) and codes["text"].equals(images["caption"])
        assert codes["codes"].to_pylist() == tokenizer.encode(pictures(images, 1, 8)).flatten(1).tolist()
        assert set(codes["tokenizer_sha256"].to_pylist()) == {tokenizer.sha256}

    # A row's ids: <bos> <text> … </text> <image> h w … </image> <eos>.
    text = TextTokenizer.load(out)
    sequences = [
        3 + len(text.encode(row["text"])) + 4 + len(row["codes"]) + 1
        for shard in found["files"]
        for row in read_table(out, shard).to_pylist()
    ]
    assert facts["longest_row_tokens"] == max(sequences)
    needed = max(sequences) - 1
    corpus.check_rows(facts, needed)
    with pytest.raises(ValueError, match=f"needs {needed} tokens, and seq_len is 5; use --seq-len {needed}"):
        corpus.check_rows(facts, 5)

    # Killed before the end: one shard and the manifest are missing. The others are left as they are.
    names = out.list("shards")
    before = {name: Path(out.path(name)).stat().st_mtime_ns for name in names[1:]}
    out.delete(names[0])
    out.delete(corpus.MANIFEST)
    assert corpus.tokenize(source, files, folder.url, tokenizer, out, text_vocab_size=280) == facts
    assert before == {name: Path(out.path(name)).stat().st_mtime_ns for name in names[1:]}


def test_the_text_tokenizer_of_another_corpus_can_be_used_and_makes_them_mixable(
    local_ray: None, source: Store, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    folder, files = Store(str(tmp_path / "tokenizer")), corpus.source_files(source)
    dvae = DVAE(DVAEConfig(image_size=8, width=4, multipliers=(1, 2)))
    tokenizer = package.export(dvae, folder, torch.rand(4, 1, 8, 8) * 2 - 1)
    text = TextTokenizer.train(["other words"], 260)
    out, own = Store(str(tmp_path / "codes")), Store(str(tmp_path / "own"))
    facts = corpus.tokenize(source, files, folder.url, tokenizer, out, text_vocab_size=280, text=text)
    assert facts["text_sha256"] == text.sha256 == TextTokenizer.load(out).sha256
    assert facts["identity"] == corpus.identity(files, tokenizer.sha256, 999, text)
    assert facts["identity"] != corpus.identity(files, tokenizer.sha256, 280)
    write_sealed(own, corpus.MANIFEST, facts | {"identity": "another", "longest_row_tokens": 999})
    assert corpus.shared_facts([out.url, own.url]) == read_manifest(out, corpus.MANIFEST) | {"longest_row_tokens": 999}
    for name, flag in (("tokenizer_sha256", "--tokenizer"), ("text_sha256", "--text")):
        write_sealed(own, corpus.MANIFEST, facts | {name: "0123456789abcdef"})
        with pytest.raises(
            ValueError,
            match=f"own and .*codes were made with different tokenizers \\({name} 0123456789ab and"
            f".* with the same {flag} for both",
        ):
            corpus.shared_facts([out.url, own.url])


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(ValueError, match="no finished curation run"):
        corpus.source_files(store)
    write_sealed(store, "export/manifest.json", {"files": []})
    with pytest.raises(ValueError, match="kept no rows"):
        corpus.source_files(store)
    clips = pa.table({"key": ["a"], "audio": [b"x"], "text": ["word"]})
    for table, said in (
        (clips, "holds no images: its rows have key, audio, text, and no image; name the folder"),
        (clips.slice(0, 0), "kept no rows"),
    ):
        write_sealed(
            store, "export/manifest.json", {"files": [asdict(write_parquet(store, "export/x.parquet", table))]}
        )
        with pytest.raises(ValueError, match=said):
            corpus.source_files(store)
    store.write("export/x.parquet", b"torn")
    write_sealed(
        store, "export/manifest.json", {"files": [asdict(replace(store.write("export/x.parquet", b"torn"), rows=1))]}
    )
    with pytest.raises(CorruptFileError, match=r"export/x\.parquet is torn or altered"):
        corpus.source_files(store)
    with pytest.raises(
        ValueError, match=r"export holds no tokenized corpus: its manifest.json has no tokenizer_sha256; name"
    ):
        corpus.shared_facts([f"{store.url}/export"])
    with pytest.raises(ValueError, match="no tokenized corpus at .*none; run jobs.tokenize_corpus"):
        corpus.shared_facts([f"{store.url}/none"])
