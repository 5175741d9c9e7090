"""A curated corpus as integers: every shard of samples becomes one of codes, and its captions teach the text tokenizer.

Guarantees: a shard of codes holds the rows of its source shard in their order, and each row names the tokenizer that
made it; each shard is committed by a manifest of its own, named by the digests of what it was made from, so a run that
was cut short redoes the shards under way and no others; `manifest.json`, written last, names them all, the tokenizer,
and the layout of the vocabulary.

A network that sees the same codes again and again learns them by heart. So a sample can be encoded several times, as it
is and slightly changed, and a share of the samples can be held out: `held_out/` is then a corpus of its own, which no
network is trained on and every one can be judged by. Which samples those are, and how copies are changed, depends on
the samples' keys alone.
"""

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from pipeline import foreign
from pipeline.config import digest, from_json, to_json
from pipeline.log import Progress
from pipeline.manifest import Manifest, commit, read_manifest, write_sealed
from pipeline.models.config import Modality
from pipeline.records import CODES, EXPORT
from pipeline.storage import CorruptFileError, File, Store, columns, read_table, write_parquet
from pipeline.tokenize.grammar import Grammar, Layout, Segment
from pipeline.tokenize.media import Medium, Samples
from pipeline.tokenize.text import TextTokenizer
from pipeline.tokenize.tokenizer import Tokenizer, load_tokenizer

MANIFEST = "manifest.json"
HELD_OUT = "held_out"
"""The folder of the samples that are held out."""
_DONE = pa.schema([("rows", pa.int64())])


@dataclass(frozen=True, kw_only=True)
class Corpus(Manifest):
    """What a tokenized corpus is; the contents of its manifest.json."""

    identity: str
    """Digest of what it was made from; see `identity`."""
    tokenizer_sha256: str
    text_sha256: str
    grammar: Layout
    longest_row_tokens: int = 0
    """Ids of the longest sequence that the grammar makes of a row."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How samples become rows of codes."""

    views: int = 1
    """Encodings of a sample; the first is of it as it is."""
    held_out: float = 0.0
    """Share of the samples that are held out; they have one view each."""

    def is_held_out(self, key: str) -> bool:
        """True for about `held_out` of all keys, whichever others there are."""
        return _random(key, "held_out").random() < self.held_out


@dataclass(frozen=True, kw_only=True)
class _Shard:
    """A source shard and the name of the manifest that commits its codes."""

    manifest: str
    source: File


@dataclass(frozen=True, kw_only=True)
class _Codes(Manifest):
    """What became of a source shard: the codes to train on, and those held out; tables without rows included."""

    files: tuple[File, File]


def source_files(source: Store, medium: Medium, *more: str) -> list[File]:
    """The exported shards of a curation run; ValueError if it has exported none, or rows without keys, the samples of
    the medium, or the columns `more`."""
    export = foreign.manifest(source, EXPORT, Manifest)
    if export is None:
        raise ValueError(f"{source.url} is no finished curation run: it has no {EXPORT}; run the curation job")
    files = list(export.files)
    if not sum(file.rows for file in files):
        raise ValueError(f"{source.url} kept no rows; look at its ledger with jobs.status")
    names = columns(source, files[0])
    if missing := [name for name in ("key", medium.column, *more) if name not in names]:
        raise ValueError(
            f"{source.url} holds no {medium.noun}: its rows have {', '.join(names)}, and no {missing[0]}; name the "
            f"folder of a finished {medium.made_by} run"
        )
    return files


def identity(
    files: Sequence[File],
    tokenizer_sha256: str,
    recipe: Recipe,
    text_vocab_size: int,
    text: TextTokenizer | None = None,
) -> str:
    """What a tokenized corpus is made from, as one digest."""
    said = text.sha256 if text else text_vocab_size
    return digest([[file.sha256 for file in files], tokenizer_sha256, to_json(recipe), said])


def encode(table: pa.Table, tokenizer: Tokenizer, views: int = 1) -> pa.Table:
    """A table of samples as one of CODES, the views of each side by side, in the same order; ValueError names the key
    of a broken sample.

    The codes of a row do not depend on the rows beside it, and those of a view not on the number of views.
    """
    if table.num_rows == 0:
        return CODES.empty_table()
    medium = tokenizer.medium
    samples = medium.samples(table, tokenizer.config)  # (N, C, H, W)
    keys = table["key"].to_pylist()
    rows = []
    for view in range(views):
        seen = samples if view == 0 else _varied(samples, keys, view, medium)
        codes = tokenizer.encode(torch.from_numpy(seen))  # (N, h, w)
        rows.append(_rows_of(table, tokenizer, view, codes))
    order = np.arange(views * len(keys)).reshape(views, -1).T.flatten()  # from view by view to key by key
    return pa.concat_tables(rows).take(order)


