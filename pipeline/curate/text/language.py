"""In which language is this text? CLD2 says, or it is unknown; a guess never stands in for an answer."""

import re
import unicodedata
from dataclasses import dataclass

import pycld2

from pipeline.curate.stage import Filter, Leave, Map, Row, score
from pipeline.curate.text.spoken import spoken
from pipeline.curate.text.transcripts import read_transcript

# CLD2 and old publishers say it in codes that ISO 639 has since replaced, or that name one language twice.
_SAME = {"iw": "he", "in": "id", "ji": "yi", "jw": "jv", "mo": "ro", "nb": "no", "nn": "no", "fil": "tl", "sh": "sr"}
# ISO 639-1, and the codes of three letters (639-2 B and T, macrolanguages' largest member) beside those of two.
_CODES = """aa:aar ab:abk af:afr ak:aka am:amh ar:ara,arb as:asm ay:aym az:aze ba:bak be:bel bg:bul bi:bis bm:bam bn:ben
bo:bod,tib br:bre bs:bos ca:cat ce:che co:cos cs:ces,cze cv:chv cy:cym,wel da:dan de:deu,ger dv:div dz:dzo ee:ewe
el:ell,gre en:eng eo:epo es:spa et:est,ekk eu:eus,baq fa:fas,per,pes ff:ful fi:fin fj:fij fo:fao fr:fra,fre fy:fry
ga:gle gd:gla gl:glg gn:grn gu:guj gv:glv ha:hau he:heb hi:hin hr:hrv ht:hat hu:hun hy:hye,arm ia:ina id:ind ig:ibo
is:isl,ice it:ita iu:iku ja:jpn jv:jav ka:kat,geo kk:kaz kl:kal km:khm kn:kan ko:kor ks:kas ku:kur ky:kir la:lat
lb:ltz lg:lug ln:lin lo:lao lt:lit lv:lav,lvs mg:mlg mi:mri,mao mk:mkd,mac ml:mal mn:mon mr:mar ms:msa,may,zsm mt:mlt
my:mya,bur ne:nep,npi nl:nld,dut no:nor,nob,nno ny:nya oc:oci om:orm or:ori,ory pa:pan pl:pol ps:pus pt:por qu:que
rm:roh rn:run ro:ron,rum,mol ru:rus rw:kin sa:san sc:srd sd:snd se:sme sg:sag si:sin sk:slk,slo sl:slv sm:smo sn:sna
so:som sq:sqi,alb sr:srp,hbs ss:ssw st:sot su:sun sv:swe sw:swa,swh ta:tam te:tel tg:tgk th:tha ti:tir tk:tuk tl:tgl
tn:tsn to:ton tr:tur ts:tso tt:tat tw:twi ty:tah ug:uig uk:ukr ur:urd uz:uzb ve:ven vi:vie vo:vol wa:wln wo:wol xh:xho
yi:yid yo:yor za:zha zh:zho,chi,cmn zu:zul"""
_SPELLED = {long: short for short, _, longs in (c.partition(":") for c in _CODES.split()) for long in longs.split(",")}
_ALPHA2 = frozenset(code.partition(":")[0] for code in _CODES.split())
# What languages call themselves, where a feed is likeliest to; in English CLD2 names them.
_OWN_NAMES = """deutsch:de francais:fr français:fr espanol:es español:es castellano:es italiano:it portugues:pt
português:pt nederlands:nl vlaams:nl flemish:nl svenska:sv norsk:no bokmål:no nynorsk:no dansk:da suomi:fi íslenska:is
polski:pl čeština:cs cestina:cs česky:cs slovenčina:sk slovenščina:sl hrvatski:hr srpski:sr bosanski:bs magyar:hu
română:ro romana:ro català:ca catala:ca euskara:eu galego:gl ελληνικά:el türkçe:tr turkce:tr русский:ru українська:uk
български:bg македонски:mk српски:sr беларуская:be עברית:he العربية:ar عربي:ar فارسی:fa farsi:fa اردو:ur हिन्दी:hi
हिंदी:hi বাংলা:bn தமிழ்:ta తెలుగు:te ไทย:th 日本語:ja 中文:zh 普通话:zh 國語:zh 汉语:zh mandarin:zh cantonese:zh 한국어:ko
indonesia:id melayu:ms việt:vi filipino:tl kiswahili:sw gaeilge:ga cymraeg:cy lietuvių:lt latviešu:lv eesti:et
shqip:sq afrikaans:af latin:la sinhala:si"""
_NAMES = {name.lower(): code for name, code in pycld2.LANGUAGES if "-" not in code} | dict(
    name.rsplit(":", 1) for name in _OWN_NAMES.split()
)
_PARTS = re.compile(r"[,;/|+&\s()\[\]]+")
_UNKNOWN = frozenset({"und", "mul", "zxx", "mis", "qaa", "xx", "un", "unknown", "none", "null", "multiple", "other"})


def primary(tag: str) -> str | None:
    """The language that a publisher's word for it begins with, in today's code of ISO 639: `iw-IL` -> `he`.

    `en_US`, `eng`, `English (US)`, `en,fr` are `en`; None where nothing is said: `und`, `mul`, `zxx`, what is no
    language.
    """
    for part in filter(None, _PARTS.split(tag.strip().lower())):
        code = re.split("[-_.]", part, maxsplit=1)[0]
        if code in _UNKNOWN:
            return None
        code = _SPELLED.get(code, code if len(code) > 2 else _SAME.get(code, code))
        known = _SAME.get(code) or _NAMES.get(part) or _NAMES.get(code) or (code if code in _ALPHA2 else None)
        if known:
            return _SAME.get(known, known)
    return None


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
    return primary(code) or code.partition("-")[0], percent / 100


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
    declared none for the audio, or none that is known.
    """

    min_prob: float = 0.7  # probability from which a detection is believed

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        if row["text_language"] is None or score(row, "text_language_prob") < self.min_prob:
            raise Leave("unknown", "language_unknown")
        declared = primary(row["language"] or "")
        if declared is None:
            raise Leave("unknown", "language_undeclared", detail=f"the text is {row['text_language']}")
        return None if declared == row["text_language"] else "language_mismatch"
