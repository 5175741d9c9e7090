"""Counting words and case."""

import pytest

from pipeline.curate.text.words import count_words, shape


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("one two  three", 3),
        ("it's a well-known fact", 4),
        ("- ... !", 0),
        ("3 cats, 2 dogs", 4),
        ("Привет, мир", 2),
        ("一只黑色的猫", 3),
        ("猫", 1),
        ("สวัสดีครับ", 5),
        ("日本語 and English", 4),
        ("مرحبا بالعالم", 2),
    ],
)
def test_words(text, words):
    assert count_words(text) == words


SENTENCE = "Well, the Queen of England said that it was not, in her view, a matter for the House of Lords. "


def test_georgian_capitals_exist_on_paper_only():
    assert shape("ეს არის ქართული ტექსტი და ის დაწერილია ადამიანის მიერ " * 5).lower_ratio is None


def test_case_and_punctuation():
    human = shape(SENTENCE * 5)
    assert human.num_words == 100 and human.punctuation_per_100_words == 20
    assert human.lower_ratio == pytest.approx((20 - 1 - 5) / 19) and human.upper_ratio == 0  # "a" is not counted
    assert shape((SENTENCE * 5).lower()).lower_ratio == 1
    assert shape((SENTENCE * 5).upper()).upper_ratio == 1
    bare = "".join(c for c in SENTENCE * 5 if c.isalnum() or c == " ")
    assert shape(bare).punctuation_per_100_words == 0


def test_marks_inside_words_are_spelling():
    spelled = "at 10:30 pi was 3.14 and e.g we saw node.js version 1,000 there again "
    assert shape(spelled * 2).punctuation_per_100_words == 0
    assert shape('he said "no." then (softly) "why?" and left… so what now ' * 2).punctuation_per_100_words == 300 / 11


@pytest.mark.parametrize(
    "text",
    [
        "",
        "too short",
        "これは日本語の字幕です。" * 9,
        "هذا نص عربي بدون حالة أحرف. " * 9,
        "สวัสดีครับ " * 20,
        "यह हिन्दी का एक वाक्य है। " * 9,
        "日本語の字幕 iphone " * 12,
    ],
)
def test_no_evidence_where_case_means_nothing(text):
    seen = shape(text)
    assert (seen.lower_ratio, seen.upper_ratio, seen.punctuation_per_100_words) == (None, None, None)


def test_other_cased_scripts():
    assert shape("сегодня такая хорошая погода и мы пойдем гулять в парк вместе с друзьями " * 2).lower_ratio == 1
    assert shape("ΚΑΛΗΜΕΡΑ ΣΕ ΟΛΟΥΣ ΤΟΥΣ ΑΝΘΡΩΠΟΥΣ ΠΟΥ ΒΛΕΠΟΥΝ ΑΥΤΗ ΤΗΝ ΕΚΠΟΜΠΗ " * 2).upper_ratio == 1
