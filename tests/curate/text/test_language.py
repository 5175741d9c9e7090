"""Languages of transcripts."""

import pytest

from pipeline.curate.stage import Leave
from pipeline.curate.text.language import DetectLanguage, DropLanguageMismatch, detect_language, primary

TEXTS = {
    "en": "Good evening, and welcome to the programme. Tonight we look at the river, from its source to the sea.",
    "de": "Guten Abend und herzlich willkommen. Heute sprechen wir über den Fluss, von der Quelle bis zum Meer.",
    "fr": "Bonsoir et bienvenue dans notre émission. Ce soir, nous suivons le fleuve de sa source jusqu'à la mer.",
    "es": "Buenas noches y bienvenidos al programa. Hoy seguimos el río desde su nacimiento hasta el mar.",
    "ru": "Добрый вечер, добро пожаловать в программу. Сегодня мы говорим о реке от истока до моря.",
    "ja": "こんばんは。今夜は川の源流から海までをたどります。番組へようこそ。",
    "ar": "مساء الخير وأهلا بكم في البرنامج. نتحدث الليلة عن النهر من منبعه إلى البحر.",
    "he": "ערב טוב וברוכים הבאים לתוכנית. הערב נדבר על הנהר מהמקור ועד הים.",
}


@pytest.mark.parametrize(("language", "text"), TEXTS.items())
def test_languages(language, text):
    found, prob = detect_language(text)
    assert found == language and prob > 0.9


@pytest.mark.parametrize("text", ["", "12 34 !?", "zxqv wrtp", "\ud800" * 3, "\0\x01\x02"])
def test_no_answer_is_better_than_a_guess(text):
    assert detect_language(text) == (None, None)


def test_control_characters_do_not_break_it():
    assert detect_language("\x00\x1b[31m\u200e" + TEXTS["de"] + "\ufffe\udcff")[0] == "de"


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("en", "en"),
        ("EN-gb", "en"),
        ("pt_BR", "pt"),
        ("iw-IL", "he"),
        ("nb-NO", "no"),
        ("nn", "no"),
        ("eng", "en"),
        ("zh-Hant-TW", "zh"),
        (" de ", "de"),
        ("English", "en"),
        ("english (US)", "en"),
        ("en,fr", "en"),
        ("en; q=1", "en"),
        ("de/en", "de"),
        ("ENG", "en"),
        ("ger", "de"),
        ("cmn-Hans", "zh"),
        ("en_US.UTF-8", "en"),
        ("Deutsch", "de"),
        ("Français", "fr"),
        ("Español", "es"),
        ("Português (Brasil)", "pt"),
        ("日本語", "ja"),
        ("русский", "ru"),
        ("Norwegian", "no"),
        ("Hebrew", "he"),
        ("Filipino", "tl"),
        ("und", None),
        ("mul", None),
        ("zxx", None),
        ("xx", None),
        ("", None),
        (" , ", None),
        ("podcast", None),
    ],
)
def test_primary_subtags(tag, code):
    assert primary(tag) == code


def row(text: str, language: str | None) -> dict:
    cue = f"WEBVTT\n\n00:01.000 --> 00:02.000\n[Music] <i>{text}</i>\n"
    return DetectLanguage().map({"unit": "episode", "transcript": cue, "language": language})


@pytest.mark.parametrize(
    ("text", "declared", "reason"),
    [
        ("en", "en-US", None),
        ("en", "de", "language_mismatch"),
        ("he", "iw", None),
        ("fr", "eng", "language_mismatch"),
        ("en", "English", None),
        ("en", "en,fr", None),
        ("fr", "English", "language_mismatch"),
    ],
)
def test_mismatch(text, declared, reason):
    assert DropLanguageMismatch().reason(row(TEXTS[text], declared)) == reason


def test_what_is_not_known_is_unknown():
    for found, reason in (
        (row("zxqv", "en"), "language_unknown"),
        (row(TEXTS["en"], None), "language_undeclared"),
        (row(TEXTS["en"], "und"), "language_undeclared"),
        (row(TEXTS["en"], "nonsense"), "language_undeclared"),
        (row(TEXTS["en"] + TEXTS["fr"] + TEXTS["de"], "en"), "language_unknown"),
    ):
        with pytest.raises(Leave) as leave:
            DropLanguageMismatch().reason(found)
        assert (leave.value.state, leave.value.reason) == ("unknown", reason)
