"""URL lists: what users bring, what publishers break, and the books of their lines."""

import bz2
import datetime
import gzip
import hashlib
import io
import json
import lzma
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from pipeline.curate.fetch.columns import ListConfig
from pipeline.curate.fetch.lists import read_list
from pipeline.curate.fetch.record import LINE_CHARS
from pipeline.curate.stage import Leave
from pipeline.curate.work import to_table
from pipeline.records import INPUT, key_of
from tests.curate.fetch import planted

BASE = "http://example.com/lists/all.jsonl?token=secret"
E = "http://e.example"
A, B, C = f"{E}/a.png", f"{E}/b.png", f"{E}/c.png"
TWO = [(A, "one, two"), (B, "three")]
PLAIN = [(A, None), (B, None)]


def parquet(group_rows: int = 1024, **columns: list) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=group_rows)
    return sink.getvalue()


def lines(*entries: object, ascii_only: bool = False) -> bytes:
    return "".join(json.dumps(entry, ensure_ascii=ascii_only) + "\n" for entry in entries).encode(
        "utf-8", "surrogatepass"
    )


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


CSV = f'url,caption\n{A},"one, two"\n{B},three\n'
JSONL = lines({"url": A, "caption": "one, two"}, {"url": B, "caption": "three"})
NOISE = CSV.encode() + b"".join(f"{E}/{hashlib.sha256(bytes([i])).hexdigest()}.png,x\n".encode() for i in range(200))
BAD = "failed"  # a row of its own, failed as list_line_unreadable

