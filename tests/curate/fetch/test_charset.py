"""Which encoding the bytes of the web are in."""

import codecs
import time

import pytest

from pipeline.curate.fetch import charset
from pipeline.curate.fetch.charset import BROKEN, codec_of, declared, decode, encoding

TEXT = "url,caption\nhttp://e.example/a,naïve “x” 日本 😀\n"


@pytest.mark.parametrize(
    "codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
@pytest.mark.parametrize("says", [None, "latin1", "utf-16", "punycode", "shift_jis"])
def test_unicode_is_told_without_being_declared(codec: str, says: str | None) -> None:
    assert decode(TEXT.encode(codec), says) == TEXT


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("Shift_JIS", "cp932", "日本の猫"),
        (" windows-31j ", "cp932", "①日本"),
        ("gb2312", "gbk", "简体中文"),
        ("GBK", "gbk", "联通"[::-1]),
        ("big5", "big5", "繁體"),
        ("euc-kr", "cp949", "한국어"),
        ("euc-jp", "euc-jp", "日本"),
        ("iso-2022-jp", "iso2022-jp", "日本"),
        ("koi8-r", "koi8-r", "кот"),
        ("windows-1251", "cp1251", "кот"),
        ("iso-8859-1", "cp1252", "“café” €"),
        ("ascii", "cp1252", "“café”"),
        ("iso-8859-9", "cp1254", "ışık"),
        ("latin2", "iso8859-2", "źle"),
        ("tis-620", "cp874", "แมว"),
        ("x-mac-cyrillic", "mac-cyrillic", "кот"),
        ("utf-16be", "utf-16-be", "ab 日本 cd efgh"),
    ],
)
def test_what_is_declared_is_used_where_it_is_not_utf_8(label: str, codec: str, text: str) -> None:
    assert decode(text.encode(codec), label) == text


def test_nothing_but_encodings_of_the_web() -> None:
    for label in (
        "punycode",
        "idna",
        "undefined",
        "rot13",
        "hex",
        "base64",
        "zlib",
        "utf-7",
        "unicode_escape",
        "cp500",
        "mbcs",
        "replacement",
        "hz-gb-2312",
        "iso-2022-kr",
        "",
    ):
        assert codec_of(label) is None
    assert len(charset._LABELS) > 210
    for codec in set(charset._LABELS.values()):
        codecs.lookup(codec)
    start = time.process_time()
    decode(b"a-" * (4 << 20), "punycode")
    assert time.process_time() - start < 2


def test_bytes_that_are_no_utf_8_are_windows_1252_one_by_one() -> None:
    assert decode("日本 ".encode() + b"caf\xe9 \x93x\x94") == "日本 café “x”"
    assert decode("日".encode() + b"a\xe2\x80 b\x81c", broken=BROKEN) == f"日a{BROKEN} b{BROKEN}c"
    assert decode("日".encode() + b"a\xe2\x80") == "日a\ufffd" and decode(b"caf\xe9\x94") == "café”"
    assert decode("ab\ud800cdefgh".encode("utf-16-le", "surrogatepass"), broken=BROKEN).count(BROKEN) == 1
    assert decode(b"") == "" and decode(b"\xff\xfe\x00", broken=BROKEN) == BROKEN


def test_zero_bytes_alone_are_no_utf_16() -> None:
    for body in (b"a\0b,c\n" * 9, b"\0" * 99, b"x" + b"\0" * 3, b"GIF89a\0\0\0\0"):
        assert encoding(body) == "utf-8"


def test_a_header_declares() -> None:
    assert declared('text/csv; charset="Latin1"; x=y') == "Latin1" and declared("text/csv; Charset = utf-8") == "utf-8"
    assert declared("text/csv") is None