def _rows_of(table: pa.Table, tokenizer: Tokenizer, view: int, codes: torch.Tensor) -> pa.Table:
    """One row of CODES for each of a table's samples, whose codes are (N, h, w)."""
    return pa.table(
        {
            "key": table["key"],
            "view": [view] * len(codes),
            "modality": [tokenizer.medium.modality] * len(codes),
            "text": table[tokenizer.medium.text_column],
            "codes": codes.flatten(1).tolist(),
            "shape": [list(codes.shape[1:])] * len(codes),
            "tokenizer_sha256": [tokenizer.sha256] * len(codes),
        },
        schema=CODES,
    )


def _varied(samples: Samples, keys: Sequence[str], view: int, medium: Medium) -> Samples:
    """Changed copies of samples (N, C, H, W), each by random numbers of its own."""
    return np.stack(
        [medium.vary(one, _random(key, f"view {view}")) for one, key in zip(samples, keys, strict=True)]
    ).astype(np.float32)


def _random(key: str, purpose: str) -> np.random.Generator:
    digest_bytes = hashlib.blake2b(f"{purpose} {key}".encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest_bytes))


def tokenize(
    source: Store,
    files: Sequence[File],
    tokenizer_url: str,
    tokenizer: Tokenizer,
    out: Store,
    *,
    text_vocab_size: int,
    text: TextTokenizer | None = None,
    recipe: Recipe = Recipe(),
    row_group_rows: int = 64,
) -> None:
    """Encode what is not encoded yet, train the text tokenizer unless there is one, write the manifests.

    ValueError if so much is held out that nothing is left, or so little that it is nothing. Needs Ray.
    """
    corpus_identity = identity(files, tokenizer.sha256, recipe, text_vocab_size, text)
    shards = _encode_shards(source, files, tokenizer_url, tokenizer, out, recipe, row_group_rows)
    trained_on = [shard.files[0] for shard in shards if shard.files[0].rows]
    held_out = [shard.files[1] for shard in shards if shard.files[1].rows]
    if not trained_on or (recipe.held_out and not held_out):
        raise ValueError(
            f"--held-out is {recipe.held_out}, and of {sum(file.rows for file in files)} samples that leaves none to "
            f"{'judge by' if trained_on else 'train on'}; use another share"
        )
    if text is None:
        captions = (caption for file in trained_on for caption in read_table(out, file, ["text"])["text"].to_pylist())
        text = TextTokenizer.train((caption for caption in captions if caption), text_vocab_size)
    sizes: dict[Modality, int] = {"text": text.vocab_size, tokenizer.medium.modality: tokenizer.codebook_size}
    grammar = Grammar.of(sizes, max_side=max(tokenizer.code_shape))
    # What is held out first: the other manifest says that all is done.
    for store, kept in ((out.sub(HELD_OUT), held_out), (out, trained_on)):
        if kept:
            text.save(store)
            corpus = Corpus(
                identity=corpus_identity,
                tokenizer_sha256=tokenizer.sha256,
                text_sha256=text.sha256,
                grammar=grammar.layout,
                longest_row_tokens=_longest_row(store, kept, grammar, text),
                files=tuple(kept),
            )
            write_sealed(store, MANIFEST, corpus)


def read_corpora(urls: Sequence[str]) -> Corpus:
    """The manifest of the first of some tokenized corpora, with the longest row of all of them.

    ValueError if one is missing, or made with other tokenizers.
    """
    corpora = {url: _corpus(url) for url in urls}
    first = corpora[urls[0]]
    for url, corpus in corpora.items():
        for name, flag in (("tokenizer_sha256", "--tokenizer"), ("text_sha256", "--text")):
            ours, theirs = getattr(corpus, name), getattr(first, name)
            if ours != theirs:
                raise ValueError(
                    f"{url} and {urls[0]} were made with different tokenizers ({name} {ours[:12]} and "
                    f"{theirs[:12]}); run jobs.tokenize_corpus with the same {flag} for both"
                )
    text = TextTokenizer.load(Store(urls[0]))
    if text.sha256 != first.text_sha256 or text.vocab_size != first.grammar.text_size:
        raise ValueError(
            f"{urls[0]}/text.json is not the text tokenizer that the corpus was made with: its sha256 is another, "
            f"or it has not the {first.grammar.text_size} ids of the grammar; run jobs.tokenize_corpus again"
        )
    longest = max(corpus.longest_row_tokens for corpus in corpora.values())
    return dataclasses.replace(first, longest_row_tokens=longest)


def read_rows(store: Store) -> Iterator[Mapping[str, object]]:
    """The rows of CODES of a tokenized corpus, one file in memory at a time; ValueError if there is none."""
    for file in _corpus(store.url).files:
        yield from read_table(store, file).to_pylist()


def check_rows(corpus: Corpus, seq_len: int) -> None:
    """ValueError if a row of the corpora is too long for a model that reads `seq_len` tokens."""
    needed = corpus.longest_row_tokens - 1  # the last one is only ever predicted
    if needed > seq_len:
        raise ValueError(
            f"the longest row of the tokenized corpus needs {needed} tokens, and seq_len is {seq_len}; "
            f"use --seq-len {needed} or more, or another --size, or curate with shorter texts"
        )


