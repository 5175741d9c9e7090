"""Lists of any dialect with some of their lines damaged at random."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

WORDS = [
    "a cat",
    "naïve café",
    "日本の猫",
    "zwei Füße\u2028und mehr",
    "tea\u0085time",
    "😀 smile",
    "1, 2; 3 | 4",
    'say "hi" now',
]

Pair = tuple[str, str]


def url_of(number: int) -> str:
    return f"http://pictures.example/{number:04d}/a,b;c.png?x={number}"


def table_line(delimiter: str, *, url_first: bool = True) -> Callable[[Pair], str]:
    def line(pair: Pair) -> str:
        sink = io.StringIO()
        csv.writer(sink, delimiter=delimiter, lineterminator="\n").writerow(pair if url_first else pair[::-1])
        return sink.getvalue().removesuffix("\n")

    return line


def raw_tsv(pair: Pair) -> str:
    return f"{pair[1]}\t{pair[0]}"


def json_line(pair: Pair) -> str:
    return json.dumps({"url": pair[0], "caption": pair[1]}, ensure_ascii=False)


# Dialect -> (what the first line is before the records, how a record is written).
DIALECTS: dict[str, tuple[str, Callable[[Pair], str]]] = {
    "tsv": ("url\tcaption", table_line("\t")),
    "tsv of Conceptual Captions": ("", raw_tsv),
    "csv": ("url,caption", table_line(",")),
    "csv, url last": ("caption,url", table_line(",", url_first=False)),
    "csv with ;": ("url;caption", table_line(";")),
    "csv with |": ("url|caption", table_line("|")),
    "json lines": ("", json_line),
    "json array": ("[", json_line),
    "txt": ("", lambda pair: pair[0]),
}


def deep(line: str) -> str:
    return '{"url": "http://x.example/deep", "caption": ' + "[" * 100_000 + "]" * 100_000 + "}"


# What happens to a line that must cost no other: a damaged line may be a row or a failed one.
DAMAGES: dict[str, Callable[[str], str]] = {
    "quote before": lambda line: '"' + line,
    "quote within": lambda line: line[: len(line) // 2] + '"' + line[len(line) // 2 :],
    "quote before its words": lambda line: line.replace("\t", '\t"').replace(",", ',"', 1).replace(";", ';"', 1),
    "quote behind": lambda line: line + '"',
    "huge field": lambda line: line + "x" * 140_000,
    "zero bytes": lambda line: line[:5] + "\0\0" + line[5:],
    "half a surrogate": lambda line: line.replace("a", "\\ud83d", 1) if line.startswith("{") else line + "\udcff",
    "nested": deep,
    "truncated": lambda line: line[: 2 * len(line) // 3],
    "NaN": lambda line: (
        line.replace('"caption": "', '"caption": NaN, "x": "') if line.startswith("{") else line + "NaN"
    ),
    "a key twice": lambda line: line.replace("{", '{"url": "http://other.example/", ', 1),
    "other": lambda line: "<p>Service unavailable</p>",
    "form feed": lambda line: line + "\f\x1c\u2029",
    "escape": lambda line: line[:9] + "\x1b]0;x\x07" + line[9:],
    "a piece lost": lambda line: line[: len(line) // 4] + line[len(line) // 2 :],
}


def written(dialect: str, pairs: list[Pair], damages: dict[int, str], ends: list[str]) -> str:
    header, write = DIALECTS[dialect]
    lines = [write(pair) for pair in pairs]
    for number, damage in damages.items():
        lines[number] = DAMAGES[damage](lines[number])
    if dialect == "json array":
        lines = [f"{line}," for line in lines[:-1]] + [lines[-1], "]"]
    lines = [header, *lines] if header else lines
    return "".join(line + ends[i % len(ends)] for i, line in enumerate(lines))


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"]


@dataclass(frozen=True, kw_only=True)
class Case:
    dialect: str
    pairs: list[Pair]
    damages: dict[int, str]
    body: bytes

    def caption(self, pair: Pair) -> str | None:
        return None if self.dialect == "txt" else pair[1]


@st.composite
def lists(draw: st.DrawFn) -> Case:
    dialect = draw(st.sampled_from(sorted(DIALECTS)))
    count = draw(st.integers(4, 14))
    pairs = [(url_of(number), draw(st.sampled_from(WORDS))) for number in range(count)]
    spots = st.dictionaries(st.integers(0, count - 1), st.sampled_from(sorted(DAMAGES)), max_size=count // 2)
    damages = draw(spots)
    ends = draw(st.sampled_from([["\n"], ["\r\n"], ["\r"], ["\n", "\r\n", "\r"], ["\n", "\r"]]))
    text = written(dialect, pairs, damages, ends)
    body = text.encode(draw(st.sampled_from(ENCODINGS)), "surrogatepass")
    return Case(dialect=dialect, pairs=pairs, damages=damages, body=body)