# What the list is -> (its bytes, the URL and caption of each row, or BAD).
READ: dict[str, tuple[bytes, list]] = {
    # ---- what users bring
    "WIT, whose captions are missing by turns": (
        "language\tpage_url\timage_url\tpage_title\tcaption_reference_description\tcaption_attribution_description\t"
        f"caption_alt_text_description\nen\t{E}/p\t{A}\tP\t\tEnglish: one\t\nen\t{E}/p\t{B}\tP\ttwo\tno\tno\n".encode(),
        [(A, "English: one"), (B, "two")],
    ),
    "RedCaps, records under a key": (
        json.dumps(
            {"info": {"v": 1}, "annotations": [{"url": A, "caption": "one, two"}, {"url": B, "caption": "three"}]}
        ).encode(),
        TWO,
    ),
    "records under a key, over lines": (
        json.dumps({"images": [{"url": A, "caption": "one, two"}, {"url": B, "caption": "three"}]}, indent=2).encode(),
        TWO,
    ),
    "SBU, by columns": (json.dumps({"image_urls": [A, B], "captions": ["one, two", "three"], "n": 2}).encode(), TWO),
    "pandas, by columns": (
        json.dumps({"url": {"0": A, "1": B}, "text": {"0": "one, two", "1": "three"}}).encode(),
        TWO,
    ),
    "pandas, split": (
        json.dumps({"columns": ["url", "text"], "index": [0, 1], "data": [[A, "one, two"], [B, "three"]]}).encode(),
        TWO,
    ),
    "records by their ids": (
        json.dumps({"7": {"url": A, "caption": "one, two"}, "9": {"url": B, "caption": "three"}}).encode(),
        TWO,
    ),
    "URLs with their captions": (json.dumps({A: "one, two", B: "three"}).encode(), TWO),
    "arrays of two": (json.dumps([[A, "one, two"], ["three", B]]).encode(), TWO),
    "JSON lines, a tab in a caption": (f'{{"url":"{A}","caption":"one\ttwo"}}\n'.encode(), [(A, "one\ttwo")]),
    "csv of Excel": (f"sep=;\nurl;caption\n{A};one, two\n{B};three\n".encode(), TWO),
    "csv, a remark above": (f"# mine\nurl,caption\n{A},x\n{B},y\n".encode(), [BAD, (A, "x"), (B, "y")]),
    "csv, a header that begins with #": (f"#url\tcaption\n{A}\tx\n{B}\ty\n".encode(), [(A, "x"), (B, "y")]),
    "csv, two that were joined": (f"url,caption\n{A},x\nurl,caption\n{B},y\n".encode(), [(A, "x"), (B, "y")]),
    "csv, commas in a URL": (
        f"url,caption\n{E}/w_1,h_2/a.jpg,one, two\n{B},n/a.jpg, x\n".encode(),
        [(f"{E}/w_1,h_2/a.jpg", "one, two"), (B, "n/a.jpg, x")],
    ),
    "csv, column image": (f"image,caption\n{A},x\n{B},y\n".encode(), [(A, "x"), (B, "y")]),
    "csv, several URLs in a field": (f'image,name\n"{A}, {B}",x\n{C},y\n'.encode(), [BAD, (C, None)]),
    "csv of Shopify": (
        f"Handle,Title,Image Src,Image Alt Text\nx,X,{A},one\nx,,{B},two\n".encode(),
        [(A, "one"), (B, "two")],
    ),
    "csv, entities of HTML": (
        f"url,caption\n{A},Tom &amp; I&#39;m\n{B},R&D;\n".encode(),
        [(A, "Tom & I'm"), (B, "R&D;")],
    ),
    "txt, a comma behind each": (f"{A},\n{B},\n".encode(), PLAIN),
    "txt, as Python prints a list": (f"'{A}',\n'{B}',\n".encode(), PLAIN),
    "txt, in quotes with commas": (f'"{A}",\n"{B}"\n"{C}",\n'.encode(), [*PLAIN, (C, None)]),
    "txt, in angle brackets": (f"<{A}>\n<{B}>\n".encode(), PLAIN),
    "csv": (CSV.encode(), TWO),
    "csv, CR LF": (CSV.replace("\n", "\r\n").encode(), TWO),
    "csv, CR": (CSV.replace("\n", "\r").encode(), TWO),
    "csv, mixed line ends": (f"url,caption\r\n{A},x\r{B},y\n{C},z".encode(), [(A, "x"), (B, "y"), (C, "z")]),
    "csv, byte order mark": (CSV.encode("utf-8-sig"), TWO),
    "csv, UTF-16": (CSV.encode("utf-16"), TWO),
    "csv, UTF-16 without a mark": (CSV.encode("utf-16-le"), TWO),
    "csv, UTF-16 big-endian without a mark": (CSV.encode("utf-16-be"), TWO),
    "csv, UTF-32": (CSV.encode("utf-32"), TWO),
    "csv, windows-1252": (f"url,caption\n{A},café “bar” €\n".encode("cp1252"), [(A, "café “bar” €")]),
    "csv, one byte of latin-1": (
        f"url,caption\n{A},日本\n".encode() + B.encode() + b",caf\xe9\n",
        [(A, "日本"), (B, "café")],
    ),
    "csv, half a character": (f"url,caption\n{A},é\n".encode() + B.encode() + b",\xe2\x80\n", [(A, "é"), BAD]),
    "csv with ;": (CSV.replace(",caption", ";caption").replace(',"', ';"').replace(",three", ";three").encode(), TWO),
    "csv with |": (f"url|caption\n{A}|one, two\n{B}|three\n".encode(), TWO),
    "csv, more delimiters in the header's words": (f"caption;url\none, two;{A}\nthree;{B}\n".encode(), TWO),
    "tsv": (f"url\tcaption\n{A}\tone, two\n{B}\tthree\n".encode(), TWO),
    "tsv with quotes as pandas writes them": (f'url\tcaption\n{A}\t"say ""a\tb"""\n'.encode(), [(A, 'say "a\tb"')]),
    "tsv of CC3M, no header": (f"one, two\t{A}\nthree\t{B}\n".encode(), TWO),
    "tsv of CC12M, no header": (f"{A}\tone, two\n{B}\tthree\n".encode(), TWO),
    "csv without a header": (f"{A},a red cat\n{B},a blue dog\n".encode(), [(A, "a red cat"), (B, "a blue dog")]),
    "txt": (f"{A}\n{B}\n".encode(), PLAIN),
    "txt with commas in the URLs": (
        f"{E}/w_1,h_2,c/a.png\n{E}/x,y;z/q.png\n".encode(),
        [(f"{E}/w_1,h_2,c/a.png", None), (f"{E}/x,y;z/q.png", None)],
    ),
    "txt with a header": (f"url\n{E}/a,b.png\n".encode(), [(f"{E}/a,b.png", None)]),
    "txt, quoted": (f'"{A}"\n"{B}"\n'.encode(), PLAIN),
    "txt of one line without its end": (A.encode(), [(A, None)]),
    "txt with blank lines and a comment": (f"\n# mine\n{A}\n\n  \n{B}\n".encode(), [BAD, *PLAIN]),
    "jsonl": (JSONL, TWO),
    "jsonl, CR": (JSONL.replace(b"\n", b"\r"), TWO),
    "jsonl, UTF-16": (JSONL.decode().encode("utf-16"), TWO),
    "jsonl with commas behind": (JSONL.replace(b"}\n", b"},\n"), TWO),
    "json array, one line": (
        json.dumps([{"url": A, "caption": "one, two"}, {"url": B, "caption": "three"}]).encode(),
        TWO,
    ),
    "json array, indented": (
        json.dumps([{"url": A, "caption": "one, two"}, {"url": B, "caption": "three"}], indent=2).encode(),
        TWO,
    ),
    "json array, a line each": (b"[\n" + JSONL.strip().replace(b"}\n", b"},\n") + b"\n]\n", TWO),
    "json array of URLs": (json.dumps([A, B]).encode(), PLAIN),
    "json objects, indented, one after the other": (
        "\n".join(json.dumps({"url": u, "caption": "x"}, indent=1) for u in (A, B)).encode(),
        [(A, "x"), (B, "x")],
    ),
    "parquet of LAION": (
        parquet(URL=[A, B], TEXT=["one, two", "three"], NSFW=["UNLIKELY", None], similarity=[0.3, 0.4]),
        TWO,
    ),
    "parquet of DataComp": (parquet(uid=["1", "2"], url=[A, B], text=["one, two", "three"], sha256=["x", "y"]), TWO),
    "parquet of img2dataset": (
        parquet(url=[A, B], caption=["one, two", "three"], key=["0", "1"], status=["success", "failed_to_download"]),
        TWO,
    ),
    "parquet, text as bytes": (parquet(url=[A.encode(), B.encode()], caption=[b"one, two", b"three"]), TWO),
    "parquet, groups of one row": (parquet(1, url=[A, B], caption=["one, two", "three"]), TWO),
    "parquet with pictures in it": (
        parquet(url=[A, B], caption=["one, two", "three"], image=[b"\x89PNG", b"\xff"]),
        TWO,
    ),
    "parquet, captions as lists": (parquet(url=[A], caption=[["x", "y"]]), [(A, "x"), (A, "y")]),
    "parquet, nulls": (parquet(url=[A, None], caption=[None, "x"]), [(A, None), BAD]),
    "csv.gz": (gzip.compress(CSV.encode()), TWO),
    "csv.gz in two members": (gzip.compress(CSV[:20].encode()) + gzip.compress(CSV[20:].encode()), TWO),
    "jsonl.zst": (zstd(JSONL), TWO),
    "csv.bz2": (bz2.compress(CSV.encode()), TWO),
    "jsonl.xz": (lzma.compress(JSONL), TWO),
    "parquet.gz": (gzip.compress(parquet(url=[A, B], caption=["one, two", "three"])), TWO),
    "gz in gz": (gzip.compress(gzip.compress(CSV.encode())), TWO),
    "Open Images": (f"ImageID,Subset,OriginalURL,OriginalLandingURL,Title\n7,train,{A},{E}/p,x\n".encode(), [(A, "x")]),
    "Unsplash": (f"photo_id\tphoto_url\tphoto_image_url\tphoto_description\n1\t{E}/p\t{A}\tx\n".encode(), [(A, "x")]),
    "names in capitals, JSON": (lines({"URL": A, "TEXT": "x"}), [(A, "x")]),
    # ---- quotes
    "a quote left open": (
        f'url,caption\n{A},"one\n{B},two\n{C},three\n'.encode(),
        [(A, '"one'), (B, "two"), (C, "three")],
    ),
    "two quotes left open": (
        f'url,caption\n{A},"one\n{B},two\n{C},three"\n'.encode(),
        [(A, '"one'), (B, "two"), (C, 'three"')],
    ),
    "a quote left open before quotes that close": (
        f'url,caption\n{A},"one\n{B},"x, y"\n{C},"z"\n'.encode(),
        [(A, '"one'), (B, "x, y"), (C, "z")],
    ),
    "a quote that closes too early": (
        f'url,caption\n{A},"Hi" he said\n{B},x\n'.encode(),
        [(A, '"Hi" he said'), (B, "x")],
    ),
    "quotes escaped by a backslash": (
        f'url,caption\n{A},"he said \\"hi, you\\""\n{B},x\n'.encode(),
        [(A, 'he said "hi, you"'), (B, "x")],
    ),
    "a quote within words": (f'url,caption\n{A},a 5" disk\n{B},x\n'.encode(), [(A, 'a 5" disk'), (B, "x")]),
    "a quote at the start of a caption, TSV": (
        f'caption\turl\n"one\t{A}\ntwo\t{B}\n"three\t{C}\n'.encode(),
        [(A, '"one'), (B, "two"), (C, '"three')],
    ),
    "a quote at the start of a caption, no header": (
        f'"one\t{A}\ntwo"\t{B}\nthree\t{C}\n'.encode(),
        [(A, '"one'), (B, 'two"'), (C, "three")],
    ),
    "words over lines": (
        f'url,caption\n{A},"first,\n\nsecond ""x"""\n{B},y\n'.encode(),
        [(A, 'first,\n\nsecond "x"'), (B, "y")],
    ),
    "words over lines, URL last": (
        f'caption,url\n"first,\nsecond",{A}\ny,{B}\n'.encode(),
        [(A, "first,\nsecond"), (B, "y")],
    ),
    "words over lines with a link in them": (
        f'url,caption\n{A},"see\nhttps://x.example/y\nnow"\n'.encode(),
        [(A, "see\nhttps://x.example/y\nnow")],
    ),
    "a quote open at the end": (f'url,caption\n{A},x\n{B},"y'.encode(), [(A, "x"), (B, '"y')]),
    "blanks before a quote": (f'url, caption\n{A}, "x, y"\n'.encode(), [(A, "x, y")]),
    # ---- columns
    "too many columns: commas in the caption": (
        f"url,caption\n{A},one, two, three\n".encode(),
        [(A, "one, two, three")],
    ),
    "too many columns, URL last": (f"caption,url\none, two,{A}\n".encode(), [(A, "one, two")]),
    "too many columns, and no URL where it should be": (f"url,caption\nx y,{A},z\n{B},w\n".encode(), [BAD, (B, "w")]),
    "too few columns": (f"url,caption\n{A}\nwords alone\n{B},x\n".encode(), [(A, None), BAD, (B, "x")]),
    "empty columns behind": (f"url,caption\n{A},x,,\n{B},y\n".encode(), [(A, "x"), (B, "y")]),
    "a column twice": (f"url,caption,url\n{A},x,{B}\n".encode(), [(A, "x")]),
    "a tab in a caption": (f"url\tcaption\n{A}\tx\ty\n".encode(), [(A, "x\ty")]),
    # ---- lines
    "a huge field": (
        f"url,caption\n{A},x\n{B},{'y' * 140_000}\n{C},z\n".encode(),
        [(A, "x"), (B, "y" * 140_000), (C, "z")],
    ),
    "a line of 10 MB": (f"url,caption\n{A},x\n{B},{'y' * 10_000_000}\n{C},z\n".encode(), [(A, "x"), BAD, (C, "z")]),
    "JSON of 10 MB": (
        lines({"url": A}, {"url": B, "caption": "y" * 10_000_000}, {"url": C}),
        [(A, None), BAD, (C, None)],
    ),
    "U+2028, U+2029 and U+0085 in CSV": (
        f"url,caption\n{A},x\u2028y\u2029z\u0085w\n{B},v\n".encode(),
        [(A, "x\u2028y\u2029z\u0085w"), (B, "v")],
    ),
    "U+2028, U+2029 and U+0085 in JSON": (
        lines({"url": A, "caption": "x\u2028y\u2029z\u0085w"}),
        [(A, "x\u2028y\u2029z\u0085w")],
    ),
    "form feeds and separators": (f"{A}\tx\x0by\x0cz\x1cw\n{B}\tv\n".encode(), [(A, "x\x0by\x0cz\x1cw"), (B, "v")]),
    "zero bytes": (f"url,caption\n{A},x\0y\n{B},z\n".encode(), [BAD, (B, "z")]),
    "a lone CR in a caption": (
        b"".join(f"word {i}\t{E}/{i}\n".encode() for i in range(20)) + f"x\ry\t{A}\n".encode(),
        [*((f"{E}/{i}", f"word {i}") for i in range(20)), (A, "x\ry")],
    ),
    "cut in the last line, JSON": (JSONL[:-9], [TWO[0], BAD]),
    "cut in the last element": (json.dumps([{"url": A}, {"url": B}]).encode()[:-9], [(A, None), BAD]),
    "an array without its end": (json.dumps([{"url": A}, {"url": B}]).encode()[:-1], PLAIN),
    # ---- JSON
    "nested 100,000 deep": (
        lines({"url": A}) + b'{"url": "x", "y": ' + b"[" * 100_000 + b"\n" + lines({"url": B}),
        [(A, None), BAD, (B, None)],
    ),
    "nested 100,000 deep in an array": (
        b'[{"url": "' + A.encode() + b'"}, {"y": ' + b'{"z":' * 100_000 + b', {"url": "' + B.encode() + b'"}]',
        [(A, None), BAD, (B, None)],
    ),
    "half an emoji": (
        lines({"url": A, "caption": "x"}, {"url": B, "caption": "\ud83d"}, {"url": C}, ascii_only=True),
        [(A, "x"), BAD, (C, None)],
    ),
    "a whole emoji, escaped": (lines({"url": A, "caption": "😀"}, ascii_only=True), [(A, "😀")]),
    "a key twice with two values": (f'{{"url": "{A}", "url": "{B}"}}\n{{"url": "{C}"}}\n'.encode(), [BAD, (C, None)]),
    "a key twice with one value": (f'{{"url": "{A}", "url": "{A}"}}\n'.encode(), [(A, None)]),
    "NaN": (f'{{"url": "{A}", "caption": NaN, "score": -Infinity}}\n'.encode(), [(A, None)]),
    "an open quote in an array": (
        f'[{{"url": "{A}"}}, {{"url": "x, {{"url": "{B}"}}, {{"url": "{C}"}}]'.encode(),
        [(A, None), BAD, (B, None), (C, None)],
    ),
    "other values among objects": (
        b"7\nnull\n[1]\n" + lines({"url": A}, {"url": B}, {"url": C}, {"url": A}),
        [BAD, BAD, BAD, (A, None), (B, None), (C, None), (A, None)],
    ),
    "the first line is broken": (b"<p>\n" + JSONL, [BAD, *TWO]),
    # ---- captions
    "captions that are none": (
        lines(
            *(
                {"url": f"{E}/{i}", "caption": none}
                for i, none in enumerate(["nan", "NULL", "None", "null", "NaN", "<NA>", "N/A", "", " ", None])
            )
        ),
        [(f"{E}/{i}", None) for i in range(10)],
    ),
    "captions that are none, CSV": (
        "".join(
            [
                "url,caption\n",
                *(f"{E}/{i},{none}\n" for i, none in enumerate(["nan", "NULL", "None", "<NA>", "n/a", ""])),
            ]
        ).encode(),
        [(f"{E}/{i}", None) for i in range(6)],
    ),
    "a caption that names what is none": (
        lines({"url": A, "caption": "None of us"}, {"url": B, "caption": "NaN bread"}),
        [(A, "None of us"), (B, "NaN bread")],
    ),
    "a list of captions": (lines({"url": A, "caption": ["x", None, "y", "x", "nan"]}), [(A, "x"), (A, "y")]),
    "a list of captions as Python prints it": (
        f'url,caption\n{A},"[\'it\'\'s x\', ""y""]"\n'.replace("''", "\\'").encode(),
        [(A, "it's x"), (A, "y")],
    ),
    "a list of captions as numpy prints it": (
        f"url\tcaption\n{A}\t['x one' 'y two']\n".encode(),
        [(A, "x one"), (A, "y two")],
    ),
    "a list of captions as JSON in a column": (f'url\tcaption\n{A}\t["x", "y"]\n'.encode(), [(A, "x"), (A, "y")]),
    "brackets that are no list": (
        lines({"url": A, "caption": "[free] x [now]"}, {"url": B, "caption": "[1, 2]"}),
        [(A, "[free] x [now]"), (B, "[1, 2]")],
    ),
    "an object as a caption": (lines({"url": A, "caption": {"en": "x"}}, {"url": B}), [BAD, (B, None)]),
    "a number as a caption": (lines({"url": A, "caption": 7}), [(A, "7")]),
    # ---- URLs
    "no URL": (
        lines({"url": None}, {"url": "nan"}, {"url": 7}, {"url": ["x"]}, {"caption": "x"}, {"url": A}),
        [BAD] * 5 + [(A, None)],
    ),
    "blanks around": (f"url,caption\n {A} ,x\n".encode(), [(A, "x")]),
}


