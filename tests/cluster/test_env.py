import os
import re
from pathlib import Path

import pytest

from cluster import env

ROOT = Path(__file__).parents[2]
WRITES = re.compile(r"""environ(?:\.setdefault\(|\[)\s*["'](\w+)["']\]?\s*(?:,|=[^=])""")
"""A variable that a source sets by its name."""


def test_the_table_is_the_only_place_that_sets_a_variable() -> None:
    sources = [path for top in ("pipeline", "jobs", "cluster") for path in (ROOT / top).rglob("*.py")]
    assert {match for path in sources for match in WRITES.findall(path.read_text())} == set()
    assert WRITES.findall('os.environ["A"] = "1"') == WRITES.findall('os.environ.setdefault("A", "1")') == ["A"]


def test_no_source_but_the_table_gives_one_of_its_variables_a_value() -> None:
    names = "|".join(variable.name for variable in env.TABLE if variable.value is not None)
    value = re.compile(rf"""["'](?:{names})["']\s*[:,]\s*f?["']""")
    sources = [path for top in ("pipeline", "jobs") for path in (ROOT / top).rglob("*.py")]
    assert [path for path in sources if value.search(path.read_text())] == []


def test_each_variable_is_there_once_with_a_reason() -> None:
    names = [variable.name for variable in env.TABLE]
    assert len(set(names)) == len(names) and all(variable.why.endswith(".") for variable in env.TABLE)


def test_what_is_set_stays_but_for_what_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"LOCAL_RANK": "3", "DS_ACCELERATOR": "cuda"})
    env.apply("worker", "cpu_worker", LOCAL_SIZE="2")
    assert os.environ == {"LOCAL_RANK": "3", "DS_ACCELERATOR": "cpu", "LOCAL_SIZE": "2"}
    env.apply("elastic")
    assert os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] == "15"


def test_the_guide_of_the_cluster_names_what_a_node_needs() -> None:
    guide = (ROOT / "cluster/README.md").read_text()
    assert [name for name in env.values("node") if name not in guide] == []
