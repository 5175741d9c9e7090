"""A stage over rows, in this process.

Guarantees: an exception in a stage costs one row, which becomes *failed* with the exception's class as its reason;
every table has the one schema that was declared, so types never depend on what a block happens to hold.
"""

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.curate.stage import Batch, Row, Stage, failure, left


def apply(stage: Stage, rows: list[Row]) -> list[Row]:
    """Run a stage over rows, without Ray: those that left pass by, and an error costs the one row that caused it."""
    after = [row for row in rows if row.get("state") is not None]
    for _, parts in groups(stage, [row for row in rows if row.get("state") is None]):
        after += parts
    return after


def groups(stage: Stage, rows: list[Row]) -> list[tuple[Row, list[Row]]]:
    """Each row that had not left, and what became of it."""
    if isinstance(stage, Batch):
        return _bisect(stage, rows)
    return [pair for row in rows for pair in _bisect(stage, [row])]


def _bisect(stage: Stage, rows: list[Row]) -> list[tuple[Row, list[Row]]]:
    if not rows:
        return []
    try:
        worked = list(stage.rows(rows))
        if isinstance(stage, Batch):
            return [(row, [answer]) for row, answer in zip(rows, worked, strict=True)]
        return [(rows[0], worked)]
    except Exception as error:  # noqa: BLE001 - whatever it is, it becomes a row
        if len(rows) == 1:
            return [(rows[0], [left(rows[0], failure(error))])]
    middle = len(rows) // 2
    return _bisect(stage, rows[:middle]) + _bisect(stage, rows[middle:])


def start(inputs: pa.Table, schema: pa.Schema, *, unit: str, **renamed: str) -> pa.Table:
    """Inputs as rows of a step: columns of `schema` by name, or by `column="its name among the inputs"`; the rest is
    null."""
    columns = {"input_key": inputs["key"], "unit": pa.array([unit] * inputs.num_rows, pa.string())}
    for field in schema:
        source = renamed.get(field.name, field.name)
        if field.name not in columns and source in inputs.column_names:
            columns[field.name] = inputs[source]
    return pa.table(
        [columns[f.name].cast(f.type) if f.name in columns else pa.nulls(inputs.num_rows, f.type) for f in schema],
        schema=schema,
    )


def to_table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """Rows as a table of exactly `schema`; a column that the schema lacks is an error of ours."""
    unknown = {name for row in rows for name in row} - set(schema.names)
    assert not unknown, f"columns {sorted(unknown)} are not in the schema of this step"
    return pa.Table.from_pylist(rows, schema=schema)


def table_of(done: list[tuple[Row, list[Row]]], schema: pa.Schema) -> pa.Table:
    """What became of rows as a table; a value that its column cannot hold costs the one row it was made from."""
    try:
        return to_table([row for _, parts in done for row in parts], schema)
    except (pa.ArrowException, UnicodeError, ValueError, TypeError, OverflowError) as error:
        if len(done) == 1:
            return to_table([left(done[0][0], failure(error))], schema)
    middle = len(done) // 2
    return pa.concat_tables([table_of(done[:middle], schema), table_of(done[middle:], schema)])


def process(stage: Stage, table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Run a stage over a table in this process."""
    gone, waiting = parted(table, schema)
    return pa.concat_tables([gone, table_of(groups(stage, waiting.to_pylist()), schema)]) if waiting.num_rows else gone


def parted(table: pa.Table, schema: pa.Schema) -> tuple[pa.Table, pa.Table]:
    """The rows that have left, as `schema`, and those that wait for a stage."""
    waits = pc.is_null(table["state"])
    return table.filter(pc.invert(waits)).cast(schema), table.filter(waits)