@pytest.mark.parametrize("body,expected", READ.values(), ids=READ)
def test_what_is_in_a_list(body: bytes, expected: list) -> None:
    rows = read_list(body, f"{E}/list")
    found = [BAD if row["reason"] == "list_line_unreadable" else (row["url"], row["text"]) for row in rows]
    assert found == expected, [row["detail"] for row in rows]
    to_table(rows, INPUT)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(planted.lists())
def test_every_line_is_accounted_for(case: planted.Case) -> None:
    rows = read_list(case.body, BASE)
    assert len(rows) == len(case.pairs), [(row["url"], row["text"], row["detail"]) for row in rows]
    for number, (pair, row) in enumerate(zip(case.pairs, rows, strict=True)):
        if number not in case.damages:
            assert (row["url"], row["text"], row["state"]) == (pair[0], case.caption(pair), None)
        if row["state"]:
            assert row["state"] == "failed" and row["detail"].isprintable()
    to_table(rows, INPUT)


@pytest.mark.parametrize("dialect", sorted(planted.DIALECTS))
@pytest.mark.parametrize("damage", sorted(planted.DAMAGES))
def test_each_damage_in_each_dialect(dialect: str, damage: str) -> None:
    pairs = [(planted.url_of(number), planted.WORDS[number % len(planted.WORDS)]) for number in range(9)]
    for damages in ({0: damage}, {4: damage}, {8: damage}, {3: damage, 4: damage}):
        rows = read_list(planted.written(dialect, pairs, damages, ["\n"]).encode("utf-8", "surrogatepass"), BASE)
        assert len(rows) == 9, [(row["url"], row["text"], row["detail"]) for row in rows]
        whole = [row["url"] for number, row in enumerate(rows) if number not in damages]
        assert whole == [url for number, (url, _) in enumerate(pairs) if number not in damages]


