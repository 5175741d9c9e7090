import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.models.config import NUM_TIMESTEPS
from pipeline.records import CODES
from pipeline.storage import Store
from pipeline.tokenize.collate import DecoderCollate, MediaCollate, SequenceCollate
from pipeline.tokenize.grammar import Grammar, Segment
from pipeline.tokenize.media import IMAGE
from pipeline.tokenize.text import TextTokenizer
from pipeline.tokenize.tokenizer import Tokenizer, export_tokenizer
from tests.tokenize import toy

torch.set_num_threads(1)
TEXT = TextTokenizer.train(["a red square", "a blue circle"], 300)
GRAMMAR = Grammar(text_size=TEXT.vocab_size, image_size=60, audio_size=9, max_side=8)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return export_tokenizer(toy.dvae(), Store(str(tmp_path_factory.mktemp("tokenizer"))), toy.images(20), medium=IMAGE)


def code_table(n: int, **changes: object) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = [
        {
            "key": f"k{i}",
            "modality": "image",
            "text": "a red square" if i % 2 else "a blue circle",
            "codes": rng.integers(0, 60, 16).tolist(),
            "shape": [4, 4],
            "tokenizer_sha256": "sha",
        }
        for i in range(n)
    ]
    return pa.Table.from_pylist([row | changes for row in rows], schema=CODES)


def sequences(**changes: object) -> SequenceCollate:
    return SequenceCollate(**({"grammar": GRAMMAR, "text": TEXT, "tokenizer_sha256": "sha", "seq_len": 40} | changes))


def whole(batch: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """The sequences of a batch of one sample a row."""
    return [
        np.append(tokens[:n], targets[n - 1]).astype(int)
        for tokens, targets in zip(batch["tokens"].numpy(), batch["targets"].numpy(), strict=True)
        for n in [int((targets != 0).sum())]
    ]


def test_images_are_their_pixels() -> None:
    x = toy.images(5)
    batch = MediaCollate(medium=IMAGE, config=toy.CONFIG)(toy.image_table(x), toy.Draw([0] * 5))
    assert list(batch) == ["x"] and torch.equal(batch["x"], x)


def test_sequences_hold_text_and_codes_in_the_drawn_order() -> None:
    table = code_table(400)
    batch = sequences(drop_condition=0.0)(table, toy.Draw(list(range(400))))
    assert "documents" not in batch and batch["tokens"].shape == (400, 40)
    first = []
    for row, ids in zip(table.to_pylist(), whole(batch), strict=True):
        parts = GRAMMAR.parse(ids)
        first.append(parts[0].modality)
        by_name = {part.modality: part for part in parts}
        assert by_name["text"] == Segment("text", TEXT.encode(row["text"]))
        assert by_name["image"] == Segment("image", tuple(row["codes"]), (4, 4))
    assert 150 < first.count("text") < 250


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_order_and_dropped_conditions_follow_their_shares(share: float) -> None:
    for i in range(4):  # one by one: what is left of a sample without its picture is short enough to share a row
        batch = sequences(text_first=share, drop_condition=1.0)(code_table(1), toy.Draw([i]))
        (ids,) = whole(batch)
        condition, other = GRAMMAR.parse(ids)
        assert condition == Segment("text" if share else "image", None)
        assert other.modality != condition.modality and other.codes is not None


def test_weights_count_each_token_once() -> None:
    table = code_table(2)
    kept = sequences(text_first=1.0, drop_condition=0.0, text_weight=0.25)(table, toy.Draw([0, 1]))
    for i, row in enumerate(table.to_pylist()):
        n = len(TEXT.encode(row["text"]))
        expected = [0.25] * (n + 2) + [1.0] * (3 + 16 + 1) + [1.0]  # text; <image> h w codes </image>; <eos>
        assert kept["weights"][i].tolist() == expected + [0.0] * (40 - len(expected))
    dropped = sequences(text_first=1.0, drop_condition=1.0)(table, toy.Draw([0, 1]))
    assert dropped["weights"][0].tolist() == [0.0] * 3 + [1.0] * 21 + [0.0] * 16


def test_each_target_has_its_modality() -> None:
    batch = sequences(text_first=1.0, drop_condition=0.0)(code_table(1), toy.Draw([0]))
    n = len(TEXT.encode("a blue circle"))
    assert batch["modality"].dtype == torch.int8
    expected = [0] + [1] * n + [0] * 4 + [2] * 16 + [0] * 2  # <text>; text; </text> <image> h w; codes; </image> <eos>
    assert batch["modality"][0].tolist() == expected + [0] * (40 - len(expected))


def test_rows_are_packed_and_each_sample_is_its_own_document() -> None:
    alone = sequences(drop_condition=0.0)(code_table(6), toy.Draw(list(range(6))))
    packed = sequences(drop_condition=0.0, seq_len=100)(code_table(6), toy.Draw(list(range(6))))
    assert len(packed["tokens"]) < 6 and packed["documents"].max() >= 3
    assert packed["weights"].sum() == pytest.approx(alone["weights"].sum().item())
    found = {
        tuple(packed["tokens"][r][packed["documents"][r] == d].tolist())
        for r in range(len(packed["tokens"]))
        for d in range(1, int(packed["documents"][r].max()) + 1)
    }
    assert found == {tuple(ids[:-1].tolist()) for ids in whole(alone)}


def test_text_that_is_missing_is_a_condition_left_out() -> None:
    for text_first in (0.0, 1.0):
        collate = sequences(text_first=text_first, drop_condition=1.0)  # nothing else is left out then
        text, picture = sorted(
            GRAMMAR.parse(whole(collate(code_table(1, text=None), toy.Draw([0])))[0]),
            key=lambda segment: segment.modality == "image",
        )
        assert text == Segment("text", None) and len(picture.codes) == 16


def test_sound_has_no_shape() -> None:
    batch = sequences(text_first=0.0, drop_condition=0.0)(
        code_table(1, modality="audio", codes=[1, 2, 8], shape=[3]), toy.Draw([0])
    )
    assert GRAMMAR.parse(whole(batch)[0])[0] == Segment("audio", (1, 2, 8))


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"tokenizer_sha256": "other"}, "row k0 was made with tokenizer other"),
        ({"codes": [60] * 16}, "row k0: image codes from 60 to 60 do not fit into 60"),
        ({"codes": [1] * 36, "shape": [6, 6]}, "row k0 has .* too many for seq_len 40"),
    ],
)
def test_rows_that_do_not_fit_are_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sequences()(code_table(1, **changes), toy.Draw([0]))


