import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import from_json, to_json
from pipeline.tokenize.grammar import BOS, EOS, MODALITIES, NULL, PAD, START, Grammar, Layout, Segment, State

GRAMMAR = Grammar(text_size=30, image_size=50, audio_size=20, max_side=5)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    modality = draw(st.sampled_from(MODALITIES))
    if draw(st.integers(0, 5)) == 0:
        return Segment(modality, None)
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 5))) if modality == "image" else None
    n = shape[0] * shape[1] if shape else draw(st.integers(0, 12))
    codes = draw(st.lists(st.integers(0, GRAMMAR.size(modality) - 1), min_size=n, max_size=n))
    return Segment(modality, tuple(codes), shape)


def spelt(ids: list[int]) -> str:
    """A sequence in letters, one per kind of id: an independent statement of which id is what."""
    names = {PAD: ".", BOS: "^", EOS: "$", NULL: "0", 4: "<t>", 5: "</t>", 6: "<i>", 7: "</i>", 8: "<a>", 9: "</a>"}
    return "".join(
        names.get(i)
        or ("#" if 16 <= i < 21 else "T" if 21 <= i < 51 else "I" if 51 <= i < 101 else "A" if 101 <= i < 121 else "?")
        for i in ids
    )


@given(st.lists(segments(), max_size=5))
@settings(max_examples=50, deadline=None)
def test_modalities_are_those_of_the_letters(parts: list[Segment]) -> None:
    ids = np.append(GRAMMAR.build(parts), [PAD, GRAMMAR.vocab_size - 1])
    letters = "".join(spelt([i]) if spelt([i]) in "TIA" else "." for i in ids.tolist())
    assert GRAMMAR.modalities(ids).tolist() == [".TIA".index(letter) for letter in letters]


LEGAL = re.compile(r"\^(<t>(0|T*)</t>|<i>(0|##I+)</i>|<a>(0|A*)</a>)*\$\.*")


@given(st.lists(segments(), max_size=5))
@settings(max_examples=200, deadline=None)
def test_build_is_legal_and_parse_inverts_it(parts: list[Segment]) -> None:
    ids = GRAMMAR.build(parts)
    assert ids.dtype == np.int64 and 0 <= ids.min() and ids.max() < GRAMMAR.vocab_size
    assert LEGAL.fullmatch(spelt(ids.tolist()))
    assert GRAMMAR.parse(ids) == parts


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_following_the_mask_makes_only_legal_sequences(data: st.DataObject) -> None:
    state, ids = START, []
    for _ in range(40):
        choices = np.flatnonzero(GRAMMAR.mask(state))
        assert choices.size
        ids.append(int(data.draw(st.sampled_from(list(choices)))))
        state = GRAMMAR.step(state, ids[-1])
    while state.place != "end":  # close what is open: the highest marker is always the way out, unless codes are owed
        choices = np.flatnonzero(GRAMMAR.mask(state))
        closing = [i for i in choices if i in (5, 7, 9, EOS)]
        ids.append(int(closing[-1] if EOS not in closing else EOS) if closing else int(choices[0]))
        state = GRAMMAR.step(state, ids[-1])
    assert LEGAL.fullmatch(spelt(ids)) and "0" not in spelt(ids)
    kept = ids[: ids.index(EOS) + 1]
    assert GRAMMAR.build(GRAMMAR.parse(kept)).tolist() == kept


@given(st.lists(segments(), max_size=3), st.data())
@settings(max_examples=200, deadline=None)
def test_any_illegal_id_is_refused_where_it_stands(parts: list[Segment], data: st.DataObject) -> None:
    ids = GRAMMAR.build(parts).tolist()
    place = data.draw(st.integers(0, len(ids) - 1))
    state = START
    for token in ids[:place]:
        state = GRAMMAR.step(state, token)
    allowed = GRAMMAR.mask(state)
    wrong = data.draw(st.integers(-2, GRAMMAR.vocab_size + 2))
    legal = 0 <= wrong < GRAMMAR.vocab_size and allowed[wrong]
    null = wrong == NULL and ids[place - 1] in (4, 6, 8)
    if legal or null:
        GRAMMAR.step(state, wrong)
    else:
        with pytest.raises(ValueError, match=f"id {wrong} cannot follow"):
            GRAMMAR.step(state, wrong)
        with pytest.raises(ValueError, match=f"position {place}"):
            GRAMMAR.parse([*ids[:place], wrong, *ids[place + 1 :]])


