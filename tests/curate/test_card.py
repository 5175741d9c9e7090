"""The dataset card depends on the export alone, counts what is in it, and shows text of the web as text."""

import unicodedata

import pyarrow as pa
import pytest
import yaml

from pipeline.curate import card
from pipeline.curate.journal import Journal
from pipeline.records import CLIP, IMAGE, MEANING
from pipeline.storage import Store

SCHEMA = pa.schema(
    [("key", pa.string()), ("image", pa.large_binary()), ("width", pa.int32()), ("start_s", pa.float64())]
)
EXPORT = card.Described(
    unit="image",
    verdicts="v1",
    columns=tuple(SCHEMA.names),
    has_tars=True,
    keys_sha256="ab" * 32,
    shards=("export/data/shard-00000-abc.parquet", "export/data/shard-00001-def.parquet"),
)


def rendered(tmp_path, licenses: list[str | None], urls: list[str]) -> str:
    return card.render(
        Journal(Store(str(tmp_path))),
        EXPORT,
        SCHEMA,
        pa.table({"license": pa.array(licenses, pa.string()), "url": urls}),
    )


def test_the_card_counts_licenses_and_hosts(tmp_path) -> None:
    text = rendered(
        tmp_path, ["CC0"] * 25 + [None] * 5, ["https://a.example/x"] * 27 + ["https://b|c.example/"] * 2 + ["http://[x"]
    )
    assert "# 30 image rows" in text and "| CC0 | 25 |" in text and "| not declared | 5 |" in text
    assert "| a.example | 27 |" in text and "| b&#124;c&#46;example | 2 |" in text, "a host cannot break the table"
    assert "| unknown | 1 |" in text
    assert (
        rendered(
            tmp_path,
            ["CC0"] * 25 + [None] * 5,
            ["https://a.example/x"] * 27 + ["https://b|c.example/"] * 2 + ["http://[x"],
        )
        == text
    )


def test_the_front_matter_names_the_shards_and_the_types(tmp_path) -> None:
    head = yaml.safe_load(rendered(tmp_path, ["CC0"], ["https://a.example"]).split("---")[1])
    assert head["configs"][0]["data_files"] == [
        {"split": "train", "path": ["data/shard-00000-abc.parquet", "data/shard-00001-def.parquet"]}
    ]
    assert head["dataset_info"]["features"] == [
        {"name": "key", "dtype": "string"},
        {"name": "image", "dtype": "image"},
        {"name": "width", "dtype": "int32"},
        {"name": "start_s", "dtype": "float64"},
    ]


def test_every_column_that_is_exported_has_a_meaning() -> None:
    from jobs import curate_images, curate_speech

    jobs = (
        curate_images.curation(curate_images.CurateImages(run_dir="x", sources=("list=https://e.org/l.csv",))),
        curate_speech.curation(curate_speech.CurateSpeech(run_dir="x", sources=("feed=https://e.org/f.xml",))),
    )
    assert {name for job in jobs for name in job.export_columns} <= MEANING.keys() <= {*IMAGE.names, *CLIP.names}


@pytest.mark.parametrize(
    "license",
    [
        "# heading",
        "<img src=x onerror=alert(1)>",
        "[link](https://evil.example)",
        "https://evil.example/x",
        "www.evil.example",
        "`code`",
        "*bold* _it_ ~~no~~",
        "a|b|c",
        "x\n\n# y",
        "\x1b]0;pwned\x07",
        "\u202egnp.exe",
        "&lt;b&gt;",
        "![i](x)",
        "---",
        "x" * 100_000,
        "\ud83d",
        "<!-- c -->",
        "$x$",
        ":smile:",
        "@user",
        "#1",
        "\u2028x",
        "A" * 79 + "<b>",
    ],
)
def test_a_license_is_text(tmp_path, license: str) -> None:
    row = next(
        line
        for line in rendered(
            tmp_path, [license.encode("utf-8", "surrogatepass").decode("utf-8", "replace")], ["https://a.example/"]
        ).split("\n")
        if line.endswith("| 1 |")
    )
    cell = row.removeprefix("| ").removesuffix(" | 1 |")
    assert len(cell) < 700 and not set(cell) & set("<>[]()*_`~|!\\$@:\"'/") and "www." not in cell
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in cell)
    assert "#" not in cell.replace("&#", "")
