"""In which language is this text? CLD2 says, or it is unknown; a guess never stands in for an answer."""

import unicodedata
from dataclasses import dataclass

import pycld2

from pipeline.curate.stage import Filter, Leave, Map, Row, score
from pipeline.curate.text.transcripts import read_transcript, spoken

# CLD2 and old publishers say it in codes that ISO 639 has since replaced, or that name one language twice.
_SAME = {"iw": "he", "in": "id", "ji": "yi", "jw": "jv", "mo": "ro", "nb": "no", "nn": "no", "fil": "tl", "sh": "sr"}
# ISO 639-2 as media files carry it, in both of its spellings.
_NAMES = dict(
    pair.split(":")
    for pair in """
    ara:ar bel:be ben:bn bul:bg cat:ca ces:cs chi:zh cmn:zh cym:cy cze:cs dan:da deu:de dut:nl ell:el eng:en est:et
    eus:eu fas:fa fil:tl fin:fi fra:fr fre:fr ger:de gle:ga gre:el heb:he hin:hi hrv:hr hun:hu ice:is ind:id isl:is
    ita:it jpn:ja kor:ko lav:lv lit:lt may:ms msa:ms nld:nl nob:no nor:no per:fa pol:pl por:pt ron:ro rum:ro rus:ru
    slk:sk slo:sk slv:sl spa:es sqi:sq srp:sr swa:sw swe:sv tam:ta tel:te tha:th tur:tr ukr:uk urd:ur vie:vi wel:cy
    zho:zh""".split()
)


def primary(tag: str) -> str:
    """The primary subtag of a language tag, in lower case and in today's code: `iw-IL` -> `he`."""
    code = tag.replace("_", "-").partition("-")[0].strip().lower()
    return _SAME.get(code, _NAMES.get(code, code))


def detect_language(text: str) -> tuple[str | None, float | None]:
    """Language and the share of the text (0 to 1) that is in it; (None, None) if CLD2 fails or is not sure."""
    clean = "".join(c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    try:
        is_reliable, _, languages = pycld2.detect(clean, isPlainText=True)
    except pycld2.error:
        return None, None
    _, code, percent, _ = languages[0]
    if not is_reliable or code == "un":
        return None, None
    return primary(code), percent / 100


@dataclass(frozen=True, kw_only=True)
class DetectLanguage(Map):
    """Fills text_language and text_language_prob from the words of `transcript`."""

    def map(self, row: Row) -> Row:
        """The row with its language, or with none; failed `transcript_unreadable` as the parser says."""
        text = "\n".join(spoken(line) for cue in read_transcript(row["transcript"]) for line in cue.lines)
        language, prob = detect_language(text)
        return row | {"text_language": language, "text_language_prob": prob}


@dataclass(frozen=True, kw_only=True)
class DropLanguageMismatch(Filter):
    """Drop as `language_mismatch` a transcript in another language than its audio is declared to be.

    Leaves as unknown `language_unknown` if the text's language is not sure, `language_undeclared` if the publisher
    declared none for the audio.
    """

    min_prob: float = 0.7  # probability from which a detection is believed

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        if row["text_language"] is None or score(row, "text_language_prob") < self.min_prob:
            raise Leave("unknown", "language_unknown")
        if not row["language"]:
            raise Leave("unknown", "language_undeclared", detail=f"the text is {row['text_language']}")
        return None if primary(row["language"]) == row["text_language"] else "language_mismatch"