@pytest.mark.parametrize(
    "archive,named",
    [
        (gzip.compress(CSV.encode() * 300)[:-9], "gzip archive that is cut"),
        (bz2.compress(CSV.encode() * 300) + bz2.compress(b"x")[:-9], "bzip2 archive that is cut"),
        (lzma.compress(CSV.encode() * 300)[:-9], "xz archive that is cut"),
        (zstd(CSV.encode() * 3000)[:-9], "Zstandard archive that is cut"),
        (gzip.compress(NOISE)[:-8] + b"damaged!", "gzip archive that is damaged"),
    ],
)
def test_the_end_that_an_archive_lacks_is_a_row(archive: bytes, named: str) -> None:
    rows = read_list(archive, f"{E}/list")
    assert rows[0]["url"] == A and rows[-1]["reason"] == "listing_cut" and named in rows[-1]["detail"]
    assert len({row["reason"] for row in rows} & {"listing_cut"}) == 1


def test_an_archive_unpacks_within_a_bound() -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * (32 << 20)))
    with pytest.raises(Leave, match="too_large.*gzip archive that unpacks to more than 1048576 bytes"):
        read_list(bomb, BASE, ListConfig(max_bytes=1 << 20))


def test_a_damaged_group_of_rows_costs_its_own_rows() -> None:
    body = bytearray(
        parquet(10, url=[f"{E}/{i:03d}" for i in range(30)], caption=[f"words {i:03d}" for i in range(30)])
    )
    meta = pq.ParquetFile(pa.BufferReader(bytes(body))).metadata.row_group(1).column(1)
    start = meta.dictionary_page_offset or meta.data_page_offset
    body[start : start + 12] = b"\xff" * 12
    rows = read_list(bytes(body), f"{E}/list")
    assert [row["reason"] for row in rows] == [None] * 10 + ["list_line_unreadable"] * 10 + [None] * 10
    assert rows[10]["detail"] == "row 11: its pages are damaged"


