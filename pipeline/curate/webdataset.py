"""WebDataset tars whose bytes depend on the rows alone: no times, no owners, members in a fixed order.

A sample is `KEY.json` with all that is not media, and one member per medium or text: `KEY.flac`, `KEY.png`, `KEY.txt`.
"""
import io
import json
import tarfile

import pyarrow as pa

EXTENSIONS = {"audio": "flac", "image": "png", "text": "txt", "caption": "txt"}


def tar_bytes(table: pa.Table) -> tuple[bytes, list[int]]:
    """A table as a tar, and where in it each row's first member begins. Column `key` names the samples."""
    buffer = io.BytesIO()
    starts = []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row in table.to_pylist():
            starts.append(buffer.tell())
            key = row["key"]
            members = {EXTENSIONS[name]: value for name, value in row.items() if name in EXTENSIONS and value is not None}
            facts = {name: value for name, value in row.items() if name not in ("audio", "image")}
            members["json"] = json.dumps(facts, ensure_ascii=False, sort_keys=True, default=_unusual)
            for extension, value in sorted(members.items()):
                data = value.encode() if isinstance(value, str) else value
                info = tarfile.TarInfo(f"{key}.{extension}")  # mtime, uid and gid are 0, mode 0644: TarInfo's defaults
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue(), starts


def _unusual(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
