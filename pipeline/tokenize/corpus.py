"""A curated corpus as integers: every shard of samples becomes one of codes, and its captions teach the text tokenizer.

Guarantees: a shard of codes holds the rows of its source shard in their order, and each row names the tokenizer that
made it; each shard is committed by a manifest of its own, named by the digests of what it was made from, so a run that
was cut short redoes the shards under way and no others; `manifest.json`, written last, names them all, the tokenizer,
and the layout of the vocabulary.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import torch

from pipeline import foreign
from pipeline.config import digest, from_json, to_json
from pipeline.log import Progress
from pipeline.manifest import Manifest, commit, read_manifest, write_sealed
from pipeline.models.config import Modality
from pipeline.records import CODES, EXPORT
from pipeline.storage import CorruptFileError, File, Store, columns, read_table, write_parquet
from pipeline.tokenize.grammar import Grammar, Layout, Segment
from pipeline.tokenize.media import Medium
from pipeline.tokenize.text import TextTokenizer
from pipeline.tokenize.tokenizer import Tokenizer, load_tokenizer

MANIFEST = "manifest.json"
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
class _Shard:
    """A source shard and the name of the manifest that commits its codes."""

    manifest: str
    source: File


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
    files: Sequence[File], tokenizer_sha256: str, text_vocab_size: int, text: TextTokenizer | None = None
) -> str:
    """What a tokenized corpus is made from, as one digest."""
    return digest([[file.sha256 for file in files], tokenizer_sha256, text.sha256 if text else text_vocab_size])


def encode(table: pa.Table, tokenizer: Tokenizer) -> pa.Table:
    """A table of samples as one of CODES, row by row in the same order; ValueError names the key of a broken sample.

    The codes of a row do not depend on the rows beside it.
    """
    if table.num_rows == 0:
        return CODES.empty_table()
    medium = tokenizer.medium
    codes = tokenizer.encode(torch.from_numpy(medium.samples(table, tokenizer.config)))  # (N, h, w)
    return pa.table(
        {
            "key": table["key"],
            "modality": [medium.modality] * len(codes),
            "text": table[medium.text_column],
            "codes": codes.flatten(1).tolist(),
            "shape": [list(codes.shape[1:])] * len(codes),
            "tokenizer_sha256": [tokenizer.sha256] * len(codes),
        },
        schema=CODES,
    )


def tokenize(
    source: Store,
    files: Sequence[File],
    tokenizer_url: str,
    tokenizer: Tokenizer,
    out: Store,
    *,
    text_vocab_size: int,
    text: TextTokenizer | None = None,
    row_group_rows: int = 64,
) -> Corpus:
    """Encode what is not encoded yet, train the text tokenizer unless there is one, write the manifest; returns it.

    Needs Ray.
    """
    corpus_identity = identity(files, tokenizer.sha256, text_vocab_size, text)
    shards = _encode_shards(source, files, tokenizer_url, tokenizer, out, row_group_rows)
    rows = pa.concat_tables([read_table(out, shard, ["text", "modality", "shape"]) for shard in shards])
    if text is None:
        captions = rows["text"].to_pylist()
        text = TextTokenizer.train((caption for caption in captions if caption), text_vocab_size)
    text.save(out)
    sizes: dict[Modality, int] = {"text": text.vocab_size, tokenizer.medium.modality: tokenizer.codebook_size}
    grammar = Grammar.of(sizes, max_side=max(tokenizer.code_shape))
    corpus = Corpus(
        identity=corpus_identity,
        tokenizer_sha256=tokenizer.sha256,
        text_sha256=text.sha256,
        grammar=grammar.layout,
        longest_row_tokens=_longest_row(rows, grammar, text),
        files=tuple(shards),
    )
    write_sealed(out, MANIFEST, corpus)
    return corpus


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


def _longest_row(rows: pa.Table, grammar: Grammar, text: TextTokenizer) -> int:
    """Ids of the longest sequence that the grammar makes of a row; a row too long for a model is then known
    beforehand."""
    longest = 0
    for batch in rows.to_batches(max_chunksize=10_000):
        captions = text.lengths([caption or "" for caption in batch["text"].to_pylist()])
        # There are few shapes and many rows, so a sequence is built once a shape.
        longest_of: dict[tuple[Modality, tuple[int, ...]], int] = {}
        shapes = zip(batch["modality"].to_pylist(), map(tuple, batch["shape"].to_pylist()), strict=True)
        for shape, caption in zip(shapes, captions, strict=True):
            longest_of[shape] = max(longest_of.get(shape, 1), caption)  # 1: <null>, where there is no text
        for (modality, sides), caption in longest_of.items():
            sample = Segment.of_codes(modality, (0,) * math.prod(sides), sides)
            longest = max(longest, len(grammar.build([Segment("text", (0,) * caption), sample])))
    return longest


def _encode_shards(
    source: Store, files: Sequence[File], tokenizer_url: str, tokenizer: Tokenizer, out: Store, row_group_rows: int
) -> list[File]:
    """The shards of codes, in the order of `files`; only what is missing is made."""
    shards = [
        _Shard(manifest=f"shards/{digest([file.sha256, tokenizer.sha256])[:16]}.json", source=file) for file in files
    ]
    committed = [read_manifest(out, shard.manifest, Manifest) for shard in shards]
    todo = [shard for shard, manifest in zip(shards, committed, strict=True) if manifest is None]
    with Progress("tokenize_corpus", sum(file.rows for file in files), "rows") as progress:
        progress.start_at(sum(manifest.files[0].rows for manifest in committed if manifest))
        for rows in _encode_on_workers(source, todo, tokenizer_url, out, row_group_rows):
            progress.advance(rows)
    manifests = [read_manifest(out, shard.manifest, Manifest) for shard in shards]
    codes = [manifest.files[0] for manifest in manifests if manifest]
    if len(codes) != len(files) or sum(file.rows for file in codes) != sum(file.rows for file in files):
        raise RuntimeError(f"{len(codes)} of {len(files)} shards of codes are there; run the same command again")
    return codes


def _encode_on_workers(
    source: Store, todo: Sequence[_Shard], tokenizer_url: str, out: Store, row_group_rows: int
) -> Iterator[int]:
    """Encode and commit each shard on some worker of Ray; yields how many rows became codes."""
    import ray

    if not todo:
        return

    def encode_shards(batch: pa.Table) -> pa.Table:
        rows = []
        for entry in batch.to_pylist():
            shard = from_json(_Shard, entry)
            tokenizer = _loaded(tokenizer_url)
            medium = tokenizer.medium
            table = read_table(source, shard.source, ["key", medium.column, medium.text_column])
            file = write_parquet(out, "codes/{sha256}.parquet", encode(table, tokenizer), row_group_rows)
            commit(out, shard.manifest, [file])
            rows.append(file.rows)
        return pa.table({"rows": rows}, schema=_DONE)

    shards = ray.data.from_items([to_json(shard) for shard in todo], override_num_blocks=len(todo))
    dataset = shards.map_batches(encode_shards, batch_format="pyarrow", batch_size=1)
    batch: pa.Table
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from batch["rows"].to_pylist()


@lru_cache(maxsize=1)
def _loaded(tokenizer_url: str) -> Tokenizer:
    """One tokenizer a worker process, whichever shards it gets."""
    return load_tokenizer(Store(tokenizer_url), "cuda" if torch.cuda.is_available() else "cpu")