def test_columns_that_no_field_takes_are_carried() -> None:
    when = datetime.datetime(2026, 1, 2)
    body = parquet(
        url=[A], caption=["x"], similarity=[float("nan")], tags=[["a", None]], at=[when], uid=["u1"], raw=[b"\0"]
    )
    (row,) = read_list(body, f"{E}/list")
    assert json.loads(row["extra"]) == {
        "similarity": None,
        "tags": ["a", None],
        "at": "2026-01-02 00:00:00",
        "uid": "u1",
    }
    (row,) = read_list(
        lines({"url": A, "id": "é", "ref": f"{E}/x?token=hunter2SECRETx", "license": {"name": "CC0"}}), BASE
    )
    assert row["extra"] == f'{{"id": "é", "ref": "{E}/x?token=REDACTED", "license": {{"name": "CC0"}}}}'
    (row,) = read_list(f"url,url,size_bytes\n{A},{B},1.5 MB,w\n".encode(), BASE)
    assert (row["url"], json.loads(row["extra"])) == (A, {"url_2": B, "size_bytes": "1.5 MB", "column_4": "w"})


def test_columns_are_named_by_the_user() -> None:
    body = f"url,picture,words\n{E}/page,{A},x\n".encode()
    (row,) = read_list(body, BASE, ListConfig(url="Picture", caption="words"))
    assert (row["url"], row["text"], row["extra"]) == (A, "x", f'{{"url": "{E}/page"}}')
    for named in (ListConfig(url="image"), ListConfig(caption="image")):
        for body_ in (body, parquet(url=[A], caption=["x"])):
            with pytest.raises(Leave, match="list_unreadable.*no column 'image'"):
                read_list(body_, BASE, named)
    rows = read_list(lines({"url": A}, {"u": B}), BASE, ListConfig(url="u"))
    assert [row["detail"] or row["url"] for row in rows] == ["line 1: no column 'u'", B]


