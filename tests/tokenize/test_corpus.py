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
from pipeline.records import CODES, IMAGE
from pipeline.storage import CorruptFileError, Store, read_table, write_parquet
from pipeline.tokenize import corpus, media
from pipeline.tokenize.media import to_png
from pipeline.tokenize.text import TextTokenizer
from pipeline.tokenize.tokenizer import Tokenizer, export_tokenizer
from tests.tokenize import toy

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    store = Store(str(tmp_path_factory.mktemp("tokenizer")))
    return export_tokenizer(toy.dvae(), store, toy.images(20), medium=media.IMAGE)


def test_rows_become_codes_in_their_order(tokenizer: Tokenizer) -> None:
    x = toy.images(40, seed=3)
    out = corpus.encode(toy.image_table(x), tokenizer)
    assert out.schema == CODES
    rows = out.to_pylist()
    assert [row["key"] for row in rows] == [f"k{i}" for i in range(40)]
    assert rows[7]["text"] == "picture 7" and rows[7]["modality"] == "image" and rows[7]["shape"] == [4, 4]
    assert {row["tokenizer_sha256"] for row in rows} == {tokenizer.sha256}
    assert torch.equal(torch.tensor([row["codes"] for row in rows]).view(-1, 4, 4), tokenizer.encode(x))


@pytest.mark.parametrize("size", [1, 5, 64])
def test_batch_size_never_changes_a_row(tokenizer: Tokenizer, size: int) -> None:
    table = toy.image_table(toy.images(64, seed=4))
    parts = pa.concat_tables([corpus.encode(table.slice(start, size), tokenizer) for start in range(0, 64, size)])
    assert parts.equals(corpus.encode(table, tokenizer))


def test_views_are_side_by_side_and_depend_on_the_key_alone(tokenizer: Tokenizer) -> None:
    table = toy.image_table(toy.images(9, seed=4))
    rows = corpus.encode(table, tokenizer, views=3).to_pylist()
    assert [(row["key"], row["view"]) for row in rows] == [(f"k{i}", view) for i in range(9) for view in range(3)]
    assert rows[::3] == corpus.encode(table, tokenizer).to_pylist()
    assert rows[9:12] == corpus.encode(table.slice(3, 1), tokenizer, views=3).to_pylist()
    more = corpus.encode(table, tokenizer, views=5).to_pylist()
    assert [row for row in more if row["view"] < 3] == rows
    assert len({tuple(row["codes"]) for row in rows}) > 20  # of 27


def test_what_is_held_out_depends_on_the_key_alone_and_is_the_share_that_was_asked_for() -> None:
    keys = [f"key {i}" for i in range(10_000)]
    held_out = {key for key in keys if corpus.Recipe(held_out=0.1).is_held_out(key)}
    assert abs(len(held_out) - 1000) < 5 * (10_000 * 0.1 * 0.9) ** 0.5
    more = {key for key in keys if corpus.Recipe(held_out=0.2, views=8).is_held_out(key)}
    assert held_out < more and not any(corpus.Recipe().is_held_out(key) for key in keys)


def test_no_rows_are_no_rows(tokenizer: Tokenizer) -> None:
    assert corpus.encode(IMAGE.empty_table(), tokenizer).equals(CODES.empty_table())


def test_a_broken_picture_is_named(tokenizer: Tokenizer) -> None:
    table = toy.image_table(toy.images(2))
    broken = table.set_column(
        table.schema.get_field_index("image"),
        IMAGE.field("image"),
        pa.array([table["image"][0].as_py(), b"not a png"], pa.large_binary()),
    )
    with pytest.raises(ValueError, match="image k1: 9 bytes are not a picture"):
        corpus.encode(broken, tokenizer)


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
    dvae = DVAE(DVAEConfig(size=8, width=4, multipliers=(1, 2)))
    tokenizer = export_tokenizer(dvae, folder, torch.rand(4, 1, 8, 8) * 2 - 1, medium=media.IMAGE)
    out, files = Store(str(tmp_path / "codes")), corpus.source_files(source, media.IMAGE)
    corpus.tokenize(source, files, folder.url, tokenizer, out, text_vocab_size=280)
    found = made = read_manifest(out, corpus.MANIFEST, corpus.Corpus)
    assert made.identity == corpus.identity(files, tokenizer.sha256, corpus.Recipe(), 280)
    assert not out.exists(f"{corpus.HELD_OUT}/{corpus.MANIFEST}")
    for shard, file in zip(found.files, files, strict=True):
        codes, images = read_table(out, shard), read_table(source, file)
        assert codes["key"].equals(images["key"]) and codes["text"].equals(images["caption"])
        samples = torch.from_numpy(media.IMAGE.samples(images, dvae.config))
        assert codes["codes"].to_pylist() == tokenizer.encode(samples).flatten(1).tolist()
        assert set(codes["tokenizer_sha256"].to_pylist()) == {tokenizer.sha256}

    # A row's ids: <bos> <text> … </text> <image> h w … </image> <eos>.
    text = TextTokenizer.load(out)
    sequences = [
        3 + len(text.encode(row["text"])) + 4 + len(row["codes"]) + 1
        for shard in found.files
        for row in read_table(out, shard).to_pylist()
    ]
    assert made.longest_row_tokens == max(sequences)
    needed = max(sequences) - 1
    corpus.check_rows(made, needed)
    with pytest.raises(ValueError, match=f"needs {needed} tokens, and seq_len is 5; use --seq-len {needed}"):
        corpus.check_rows(made, 5)

    # Killed before the end: one shard and the manifest are missing. The others are left as they are.
    names = out.list("shards")
    before = {name: Path(out.path(name)).stat().st_mtime_ns for name in names[1:]}
    out.delete(names[0])
    out.delete(corpus.MANIFEST)
    corpus.tokenize(source, files, folder.url, tokenizer, out, text_vocab_size=280)
    assert read_manifest(out, corpus.MANIFEST, corpus.Corpus) == made
    assert before == {name: Path(out.path(name)).stat().st_mtime_ns for name in names[1:]}


