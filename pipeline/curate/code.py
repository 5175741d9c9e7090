"""The code and the libraries that a curation's rows depend on: the modules of its stages, and what these import of
ours.

Guarantees: a change of any statement in those modules, or of the version of a library that they import, changes what is
returned, and nothing else does: neither comments, layout and docstrings, nor any module that no stage uses. Imports for
types alone do not count. Cost: each module is read and parsed once a process, some 0.2 s in all.
"""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

_OURS = "pipeline"
_ALWAYS = ("pipeline.records",)  # the keys and the types of every row


def modules(objects: Iterable[object]) -> dict[str, str]:
    """Module -> digest of its statements, for the modules that the classes of these objects need, by name."""
    return {name: _digest(name) for name in sorted(_closure(_homes(objects)))}


def libraries(objects: Iterable[object]) -> dict[str, str]:
    """Distribution -> version, of Python and of all that those modules import from others, by name."""
    names = {name.partition(".")[0] for home in _closure(_homes(objects)) for name in _imports(home)}
    foreign = names - {_OURS} - set(sys.stdlib_module_names)
    distributions = _distributions()
    used = {distribution for name in foreign for distribution in distributions.get(name, ())}
    versions = {name: importlib.metadata.version(name) for name in sorted(used)}
    return {"python": f"{sys.version_info.major}.{sys.version_info.minor}"} | versions


def _homes(objects: Iterable[object]) -> frozenset[str]:
    """Modules of the objects' classes and of the dataclasses above them: a stage may inherit its work."""
    kinds = {kind for thing in objects for kind in type(thing).__mro__ if kind.__module__ != "builtins"}
    return frozenset({kind.__module__ for kind in kinds})


@functools.cache
def _closure(homes: frozenset[str]) -> frozenset[str]:
    seen: set[str] = set()
    waiting = [*homes, *_ALWAYS]
    while waiting:
        name = waiting.pop()
        if name not in seen and _source(name) is not None:
            seen.add(name)
            waiting += [other for other in _imports(name) if other.partition(".")[0] == _OURS]
    return frozenset(seen)


@functools.cache
def _imports(name: str) -> frozenset[str]:
    """Every module that a module imports, wherever in it, but for those that it needs for types alone."""
    modules: set[str] = set()
    waiting: list[ast.AST] = [_tree(name)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= {node.module} | {
                module for module in inner if module.startswith(f"{_OURS}.") and _source(module)
            }
        waiting += ast.iter_child_nodes(node)
    return frozenset(modules)


@functools.cache
def _digest(name: str) -> str:
    return hashlib.sha256(ast.dump(_without_docstrings(_tree(name))).encode()).hexdigest()[:16]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            if (
                isinstance(body[0], ast.Expr)
                and isinstance(body[0].value, ast.Constant)
                and isinstance(body[0].value.value, str)
            ):
                node.body = body[1:]
    return tree


def _tree(name: str) -> ast.Module:
    source = _source(name)
    assert source is not None, f"{name} has no source"
    return ast.parse(source)


@functools.cache
def _source(name: str) -> str | None:
    """The text of a module; None for one that has none, such as a script that was typed in."""
    loaded: ModuleType | None = sys.modules.get(name)
    path = getattr(loaded, "__file__", None)
    if path is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):  # a name in a module, not a module in a package
            return None
        path = spec.origin if spec else None
    return Path(path).read_text(encoding="utf-8") if path and path.endswith(".py") else None


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())