def test_further_captions_are_rows_that_are_not_fetched() -> None:
    rows = read_list(lines({"url": A, "caption": ["x", "y"], "license": "CC0"}), BASE)
    assert [(row["text"], row["state"], row["reason"]) for row in rows] == [
        ("x", None, None),
        ("y", "dropped", "caption_list"),
    ]
    assert [row["key"] for row in rows] == [key_of(A, "x"), key_of(A, "y")]
    assert all(row["license"] == "CC0" for row in rows)


def test_a_list_of_this_machine_has_no_page_and_resolves_nothing() -> None:
    rows = read_list(f"url,caption\n{A},x\nb.png,y\nfile:///etc/passwd,z\n".encode(), "/home/me/l.csv", is_web=False)
    assert [row["reason"] for row in rows] == [None, "bad_url", "bad_url"]
    assert rows[0]["page_url"] is None and rows[0]["source"] == "/home/me/l.csv"


def test_json_lines():
    lines = [
        {"url": "../a.png#x", "caption": " a cat ", "license": "CC0", "width": 3, "size_bytes": 70},
        {"url": "http://b.example/b.png"},
    ]
    rows = read_list("\n\n".join(map(json.dumps, lines)).encode(), BASE)
    assert [row["url"] for row in rows] == ["http://example.com/a.png", "http://b.example/b.png"]
    assert rows[0] | {"key": 0} == dict.fromkeys(INPUT.names) | {
        "key": 0,
        "url": "http://example.com/a.png",
        "text": "a cat",
        "license": "CC0",
        "expected_bytes": 70,
        "extra": '{"width": 3}',
        "page_url": "http://example.com/lists/all.jsonl",
        "source": "http://example.com/lists/all.jsonl",
    }
    assert rows[0]["key"] == key_of("http://example.com/a.png", "a cat")
    assert rows[1]["key"] == key_of("http://b.example/b.png") and rows[1]["text"] is None


