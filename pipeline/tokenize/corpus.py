"""A curated corpus as integers: every shard of pictures becomes one of codes, and its captions teach the text
tokenizer.

Guarantees: a shard of codes holds the rows of its source shard in their order; each is committed by a manifest of its
own, named by the digests of what it was made from, so a run that was cut short redoes the shards under way and no
others; `manifest.json`, written last, names them all, the tokenizer, and the layout of the vocabulary.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import pyarrow as pa

from pipeline import foreign
from pipeline.config import digest
from pipeline.log import Progress
from pipeline.manifest import commit, read_manifest, write_sealed
from pipeline.storage import CorruptFileError, File, Store, columns, read_table, write_parquet
from pipeline.tokenize.encode import Encode
from pipeline.tokenize.grammar import Grammar, Segment
from pipeline.tokenize.package import Tokenizer
from pipeline.tokenize.text import TextTokenizer

MANIFEST = "manifest.json"
_DONE = pa.schema([("name", pa.string()), ("rows", pa.int64())])


def source_files(source: Store, needed: Sequence[str] = ("key", "image")) -> list[File]:
    """The exported shards of a curation run; ValueError if it has exported none, or rows without the columns
    `needed`."""
    found = foreign.manifest(source, "export/manifest.json")
    if found is None:
        raise ValueError(
            f"{source.url} is no finished curation run: it has no export/manifest.json; run the curation job"
        )
    if not sum(file.rows for file in found["files"]):
        raise ValueError(f"{source.url} kept no rows; look at its ledger with jobs.status")
    names = columns(source, found["files"][0])
    if missing := [name for name in needed if name not in names]:
        raise ValueError(
            f"{source.url} holds no images: its rows have {', '.join(names)}, and no {missing[0]}; name the folder "
            "of a finished jobs.curate_images run"
        )
    return found["files"]


def identity(
    files: Sequence[File], tokenizer_sha256: str, text_vocab_size: int, text: TextTokenizer | None = None
) -> str:
    """What a tokenized corpus is made from, as one digest."""
    return digest([[file.sha256 for file in files], tokenizer_sha256, text.sha256 if text else text_vocab_size])


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
) -> dict[str, Any]:
    """Encode what is not encoded yet, train the text tokenizer unless there is one, write the manifest; returns it.

    Needs Ray.
    """
    names = [f"shards/{digest([file.sha256, tokenizer.sha256])[:16]}.json" for file in files]
    done = {name: found for name in names if (found := read_manifest(out, name))}
    todo = [{"name": name} | asdict(file) for name, file in zip(names, files, strict=True) if name not in done]
    with Progress("tokenize_corpus", sum(file.rows for file in files), "rows") as progress:
        progress.start_at(sum(found["files"][0].rows for found in done.values()))
        for row in _encoded(source, todo, tokenizer_url, out, row_group_rows):
            progress.advance(row["rows"])
    shards = [found["files"][0] for name in names if (found := read_manifest(out, name))]
    if len(shards) != len(files) or sum(s.rows for s in shards) != sum(f.rows for f in files):
        raise RuntimeError(f"{len(shards)} of {len(files)} shards of codes are there; run the same command again")
    identified = identity(files, tokenizer.sha256, text_vocab_size, text)
    rows = pa.concat_tables([read_table(out, shard, ["text", "modality", "shape"]) for shard in shards])
    if text is None:
        captions = rows["text"].to_pylist()
        text = TextTokenizer.train((caption for caption in captions if caption), text_vocab_size)
    text.save(out)
    grammar = Grammar(text_size=text.vocab_size, image_size=tokenizer.codebook_size, max_side=max(tokenizer.code_shape))
    facts = {
        "identity": identified,
        "tokenizer_sha256": tokenizer.sha256,
        "text_sha256": text.sha256,
        "grammar": grammar.to_json(),
        "longest_row_tokens": _longest_row(rows, grammar, text),
        "files": [asdict(shard) for shard in shards],
    }
    write_sealed(out, MANIFEST, facts)
    return facts


def shared_facts(urls: Sequence[str]) -> dict[str, Any]:
    """The manifest of the first of some tokenized corpora, with the longest row of all of them.

    ValueError if one is missing, or made with other tokenizers.
    """
    found = {url: _facts(url) for url in urls}
    for url, facts in found.items():
        for name, flag in (("tokenizer_sha256", "--tokenizer"), ("text_sha256", "--text")):
            if facts[name] != found[urls[0]][name]:
                raise ValueError(
                    f"{url} and {urls[0]} were made with different tokenizers ({name} {facts[name][:12]} and "
                    f"{found[urls[0]][name][:12]}); run jobs.tokenize_corpus with the same {flag} for both"
                )
    text, sizes = TextTokenizer.load(Store(urls[0])), found[urls[0]]["grammar"]
    if text.sha256 != found[urls[0]]["text_sha256"] or text.vocab_size != sizes["text_size"]:
        raise ValueError(
            f"{urls[0]}/text.json is not the text tokenizer that the corpus was made with: its sha256 is another, "
            f"or it has not the {sizes['text_size']} ids of the grammar; run jobs.tokenize_corpus again"
        )
    return found[urls[0]] | {"longest_row_tokens": max(facts.get("longest_row_tokens", 0) for facts in found.values())}


def _facts(url: str) -> dict[str, Any]:
    """The manifest of a tokenized corpus, each value that is used of the type that it should have."""
    facts, name = foreign.manifest(Store(url), MANIFEST), f"{url}/{MANIFEST}"
    if facts is None:
        raise ValueError(f"there is no tokenized corpus at {url}; run jobs.tokenize_corpus first")
    wanted = {"tokenizer_sha256": str, "text_sha256": str, "grammar": dict}
    if missing := [key for key in wanted if key not in facts]:
        raise ValueError(
            f"{url} holds no tokenized corpus: its {MANIFEST} has no {missing[0]}; name the folder of a "
            "finished jobs.tokenize_corpus run"
        )
    foreign.check_types(facts, wanted | ({"longest_row_tokens": int} if "longest_row_tokens" in facts else {}), name)
    try:
        Grammar.from_json(facts["grammar"])
    except ValueError as error:
        raise CorruptFileError(f"{name}: {error}") from error
    return facts


def check_rows(facts: dict[str, Any], seq_len: int) -> None:
    """ValueError if a row of the corpora is too long for a model that reads `seq_len` tokens."""
    needed = facts["longest_row_tokens"] - 1  # the last one is only ever predicted
    if needed > seq_len:
        raise ValueError(
            f"the longest row of the tokenized corpus needs {needed} tokens, and seq_len is {seq_len}; "
            f"use --seq-len {needed} or more, or another --size, or curate with shorter texts"
        )


def _longest_row(rows: pa.Table, grammar: Grammar, text: TextTokenizer) -> int:
    """Ids of the longest sequence that the grammar makes of a row; a row too long for a model is then known
    beforehand."""
    longest = 0
    for batch in rows.to_batches(max_chunksize=10_000):
        captions = text.lengths([caption or "" for caption in batch["text"].to_pylist()])
        of_shape: dict[tuple[str, tuple[int, ...]], int] = {}
        for name, shape, caption in zip(
            batch["modality"].to_pylist(), batch["shape"].to_pylist(), captions, strict=True
        ):
            kind = (name, tuple(shape))
            of_shape[kind] = max(of_shape.get(kind, 1), caption)  # 1: <null>, where there is no text
        for (name, shape), caption in of_shape.items():
            media = Segment(name, (0,) * math.prod(shape), shape if name == "image" else None)
            longest = max(longest, len(grammar.build([Segment("text", (0,) * caption), media])))
    return longest


def _encoded(
    source: Store, todo: list[dict[str, Any]], tokenizer_url: str, out: Store, row_group_rows: int
) -> Iterator[dict[str, Any]]:
    import ray

    if not todo:
        return

    def encode(batch: pa.Table) -> pa.Table:
        made = []
        for entry in batch.to_pylist():
            name = entry.pop("name")
            table = read_table(source, File(**entry), ["key", "image", "caption"])
            file = write_parquet(out, "codes/{sha256}.parquet", _encoder(tokenizer_url)(table), row_group_rows)
            commit(out, name, [file])
            made.append({"name": name, "rows": file.rows})
        return pa.Table.from_pylist(made, schema=_DONE)

    dataset = ray.data.from_items(todo, override_num_blocks=len(todo)).map_batches(
        encode, batch_format="pyarrow", batch_size=1
    )
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from batch.to_pylist()


@lru_cache(maxsize=1)
def _encoder(tokenizer_url: str) -> Encode:
    """One tokenizer a worker process, whichever shards it gets."""
    return Encode(tokenizer_url)
