"""Imports point one way: a module may use its own layer and those before it, never one after it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [
    (
        "cluster",
        "pipeline.config",
        "pipeline.ranges",
        "pipeline.records",
        "pipeline.storage",
        "pipeline.manifest",
        "pipeline.log",
        "pipeline.lease",
        "pipeline.signals",
        "pipeline.redact",
        "pipeline.foreign",
        "pipeline.weights",
        "pipeline.exported",
    ),
    ("pipeline.models", "pipeline.media"),
    ("pipeline.curate", "pipeline.tokenize", "pipeline.train"),
    ("pipeline.generate",),
    ("pipeline.chaos", "pipeline.bench", "pipeline.page"),
    ("pipeline.demo",),
    ("jobs",),
]
APART = [
    ("pipeline.models", "pipeline.media"),
    ("pipeline.curate", "pipeline.train"),
    ("pipeline.curate", "pipeline.tokenize"),
    ("pipeline.tokenize", "pipeline.train"),
]
BANNED = {
    "pipeline.models": {"ray", "deepspeed", "fsspec", "diffusers"},
    "pipeline.media": {"torch", "ray", "deepspeed", "fsspec"},
    "pipeline.config": {"ray", "torch"},
    "pipeline.storage": {"ray", "torch"},
    "pipeline.curate": {"torch", "onnxruntime"},  # but for stages that run a model, and say which: see `runs_a_model`
}
MODULES = sorted(p for top in ("pipeline", "jobs", "cluster") for p in (ROOT / top).rglob("*.py"))


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def layer(name: str) -> int | None:
    return next((i for i, group in enumerate(LAYERS) if any(inside(name, g) for g in group)), None)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "imports are absolute"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def runs_a_model(source: str) -> bool:
    """True for a module with a stage that says which weights its rows depend on."""
    return any(
        isinstance(node, ast.FunctionDef) and node.name == "depends_on"
        for kind in ast.walk(ast.parse(source))
        if isinstance(kind, ast.ClassDef) and kind.bases
        for node in kind.body
    )


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, imports for types alone included; empty if there is none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            for other in sorted(edges.get(name, ())):
                if found := visit(other, [*path, name]):
                    return found
            done.add(name)
        return []

    return next(filter(None, (visit(name, []) for name in sorted(edges))), [])


def faults(name: str, source: str) -> list[str]:
    found = []
    for imported in imports(source):
        mine, theirs = layer(name), layer(imported)
        if theirs is not None and mine is not None and theirs > mine:
            found.append(f"{name} must not import {imported}: it is a layer further on")
        for a, b in [*APART, *((b, a) for a, b in APART)]:
            if inside(name, a) and inside(imported, b):
                found.append(f"{name} must not import {imported}: they meet in pipeline.records")
        for package, banned in BANNED.items():
            if inside(name, package) and imported.split(".")[0] in banned:
                if package != "pipeline.curate" or not runs_a_model(source):
                    found.append(f"{package} must not import {imported}")
        if imported.split(".")[0] == "deepspeed" and name != "pipeline.train.engine":
            found.append(f"only pipeline.train.engine imports deepspeed, not {name}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_one_way(path: Path) -> None:
    assert layer(module_name(path)) is not None or module_name(path) == "pipeline", "every module belongs to a layer"
    assert faults(module_name(path), path.read_text()) == []


def test_no_files_import_each_other_in_a_circle() -> None:
    names = {module_name(path) for path in MODULES}
    edges = {module_name(path): imports(path.read_text()) & names - {module_name(path)} for path in MODULES}
    edges = {
        name: {other for other in found if not inside(name, other)} for name, found in edges.items()
    }  # not packages
    assert circle(edges) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


MODEL = """
import torch
class Score(Batch):
    def depends_on(self): return {"weights_sha256": self.sha256}
"""


def test_a_stage_that_runs_a_model_may_import_torch() -> None:
    assert faults("pipeline.curate.image.clip", MODEL) == []
    assert faults("pipeline.curate.image.clip", MODEL.replace("depends_on", "map")) != []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("pipeline.curate.image.clip", "import onnxruntime"),
        ("pipeline.models.gpt", "import ray"),
        ("pipeline.models.gpt", "from pipeline.curate import stage"),
        ("pipeline.models.gpt", "from pipeline.media import image"),
        ("pipeline.media.mel", "import torch"),
        ("pipeline.media.audio", "from pipeline.curate.stage import Leave"),
        (
            "pipeline.tokenize.encode",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pipeline.train.loop",
        ),
        ("pipeline.curate.waves", "from pipeline.train.data.order import Order"),
        ("pipeline.train.loop", "import deepspeed.ops"),
        ("pipeline.storage", "import jobs.demo"),
    ],
)
def test_the_check_finds_what_it_forbids(name: str, line: str) -> None:
    assert faults(name, line)