@pytest.mark.parametrize(
    "text",
    [
        'url,caption\na.png,"one, two"\nb.png,three\n',
        "URL\tCaption\r\na.png\tone, two\r\nb.png\tthree\r\n",
        '\ufeffcaption,url\n"one, two",a.png\nthree,b.png',
    ],
)
def test_tables(text):
    rows = read_list(text.encode(), "http://example.com/list")
    assert [(row["url"], row["text"]) for row in rows] == [
        ("http://example.com/a.png", "one, two"),
        ("http://example.com/b.png", "three"),
    ]


def test_episodes_may_name_their_transcripts():
    rows = read_list(
        b"url,language,transcript_url,transcript_type,transcript_kind\na.mp3,en,a.vtt,vtt,manual\n",
        "http://e.example/l",
    )
    assert rows[0]["transcript_url"] == "http://e.example/a.vtt" and rows[0]["transcript_kind"] == "manual"
    assert rows[0]["key"] == key_of("http://e.example/a.mp3")


def test_a_bad_line_costs_one_line():
    rows = read_list(
        b'{"url": "a.png", "caption": "x"}\n{oops\n[]\n{"url": 3}\n{"url": "ftp://x/y"}\n{"url": "b.png"}\n',
        "http://e.example/l",
    )
    assert [row["reason"] for row in rows] == [None, *["list_line_unreadable"] * 3, "bad_url", None]
    assert {row["state"] for row in rows} == {None, "failed"} and len({row["key"] for row in rows}) == 6
    assert [row["reason"] for row in read_list(b"url,caption\n,no url\na.png,x\n", "http://e.example/l")] == [
        "list_line_unreadable",
        None,
    ]


SECRET = "hunter2SECRETx"
BAD_LINES = [
    f'{{"url": "http://me:{SECRET}@h/a"',
    f'["{SECRET}"]',
    f'{{"uri": "http://h/?sig={SECRET}"}}',
    f'{{"url": "\x01{SECRET}"}}',
    f"{SECRET}",
    f'{{"url": 7, "password": "{SECRET}"}}',
    f'{{"url": "a", "n": {"9" * 5000}, "x": "{SECRET}"}}',
]


def test_a_bad_line_is_named_by_its_number_and_not_repeated():
    rows = read_list("\n".join(['{"url": "a.png"}', "", *BAD_LINES]).encode(), BASE)[1:]
    assert [row["detail"] for row in rows[:6]] == [
        "line 3: Expecting ',' delimiter at column 39",
        "line 4: not a JSON object",
        "line 5: no url",
        "line 6: Invalid control character at at column 10",
        "line 7: Expecting value at column 1",
        "line 8: no url",
    ]
    assert rows[6]["detail"].startswith("line 9: Exceeds the limit")
    assert len({row["key"] for row in rows}) == 7 and SECRET not in str(rows)


def test_a_table_repeats_no_line_either():
    rows = read_list(f"url,caption\n,{SECRET}\n\n,other {SECRET}\na.png,\0{SECRET}\n".encode(), BASE)
    assert [row["detail"] for row in rows[:2]] == ["line 2: no url", "line 4: no url"]
    assert len({row["key"] for row in rows}) == len(rows)
    assert not any(SECRET in str(row) for row in rows if row["state"])
    with pytest.raises(Leave, match="its first line has 2 columns") as leave:
        read_list(f"me:{SECRET}@h/a,{SECRET}\n".encode(), BASE)
    assert SECRET not in leave.value.detail


