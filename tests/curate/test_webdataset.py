"""Tar shards: readable by tarfile, and the same bytes on any day."""

import io
import json
import tarfile

import pyarrow as pa

from pipeline.curate.webdataset import tar_bytes


def test_each_row_is_a_sample_that_begins_where_the_index_says() -> None:
    table = pa.table(
        {
            "key": ["k1", "k2"],
            "image": pa.array([b"\x89PNG1", b"\x89PNG22"], pa.large_binary()),
            "caption": ["a seven", "é"],
            "width": [8, 9],
        }
    )
    data, starts = tar_bytes(table)
    assert tar_bytes(table) == (data, starts)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
        assert [m.name for m in members] == ["k1.json", "k1.png", "k1.txt", "k2.json", "k2.png", "k2.txt"]
        assert all(m.mtime == 0 and m.uid == 0 for m in members)
        assert tar.extractfile("k2.png").read() == b"\x89PNG22" and tar.extractfile("k2.txt").read() == "é".encode()
        assert json.loads(tar.extractfile("k1.json").read()) == {"key": "k1", "caption": "a seven", "width": 8}
        assert starts == [members[0].offset, members[3].offset]
