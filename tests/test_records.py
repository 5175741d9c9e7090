"""The schemas: what jobs agree on."""

import pyarrow as pa

from pipeline import records


def test_no_column_has_a_type_that_depends_on_its_values() -> None:
    for schema in (records.INPUT, records.IMAGE, records.CLIP, records.VERDICT, records.CODES):
        assert len(set(schema.names)) == len(schema.names)
        assert not any(pa.types.is_null(field.type) for field in schema)
        empty = pa.Table.from_pylist([{"key": "a"}], schema=schema)
        assert empty.schema == schema


def test_media_are_bytes_and_every_row_of_curation_says_where_it_ended() -> None:
    assert records.IMAGE.field("image").type == records.CLIP.field("audio").type == pa.large_binary()
    for schema in (records.IMAGE, records.CLIP, records.VERDICT):
        assert {"key", "input_key", "unit", "order", "state", "reason", "retryable"} <= set(schema.names)


def test_keys_are_stable_and_parts_do_not_run_together() -> None:
    # Another value would orphan every run there is.
    assert records.key_of("https://example.org/a", "b") == "2e469013e0cbf18b4ef45e11eca2a853"
    assert records.key_of("ab", "c") != records.key_of("a", "bc") != records.key_of("abc")
    assert len(records.key_of("x")) == 32 and int(records.key_of("x"), 16) >= 0


def test_secrets_of_further_transcripts_are_cut():
    text = "vtt https://h.example/a.vtt?sig=abcdef&x=1\n- https://h.example/b.srt?token=zz"
    table = pa.Table.from_pylist([{"more_transcripts": text}], schema=records.INPUT)
    assert records.without_secrets(table)["more_transcripts"].to_pylist() == [
        "vtt https://h.example/a.vtt?sig=REDACTED&x=1\n- https://h.example/b.srt?token=REDACTED"
    ]