def test_what_is_to_be_fetched_stays_whole_and_what_is_shown_loses_its_secrets():
    line = {
        "url": "http://h/a.mp3?sig=s",
        "transcript_url": "/a.vtt?sig=s",
        "page_url": "http://me:pw@h/p?id=7&token=t#x",
        "license": "CC0, see http://h/l?auth=a",
    }
    (row,) = read_list(json.dumps(line).encode(), BASE)
    assert (row["url"], row["transcript_url"]) == ("http://h/a.mp3?sig=s", "http://example.com/a.vtt?sig=s")
    assert (row["page_url"], row["license"]) == ("http://h/p?id=7&token=REDACTED", "CC0, see http://h/l?auth=REDACTED")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xff\xfe\x00", "list_unreadable"),
        (b"caption\nx\n", "list_unreadable"),
        (b"<html>404</html>", "list_unreadable"),
        (b"", "list_unreadable"),
        (b"url,caption\n", "listing_empty"),
        (gzip.compress(b"url,caption\n", mtime=0), "listing_empty"),
        (gzip.compress(b"", mtime=0), "list_unreadable"),
        (b"[]", "listing_empty"),
        (parquet(url=pa.array([], pa.string())), "listing_empty"),
        (parquet(caption=["x"])[:-9], "list_unreadable"),
    ],
)
def test_what_is_no_list_leaves(body, reason):
    with pytest.raises(Leave) as leave:
        read_list(body, BASE)
    assert (leave.value.state, leave.value.reason) == ("failed", reason) and "secret" not in leave.value.detail


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "blank"),
        (b"<!doctype html><title>404</title>", "HTML page"),
        (b'<?xml version="1.0"?><rss version="2.0"></rss>', "RSS feed"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "PNG"),
        (b"%PDF-1.7\n" + bytes(99), "PDF"),
        (b"PK\3\4" + bytes(99), "ZIP archive"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\nseg1.ts\n", "HLS playlist"),
        (b"ARROW1\0\0" + bytes(99), "Arrow file"),
        (b"hello there\nit is me\n", "text"),
        (bytes(range(256)) * 9, "binary data"),
        (parquet(url=["x"])[:-9], "is a Parquet file that is cut or damaged"),
    ],
)
def test_what_is_no_list_is_named(body: bytes, named: str) -> None:
    with pytest.raises(Leave) as leave:
        read_list(body, f"{E}/list")
    assert named in leave.value.detail and "0x" not in leave.value.detail


def test_a_declared_charset_is_used_where_bytes_are_not_utf_8() -> None:
    for charset, words in (("shift_jis", "日本の猫"), ("koi8-r", "кот"), ("iso-2022-jp", "日本"), ("gbk", "联通")):
        codec = {"gbk": "gbk", "koi8-r": "koi8-r", "iso-2022-jp": "iso2022-jp"}.get(charset, "cp932")
        body = f"url,caption\n{A},{words}\n{B},{words} 2\n".encode(codec)
        assert [row["text"] for row in read_list(body, BASE, charset=charset)] == [words, f"{words} 2"]
    body = f"url,caption\n{A},日本の猫\n".encode()
    assert [row["text"] for row in read_list(body, BASE, charset="punycode")] == ["日本の猫"]


def test_lines_are_told_by_number() -> None:
    body = f'url,caption\n\n{A},"x\ny"\n{B},a\0b\n{C},{"z" * LINE_CHARS}\n'.encode()
    assert [row["detail"] for row in read_list(body, BASE)][1:] == [
        f"line 5: a zero byte at column {len(B) + 3}",
        f"line 6: {LINE_CHARS + len(C) + 1} characters, more than {LINE_CHARS}",
    ]


def test_a_quote_left_open_spoils_no_other_field_of_its_line():
    body = b'url,caption\n"http://h.example/1.png","a picture of one\n"http://h.example/2.png","a picture of two"\n'
    rows = read_list(body, "http://h.example/list.csv")
    assert [row["url"] for row in rows] == ["http://h.example/1.png", "http://h.example/2.png"]
    assert [row["text"] for row in rows] == ['"a picture of one', "a picture of two"]


def test_a_line_of_nothing_but_delimiters_costs_little() -> None:
    begin = time.process_time()
    read_list(f"url,caption\n{A},x\n{E}/w{',1' * 400_000}\n{B}{',' * 800_000}\n".encode(), BASE)
    assert time.process_time() - begin < 5
