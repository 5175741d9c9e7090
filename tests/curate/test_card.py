"""The dataset card depends on the export alone, and counts what is in it."""
import pyarrow as pa

from pipeline.curate import card
from pipeline.storage import Store


def test_the_card_sums_licenses_and_hosts_over_shards(tmp_path) -> None:
    facts = {"rows": 30, "keys_sha256": "ab" * 32, "shards": [
        {"licenses": {"CC0": 10}, "hosts": {"a.example": 7, "b|c.example": 3}},
        {"licenses": {"CC0": 15, "not declared": 5}, "hosts": {"a.example": 20}}]}
    wanted = {"verdicts": "v1", "unit": "image", "columns": ["key", "image"]}
    schema = pa.schema([("key", pa.string()), ("image", pa.large_binary())])
    text = card.render(Store(str(tmp_path)), wanted, schema, facts)
    assert "# 30 image rows" in text and "| CC0 | 25 |" in text and "| a.example | 27 |" in text
    assert "| b c.example | 3 |" in text, "a host cannot break the table"
    assert "| image | large_binary |" in text
    assert card.render(Store(str(tmp_path)), wanted, schema, facts) == text
