"""Text from bytes of the web: one rule for lists, pages, feeds and transcripts, and web encodings only.

A byte order mark decides; then UTF-8, where the bytes are valid; then what the header or the document declares; then
windows-1252. UTF-8 goes before the declaration because servers declare a default for files that they never looked at,
and text in another encoding is almost never valid UTF-8.

Guarantees: nothing here raises; time is linear. A label is one of https://encoding.spec.whatwg.org/#names-and-labels,
so no `punycode`, `idna`, `undefined` or `rot13` of Python's is ever run over what a stranger sent.
"""

import codecs
import re
from collections.abc import Callable

REPLACEMENT = "\ufffd"
BROKEN = "\udcff"
"""What a reader of lines may have put for broken bytes: no text holds it, so the line that does is known."""

# Python's codec, and the labels that the standard reads as this encoding. Left out: x-user-defined, and `replacement`,
# which stands for encodings that are an attack today.
_TABLE = """utf-8: unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8
cp866: 866 cp866 csibm866 ibm866
iso8859-2: csisolatin2 iso-8859-2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 l2 latin2
iso8859-3: csisolatin3 iso-8859-3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 l3 latin3
iso8859-4: csisolatin4 iso-8859-4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 l4 latin4
iso8859-5: csisolatincyrillic cyrillic iso-8859-5 iso-ir-144 iso8859-5 iso88595 iso_8859-5 iso_8859-5:1988
iso8859-6: arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6 iso-8859-6-e iso-8859-6-i \
iso-ir-127 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987
iso8859-7: csisolatingreek ecma-118 elot_928 greek greek8 iso-8859-7 iso-ir-126 iso8859-7 iso88597 iso_8859-7 \
iso_8859-7:1987 sun_eu_greek
iso8859-8: csiso88598e csisolatinhebrew hebrew iso-8859-8 iso-8859-8-e iso-ir-138 iso8859-8 iso88598 iso_8859-8 \
iso_8859-8:1988 visual csiso88598i iso-8859-8-i logical
iso8859-10: csisolatin6 iso-8859-10 iso-ir-157 iso8859-10 iso885910 l6 latin6
iso8859-13: iso-8859-13 iso8859-13 iso885913
iso8859-14: iso-8859-14 iso8859-14 iso885914
iso8859-15: csisolatin9 iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9
iso8859-16: iso-8859-16
koi8-r: cskoi8r koi koi8 koi8-r koi8_r
koi8-u: koi8-ru koi8-u
mac-roman: csmacintosh mac macintosh x-mac-roman
cp874: dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 windows-874
cp1250: cp1250 windows-1250 x-cp1250
cp1251: cp1251 windows-1251 x-cp1251
cp1252: ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 iso_8859-1 \
iso_8859-1:1987 l1 latin1 us-ascii windows-1252 x-cp1252
cp1253: cp1253 windows-1253 x-cp1253
cp1254: cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 iso_8859-9:1989 l5 latin5 \
windows-1254 x-cp1254
cp1255: cp1255 windows-1255 x-cp1255
cp1256: cp1256 windows-1256 x-cp1256
cp1257: cp1257 windows-1257 x-cp1257
cp1258: cp1258 windows-1258 x-cp1258
mac-cyrillic: x-mac-cyrillic x-mac-ukrainian
gb18030: chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 x-gbk gb18030
big5hkscs: big5 big5-hkscs cn-big5 csbig5 x-x-big5
euc-jp: cseucpkdfmtjapanese euc-jp x-euc-jp
iso2022-jp: csiso2022jp iso-2022-jp
cp932: csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis
cp949: cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 windows-949
utf-16-be: unicodefffe utf-16be
utf-16-le: csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16 utf-16le
"""


def _labels() -> dict[str, str]:
    codecs_of: dict[str, str] = {}
    for line in _TABLE.strip().splitlines():
        codec, _, labels = line.partition(": ")
        codecs_of |= dict.fromkeys(labels.split(), codec)
    return codecs_of


_LABELS = _labels()
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([^\s\"';,]+)", re.IGNORECASE)
_SAMPLE_BYTES = 4096
_SEVERAL_BYTES = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")


def codec_of(label: str | None) -> str | None:
    """Python's codec for a label of the web; None for what no browser would read."""
    return _LABELS.get((label or "").strip("\t\n\f\r ").lower())


def declared(content_type: str) -> str | None:
    """The charset that a `Content-Type` header names."""
    named = _CHARSET.search(content_type)
    return named[1] if named else None


def decode(body: bytes, charset: str | None = None, *, broken: str = REPLACEMENT) -> str:
    """The text of a body without its byte order mark; `charset` is what header or document declare, if they do.

    Single bytes that are no UTF-8 in a text that else is are read as windows-1252; `broken` stands for each other
    sequence that is no character.
    """
    codec, text = encoding(body, charset), body
    for mark, name in _MARKS:
        if name == codec and body.startswith(mark):
            text = body[len(mark) :]
            break
    return text.decode(codec, _HANDLERS[broken])


def encoding(body: bytes, charset: str | None = None) -> str:
    """Python's codec for a body, as the module says."""
    if marked := next((name for mark, name in _MARKS if body.startswith(mark)), None):
        return marked
    codec = codec_of(charset)
    if wide := _wide(body[:_SAMPLE_BYTES]):
        return wide
    if codec in ("utf-16-le", "utf-16-be") and b"\0" not in body[:_SAMPLE_BYTES]:
        codec = None  # as in a page that was saved in another encoding than its <meta> says
    if codec == "iso2022-jp" and b"\x1b" in body:  # seven bits: any of it is valid UTF-8
        return codec
    if _is_utf8(body):
        return "utf-8"
    # One character of several bytes shows UTF-8, with damage or with pieces of windows-1252: nobody means Ã©.
    if codec in (None, "cp1252"):
        return "utf-8" if _SEVERAL_BYTES.search(body) else "cp1252"
    return codec


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _wide(sample: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark, told by where the zero bytes of its Latin letters lie."""
    sample = sample[: len(sample) // 4 * 4]
    if len(sample) < 8 or b"\0" not in sample:
        return None
    count = len(sample) // 4
    zeros = [sample[place::4].count(0) / count for place in range(4)]
    if min(zeros[2:]) > 0.9 and zeros[0] < 0.5:
        return "utf-32-le"
    if min(zeros[:2]) > 0.9 and zeros[3] < 0.5:
        return "utf-32-be"
    even, odd = (zeros[0] + zeros[2]) / 2, (zeros[1] + zeros[3]) / 2
    # A few zeros in a text of single bytes are damage.
    if max(even, odd) < 0.4 or 4 * min(even, odd) > max(even, odd):
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _handler(broken: str) -> Callable[[UnicodeError], tuple[str, int]]:
    def mend(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        piece = error.object[error.start : error.end]
        is_stray = error.encoding == "utf-8" and len(piece) == 1 and error.reason != "unexpected end of data"
        try:
            return (piece.decode("cp1252") if is_stray else broken), error.end
        except UnicodeDecodeError:
            return broken, error.end

    return mend


# Registered under names of our own: decoding piece by piece instead would be quadratic in the number of errors.
_HANDLERS = {REPLACEMENT: "triptych.replace", BROKEN: "triptych.mark"}
codecs.register_error(_HANDLERS[REPLACEMENT], _handler(REPLACEMENT))
codecs.register_error(_HANDLERS[BROKEN], _handler(BROKEN))
