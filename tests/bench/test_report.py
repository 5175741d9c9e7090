import json

import pytest

from pipeline.bench.report import Bench, document, medians, publish


def test_lines_of_one_kind_share_a_table():
    text = document({"command": "c", "cpus": 2}, [{"a": 1}, {"b": 2, "c": 3}, {"b": 4, "c": 5}])
    assert text == "# `c`\n\ncpus 2\n\n| a |\n| --- |\n| 1 |\n\n| b | c |\n| --- | --- |\n| 2 | 3 |\n| 4 | 5 |\n"


def test_each_line_is_kept_before_the_next_is_measured(tmp_path, capsys):
    out = tmp_path / "deeper" / "out.json"

    def lines():
        yield {"a": 1}
        assert json.loads(out.read_text())["lines"] == [{"a": 1}]
        raise RuntimeError("a measurement that fails")

    with pytest.raises(RuntimeError, match="fails"):
        publish("c", lines(), str(out))
    head, line = map(json.loads, capsys.readouterr().out.splitlines())
    assert head["command"] == "c" and {"date", "cpus", "gpu", "torch", "ray"} <= head.keys() and line == {"a": 1}


def test_medians_are_of_each_number():
    assert medians([{"a": 1.0, "b": 2}, {"a": 3.0, "b": 8}, {"a": 2.00006, "b": 4}]) == {"a": 2.0001, "b": 4}


def test_a_result_goes_into_a_table_or_json(tmp_path):
    with pytest.raises(ValueError, match="--out x.txt must end in .json or .md"):
        Bench(out="x.txt")
    assert Bench(out=str(tmp_path / "x.md")).ray_cpus == 0
