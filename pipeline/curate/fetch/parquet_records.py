"""Lists as Parquet: LAION, DataComp, what img2dataset and Hugging Face `datasets` write.

A group of rows whose pages are damaged costs its own rows, each of which becomes a record that says so. Columns of
bytes (pictures in the table itself) are not read, but for those that a list's fields are found in.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.curate.fetch.charset import decode
from pipeline.curate.fetch.columns import ListConfig
from pipeline.curate.fetch.record import Record, unfit

_BATCH_ROWS = 4096


def records(body: bytes, config: ListConfig) -> Iterator[Record]:
    """Every row, in order; ValueError if the file as a whole cannot be read, KeyError as of `ListConfig.fields`."""
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        columns = config.fields(file.schema_arrow.names).values()
        names = [field.name for field in file.schema_arrow if field.name in columns or not _holds_bytes(field.type)]
    except (pa.ArrowException, OSError) as error:
        raise ValueError("a Parquet file that is cut or damaged") from error
    return _groups(file, names)


def _groups(file: pq.ParquetFile, names: list[str]) -> Iterator[Record]:
    done = 0
    for group in range(file.num_row_groups):
        end = done + file.metadata.row_group(group).num_rows
        try:
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=names):
                yield from _rows(batch, done)
                done += batch.num_rows
        except (pa.ArrowException, OSError):
            for number in range(done + 1, end + 1):
                yield Record(place=f"row {number}", text=f"row {number}", problem="its pages are damaged")
        done = end


def _rows(batch: pa.RecordBatch, before: int) -> Iterator[Record]:
    try:
        entries = batch.to_pylist()
    except UnicodeDecodeError:  # text that is no UTF-8: somewhere in this batch
        if batch.num_rows > 1:
            middle = batch.num_rows // 2
            yield from _rows(batch.slice(0, middle), before)
            yield from _rows(batch.slice(middle), before + middle)
            return
        place = f"row {before + 1}"
        yield Record(place=place, text=place, problem="text that is not UTF-8")
        return
    for number, entry in enumerate(entries, before + 1):
        for name, value in entry.items():
            if isinstance(value, bytes):  # text, by a writer who does not say so
                entry[name] = decode(value)
        text = "\t".join(value for value in entry.values() if isinstance(value, str))
        yield Record(place=f"row {number}", text=text or f"row {number}", entry=entry, problem=unfit(text))


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return True
    return any(_holds_bytes(kind.field(i).type) for i in range(kind.num_fields))