def test_an_image_holds_exactly_the_codes_of_its_shape() -> None:
    state = START
    for token in (BOS, 6, 16 + 1, 16 + 2):  # 2 by 3
        state = GRAMMAR.step(state, token)
    for left in range(6, 0, -1):
        assert state == State("body", "image", left)
        assert np.flatnonzero(GRAMMAR.mask(state)).tolist() == list(range(51, 101))
        state = GRAMMAR.step(state, 60)
    assert np.flatnonzero(GRAMMAR.mask(state)).tolist() == [7]


def test_absent_modalities_are_never_offered() -> None:
    grammar = Grammar(text_size=10, image_size=12)
    outside = grammar.step(START, BOS)
    assert np.flatnonzero(grammar.mask(outside)).tolist() == [EOS, 4, 6]


def test_layout_is_disjoint_padded_and_survives_json() -> None:
    assert GRAMMAR.vocab_size == 128 and GRAMMAR.vocab_size % 64 == 0
    layout = json.loads(json.dumps(to_json(GRAMMAR.layout)))
    assert layout["offsets"] == {"text": 21, "image": 51, "audio": 101}
    assert Grammar.from_layout(from_json(Layout, layout)) == GRAMMAR
    with pytest.raises(ValueError, match="laid out otherwise"):
        Grammar.from_layout(from_json(Layout, layout | {"offsets": {"text": 20, "image": 51, "audio": 101}}))
    assert Grammar.of({"text": 30, "image": 50, "audio": 20}, max_side=5) == GRAMMAR


@pytest.mark.parametrize(
    "segment,message",
    [
        (Segment("text", (3, 30)), "text codes from 3 to 30 do not fit into 30"),
        (Segment("audio", (-1,)), "audio codes from -1"),
        (Segment("image", (1, 2, 3), (2, 2)), "has 4 codes, not 3"),
        (Segment("image", (1, 2)), "needs a shape"),
        (Segment("image", (1,) * 6, (1, 6)), "from 1 to 5"),
        (Segment("image", (), (0, 3)), "from 1 to 5"),
    ],
)
def test_what_does_not_fit_is_refused(segment: Segment, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GRAMMAR.build([segment])


def test_a_sequence_that_stops_early_is_refused() -> None:
    ids = GRAMMAR.build([Segment("text", (1, 2))])
    with pytest.raises(ValueError, match="stops before <eos>"):
        GRAMMAR.parse(ids[:-1])
    with pytest.raises(ValueError, match="sizes must not be negative"):
        Grammar(text_size=-1)


@pytest.mark.parametrize(
    "change",
    [
        {"text_size": "x"},
        {"text_size": True},
        {"text_size": 1e300},
        {"image_size": -1},
        {"max_side": 0},
        {"max_side": 10**12},
        {"audio_size": None},
        {"offsets": None},
        {"vocab_size": 64},
    ],
)
def test_a_layout_of_strange_sizes_is_refused(change: dict[str, object]) -> None:
    layout = to_json(Grammar(text_size=10, image_size=20).layout)
    assert Grammar.from_layout(from_json(Layout, layout)).layout == from_json(Layout, layout)
    with pytest.raises(ValueError, match="vocabulary|max_side|" + next(iter(change))):
        Grammar.from_layout(from_json(Layout, layout | change))
    for nothing in (None, [], 5, {}, "x"):
        with pytest.raises(ValueError, match="not an object|is missing"):
            from_json(Layout, nothing)