def codes_of(vectors: torch.Tensor, tokenizer: Tokenizer) -> torch.Tensor:
    """The codes (N, h, w) of code vectors (N, K, h, w), looked up among those of all codes."""
    table = tokenizer.vectors(torch.arange(tokenizer.codebook_size)[:, None, None])  # (V, K, 1, 1)
    return (vectors[:, None] == table).all(2).long().argmax(1)


def test_the_decoder_s_reconstruction_is_that_of_the_codes_it_is_given(tokenizer: Tokenizer) -> None:
    x = toy.images(200, seed=5)
    batch = DecoderCollate(tokenizer=tokenizer)(toy.image_table(x), toy.Draw(list(range(200))))
    codes = codes_of(batch["vectors"], tokenizer)
    assert torch.equal(batch["x"], x) and torch.equal(batch["recon"], tokenizer.decode(codes))
    wrong = (codes != tokenizer.encode(x)).flatten(1).float().mean(1)
    clean = batch["corruption"] == 0
    assert 0.65 < clean.float().mean() < 0.85 and (wrong[clean] == 0).all()
    assert 0 < batch["corruption"].max() < 0.2
    # a replaced code may be the true one by chance, 1 in 60
    assert wrong[~clean].mean().item() == pytest.approx(batch["corruption"][~clean].mean().item() * 59 / 60, rel=0.15)
    assert batch["t"].dtype == torch.int64 and 0 <= batch["t"].min() and 900 < batch["t"].max() < NUM_TIMESTEPS
    assert batch["noise"].shape == x.shape and batch["noise"].std().item() == pytest.approx(1, abs=0.02)
    assert all(value.dtype == torch.float32 for name, value in batch.items() if name != "t")


def test_a_column_of_codes_saves_encoding(tokenizer: Tokenizer) -> None:
    table = toy.image_table(toy.images(6))
    codes = pa.array(np.random.default_rng(0).integers(0, 60, (6, 16)).tolist(), pa.list_(pa.int32()))
    table = table.append_column("codes", codes)
    batch = DecoderCollate(tokenizer=tokenizer, max_corruption=0.0)(table, toy.Draw([0] * 6))
    assert codes_of(batch["vectors"], tokenizer).flatten(1).tolist() == codes.to_pylist()


def test_no_corruption_means_clean_codes(tokenizer: Tokenizer) -> None:
    x = toy.images(8)
    batch = DecoderCollate(tokenizer=tokenizer, max_corruption=0.0)(toy.image_table(x), toy.Draw(list(range(8))))
    assert torch.equal(batch["vectors"], tokenizer.vectors(tokenizer.encode(x))) and not batch["corruption"].any()


def test_a_sample_does_not_depend_on_its_neighbours(tokenizer: Tokenizer) -> None:
    table = toy.image_table(toy.images(9))
    collate = DecoderCollate(tokenizer=tokenizer)
    together, alone = collate(table, toy.Draw(list(range(9)))), collate(table.slice(4, 1), toy.Draw([4]))
    for name, value in alone.items():
        torch.testing.assert_close(value[0], together[name][4], rtol=1e-5, atol=1e-5)
    codes = code_table(9)
    whole_rows = sequences(drop_condition=0.0)
    a, b = whole_rows(codes, toy.Draw(list(range(9)))), whole_rows(codes.slice(4, 1), toy.Draw([4]))
    assert all(torch.equal(b[name][0], a[name][4]) for name in b)


def test_collates_travel_to_workers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    table, draw = toy.image_table(toy.images(2)), toy.Draw([0, 1])
    for collate, rows in ((DecoderCollate(tokenizer=tokenizer), table), (sequences(), code_table(2))):
        first, second = collate(rows, draw), pickle.loads(pickle.dumps(collate))(rows, draw)
        assert all(torch.equal(first[name], second[name]) for name in first)