def test_held_out_samples_are_a_corpus_of_their_own_that_shares_no_key_with_the_other(
    local_ray: None, source: Store, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    folder, out = Store(str(tmp_path / "tokenizer")), Store(str(tmp_path / "codes"))
    dvae = DVAE(DVAEConfig(size=8, width=4, multipliers=(1, 2)))
    tokenizer = export_tokenizer(dvae, folder, torch.rand(4, 1, 8, 8) * 2 - 1, medium=media.IMAGE)
    files, recipe = corpus.source_files(source, media.IMAGE), corpus.Recipe(views=3, held_out=0.3)
    corpus.tokenize(source, files, folder.url, tokenizer, out, text_vocab_size=280, recipe=recipe)
    rows = list(corpus.read_rows(out))
    held_out = list(corpus.read_rows(out.sub(corpus.HELD_OUT)))
    keys = {row["key"] for row in rows}
    assert len(rows) == 3 * len(keys) and {row["view"] for row in held_out} == {0}
    assert not keys & {row["key"] for row in held_out} and len(keys) + len(held_out) == 30
    both = corpus.read_corpora([out.url, out.sub(corpus.HELD_OUT).url])  # mixable: the same tokenizers
    assert both.identity == corpus.identity(files, tokenizer.sha256, recipe, 280)

    with pytest.raises(ValueError, match=r"--held-out is 0.999, and of 30 samples that leaves none to train on; use"):
        corpus.tokenize(
            source, files, folder.url, tokenizer, out, text_vocab_size=280, recipe=corpus.Recipe(held_out=0.999)
        )
    with pytest.raises(ValueError, match=r"--held-out is 1e-06, and of 30 samples that leaves none to judge by; use"):
        corpus.tokenize(
            source, files, folder.url, tokenizer, out, text_vocab_size=280, recipe=corpus.Recipe(held_out=1e-6)
        )


def test_the_text_tokenizer_of_another_corpus_can_be_used_and_makes_them_mixable(
    local_ray: None, source: Store, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    folder, files = Store(str(tmp_path / "tokenizer")), corpus.source_files(source, media.IMAGE)
    dvae = DVAE(DVAEConfig(size=8, width=4, multipliers=(1, 2)))
    tokenizer = export_tokenizer(dvae, folder, torch.rand(4, 1, 8, 8) * 2 - 1, medium=media.IMAGE)
    text = TextTokenizer.train(["other words"], 260)
    out, own = Store(str(tmp_path / "codes")), Store(str(tmp_path / "own"))
    corpus.tokenize(source, files, folder.url, tokenizer, out, text_vocab_size=280, text=text)
    made = read_manifest(out, corpus.MANIFEST, corpus.Corpus)
    assert made.text_sha256 == text.sha256 == TextTokenizer.load(out).sha256
    assert made.identity == corpus.identity(files, tokenizer.sha256, corpus.Recipe(), 999, text)
    assert made.identity != corpus.identity(files, tokenizer.sha256, corpus.Recipe(), 280)
    write_sealed(own, corpus.MANIFEST, replace(made, identity="another", longest_row_tokens=999))
    assert corpus.read_corpora([out.url, own.url]) == replace(made, longest_row_tokens=999)
    for name, flag in (("tokenizer_sha256", "--tokenizer"), ("text_sha256", "--text")):
        write_sealed(own, corpus.MANIFEST, replace(made, **{name: "0123456789abcdef"}))
        with pytest.raises(
            ValueError,
            match=f"own and .*codes were made with different tokenizers \\({name} 0123456789ab and"
            f".* with the same {flag} for both",
        ):
            corpus.read_corpora([out.url, own.url])


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(ValueError, match="no finished curation run"):
        corpus.source_files(store, media.IMAGE)
    write_sealed(store, "export/manifest.json", {"files": []})
    with pytest.raises(ValueError, match="kept no rows"):
        corpus.source_files(store, media.IMAGE)
    clips = pa.table({"key": ["a"], "audio": [b"x"], "text": ["word"]})
    for table, said in (
        (clips, "holds no images: its rows have key, audio, text, and no image; name the folder"),
        (clips.slice(0, 0), "kept no rows"),
    ):
        write_sealed(
            store, "export/manifest.json", {"files": [asdict(write_parquet(store, "export/x.parquet", table))]}
        )
        with pytest.raises(ValueError, match=said):
            corpus.source_files(store, media.IMAGE)
    store.write("export/x.parquet", b"torn")
    write_sealed(
        store, "export/manifest.json", {"files": [asdict(replace(store.write("export/x.parquet", b"torn"), rows=1))]}
    )
    with pytest.raises(CorruptFileError, match=r"export/x\.parquet is torn or altered"):
        corpus.source_files(store, media.IMAGE)
    with pytest.raises(
        ValueError,
        match=r"export holds no tokenized corpus: .*identity is missing; .*finished jobs.tokenize_corpus run",
    ):
        corpus.read_corpora([f"{store.url}/export"])
    with pytest.raises(ValueError, match="no tokenized corpus at .*none; run jobs.tokenize_corpus"):
        corpus.read_corpora([f"{store.url}/none"])
