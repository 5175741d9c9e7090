import pickle

import pyarrow as pa
import pytest
import torch

from pipeline.records import CODES, IMAGE
from pipeline.storage import Store
from pipeline.tokenize import package
from pipeline.tokenize.encode import Encode
from tests.tokenize import toy

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("tokenizer"))
    package.export(toy.dvae(), Store(path), toy.images(20))
    return path


def test_rows_become_codes_in_their_order(url: str) -> None:
    x = toy.images(40, seed=3)
    out = Encode(url)(toy.image_table(x))
    tokenizer = package.load(Store(url))
    assert out.schema == CODES
    rows = out.to_pylist()
    assert [row["key"] for row in rows] == [f"k{i}" for i in range(40)]
    assert rows[7]["text"] == "picture 7" and rows[7]["modality"] == "image" and rows[7]["shape"] == [4, 4]
    assert {row["tokenizer_sha256"] for row in rows} == {tokenizer.sha256}
    assert torch.equal(torch.tensor([row["codes"] for row in rows]).view(-1, 4, 4), tokenizer.encode(x))


@pytest.mark.parametrize("size", [1, 5, 64])
def test_batch_size_never_changes_a_row(url: str, size: int) -> None:
    encode, table = Encode(url), toy.image_table(toy.images(64, seed=4))
    parts = pa.concat_tables([encode(table.slice(start, size)) for start in range(0, 64, size)])
    assert parts.equals(encode(table))


def test_no_rows_are_no_rows(url: str) -> None:
    assert Encode(url)(IMAGE.empty_table()).equals(CODES.empty_table())


def test_a_broken_picture_is_named(url: str) -> None:
    table = toy.image_table(toy.images(2))
    broken = table.set_column(
        table.schema.get_field_index("image"),
        IMAGE.field("image"),
        pa.array([table["image"][0].as_py(), b"not a png"], pa.large_binary()),
    )
    with pytest.raises(ValueError, match="image k1: 9 bytes are not a picture"):
        Encode(url)(broken)


def test_the_class_travels_to_workers() -> None:
    assert pickle.loads(pickle.dumps(Encode)) is Encode