def _corpus(url: str) -> Corpus:
    """The manifest of a tokenized corpus."""
    try:
        corpus = foreign.manifest(Store(url), MANIFEST, Corpus)
        if corpus is not None:
            Grammar.from_layout(corpus.grammar)
    except ValueError as error:
        raise CorruptFileError(
            f"{url} holds no tokenized corpus: {error}; name the folder of a finished jobs.tokenize_corpus run"
        ) from error
    if corpus is None:
        raise ValueError(f"there is no tokenized corpus at {url}; run jobs.tokenize_corpus first")
    return corpus


def _longest_row(store: Store, files: Sequence[File], grammar: Grammar, text: TextTokenizer) -> int:
    """Ids of the longest sequence that the grammar makes of a row; a row too long for a model is then known
    beforehand."""
    # There are few shapes and many rows, so a sequence is built once a shape.
    longest_of: dict[tuple[Modality, tuple[int, ...]], int] = {}
    for file in files:
        rows = read_table(store, file, ["text", "modality", "shape"])
        for batch in rows.to_batches(max_chunksize=10_000):
            captions = text.lengths([caption or "" for caption in batch["text"].to_pylist()])
            shapes = zip(batch["modality"].to_pylist(), map(tuple, batch["shape"].to_pylist()), strict=True)
            for shape, caption in zip(shapes, captions, strict=True):
                longest_of[shape] = max(longest_of.get(shape, 1), caption)  # 1: <null>, where there is no text
    longest = 0
    for (modality, sides), caption in longest_of.items():
        sample = Segment.of_codes(modality, (0,) * math.prod(sides), sides)
        longest = max(longest, len(grammar.build([Segment("text", (0,) * caption), sample])))
    return longest


def _encode_shards(
    source: Store,
    files: Sequence[File],
    tokenizer_url: str,
    tokenizer: Tokenizer,
    out: Store,
    recipe: Recipe,
    row_group_rows: int,
) -> list[_Codes]:
    """The shards of codes, in the order of `files`; only what is missing is made."""
    made_of = [tokenizer.sha256, to_json(recipe)]
    shards = [_Shard(manifest=f"shards/{digest([file.sha256, *made_of])[:16]}.json", source=file) for file in files]
    committed = [read_manifest(out, shard.manifest, _Codes) for shard in shards]
    todo = [shard for shard, manifest in zip(shards, committed, strict=True) if manifest is None]
    with Progress("tokenize_corpus", sum(file.rows for file in files), "rows") as progress:
        progress.start_at(sum(shard.source.rows for shard in shards) - sum(shard.source.rows for shard in todo))
        for rows in _encode_on_workers(source, todo, tokenizer_url, out, recipe, row_group_rows):
            progress.advance(rows)
    codes = [manifest for shard in shards if (manifest := read_manifest(out, shard.manifest, _Codes))]
    if len(codes) != len(files):
        raise RuntimeError(f"{len(codes)} of {len(files)} shards of codes are there; run the same command again")
    for file, made in zip(files, codes, strict=True):
        trained_on, held_out = made.files
        if file.rows * recipe.views != trained_on.rows + held_out.rows * recipe.views:
            raise RuntimeError(
                f"{file.path} has {file.rows} rows, and {trained_on.rows} and {held_out.rows} rows of codes were made "
                f"of them; delete {out.url} and run the same command again"
            )
    return codes


def _encode_on_workers(
    source: Store, todo: Sequence[_Shard], tokenizer_url: str, out: Store, recipe: Recipe, row_group_rows: int
) -> Iterator[int]:
    """Encode and commit each shard on some worker of Ray; yields how many rows became codes."""
    import ray

    if not todo:
        return

    def encode_shards(batch: pa.Table) -> pa.Table:
        shards = [from_json(_Shard, entry) for entry in batch.to_pylist()]
        for shard in shards:
            tokenizer = _loaded(tokenizer_url)
            medium = tokenizer.medium
            table = read_table(source, shard.source, ["key", medium.column, medium.text_column])
            is_held_out = pa.array([recipe.is_held_out(key) for key in table["key"].to_pylist()], pa.bool_())
            trained_on = encode(table.filter(pc.invert(is_held_out)), tokenizer, recipe.views)
            held_out = encode(table.filter(is_held_out), tokenizer)
            stores = (out, out.sub(HELD_OUT))
            written = [
                write_parquet(store, "codes/{sha256}.parquet", codes, row_group_rows)
                for store, codes in zip(stores, (trained_on, held_out), strict=True)
            ]
            commit(out, shard.manifest, written)
        return pa.table({"rows": [shard.source.rows for shard in shards]}, schema=_DONE)

    shards = ray.data.from_items([to_json(shard) for shard in todo], override_num_blocks=len(todo))
    dataset = shards.map_batches(encode_shards, batch_format="pyarrow", batch_size=1)
    batch: pa.Table
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from batch["rows"].to_pylist()


@lru_cache(maxsize=1)
def _loaded(tokenizer_url: str) -> Tokenizer:
    """One tokenizer a worker process, whichever shards it gets."""
    return load_tokenizer(Store(tokenizer_url), "cuda" if torch.cuda.is_available() else "cpu")
