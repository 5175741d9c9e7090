"""WebDataset tars whose bytes depend on the rows alone: no times, no owners, members in a fixed order.

A sample is `KEY.json` with all that is not media, and one member per medium or text: `KEY.flac`, `KEY.png`, `KEY.txt`.
Readers infer one type a field from the first samples, so the JSON of all samples has the same fields and no nulls: text
that is missing is "", a number that is missing is left out.
"""

import io
import json
import tarfile

import pyarrow as pa

from pipeline.curate.stage import Row

EXTENSIONS = {"audio": "flac", "image": "png", "text": "txt", "caption": "txt"}


def tar_bytes(table: pa.Table) -> tuple[bytes, list[int]]:
    """A table as a tar, and where in it each row's first member begins. Column `key` names the samples."""
    buffer = io.BytesIO()
    starts = []
    is_text = {
        field.name: pa.types.is_string(field.type) or pa.types.is_large_string(field.type) for field in table.schema
    }
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row in table.to_pylist():
            starts.append(buffer.tell())
            members = {
                EXTENSIONS[name]: value for name, value in row.items() if name in EXTENSIONS and value is not None
            }
            members["json"] = _json(row, is_text)
            for extension, value in sorted(members.items()):
                data = value.encode() if isinstance(value, str) else value
                info = tarfile.TarInfo(
                    f"{row['key']}.{extension}"
                )  # mtime, uid and gid are 0, mode 0644: TarInfo's defaults
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue(), starts


def _json(row: Row, is_text: dict[str, bool]) -> str:
    values = {
        name: "" if value is None and is_text[name] else value
        for name, value in row.items()
        if name not in ("audio", "image")
    }
    values = {name: value for name, value in values.items() if value is not None}
    return json.dumps(values, ensure_ascii=False, sort_keys=True, default=_unusual)


def _unusual(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
