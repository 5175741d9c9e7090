"""What the documents name is there: functions, files of the tree, layers."""

import ast
import re
from pathlib import Path

import pytest

from tests.test_imports import LAYERS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
MENTIONS = sorted(
    set(re.findall(r"`((?:pipeline|jobs)/[\w/]+\.py):([\w.]+)`", (ROOT / "docs/architecture.md").read_text("utf-8")))
)


def names(tree: ast.AST, prefix: str = "") -> set[str]:
    """Functions and classes of a module, and the methods of these as Class.method, inherited ones too."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found |= {prefix + node.name} | names(node, f"{prefix}{node.name}.")
    return found


@pytest.mark.parametrize(("path", "name"), MENTIONS)
def test_every_function_that_the_walks_name_is_there(path: str, name: str) -> None:
    assert name in names(ast.parse((ROOT / path).read_text("utf-8")))


def test_the_walks_name_functions() -> None:
    assert len(MENTIONS) > 30


def tree() -> list[tuple[str, str]]:
    """The README's tree as (folder, name): the names before the gap of each line, each in the folder of its branch."""
    block = README.partition("## The tree")[2].partition("```\n")[2].partition("```")[0]
    entries, folders = [], [""]
    for line in block.splitlines():
        drawn, depth = re.match(r"[│├└─ ]*", line)[0], 0
        depth = len(drawn) // 4
        for word in re.split(r"\s{2,}", line[len(drawn) :]):
            if not re.fullmatch(r"[\w/]+(\.py|/)|_\*\.py", word):
                break
            del folders[depth + 1 :]
            entries.append((folders[depth], word))
        if entries[-1][1].endswith("/"):
            folders.append(folders[depth] + entries[-1][1])
    return entries


def test_the_tree_of_the_readme_is_that_of_the_project() -> None:
    entries = tree()
    missing = [folder + name for folder, name in entries if not (ROOT / folder / name).exists() and "*" not in name]
    assert missing == []
    packages = {f"{path.parent.relative_to(ROOT)}/" for path in (ROOT / "pipeline").rglob("__init__.py")}
    assert packages - {folder + name for folder, name in entries} == set()
    named = {folder + name for folder, name in entries if name.endswith(".py")}
    told = {str(Path(path).parent) for path in named}  # folders whose files are named one by one
    files = {str(path.relative_to(ROOT)) for folder in told for path in (ROOT / folder).glob("[a-z]*.py")}
    assert files - named == set()


def test_every_layer_is_in_the_picture() -> None:
    picture = (ROOT / "docs/layers.svg").read_text("utf-8")
    for name in (name for layer in LAYERS for name in layer):
        assert name.removeprefix("pipeline.") in picture, name
