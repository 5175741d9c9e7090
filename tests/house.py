"""The figures of the house: `python -m tests.house` prints them by folder, and what passes the budgets of the tests.

Tokens are those of the code: comments, docstrings and line ends do not count, so that neither packing lines nor
explaining them changes a figure. A line of code is a line with such a token. The whole project takes a second.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

ROOT = Path(__file__).parents[1]
FILE_TOKENS = 3_000
FUNCTION_TOKENS = 350
LOOP_TOKENS = 1_000  # of the one function that is a story: the train loop
LOOP = "pipeline/train/loop.py:train"
ANY_SIGNATURES = 20  # fewer than these, in the whole project

_LAYOUT = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.ENCODING}
_ORDERS = ("# noqa", "# type:", "# fmt:")  # comments for a tool, not for a reader

Function = ast.FunctionDef | ast.AsyncFunctionDef
Named = Function | ast.ClassDef


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is counted of one file."""

    name: str  # from the root: pipeline/train/loop.py
    tokens: int
    lines: int
    comments: int
    functions: dict[str, int]  # tokens of each, by pipeline/train/loop.py:train
    any_signatures: list[str]  # functions with `Any` in an argument or an answer
    undocumented: list[str]  # public modules, classes, functions and methods

    @property
    def folder(self) -> str:
        """The part of the project it is counted in: jobs, pipeline/train, or pipeline for a file of its root."""
        return "/".join(Path(self.name).parts[:-1][:2])


def sources(root: Path = ROOT) -> list[Path]:
    """Every Python file of the product."""
    return sorted(path for top in ("pipeline", "jobs") for path in (root / top).rglob("*.py"))


def measured(path: Path, root: Path = ROOT) -> Figures:
    """The figures of one file."""
    return figures(str(path.relative_to(root)), path.read_text(encoding="utf-8"))


def figures(name: str, source: str) -> Figures:
    """The figures of this source text; `name` is its path."""
    tree = ast.parse(source)
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    comments = [token for token in tokens if token.type == tokenize.COMMENT]
    told = _docstring_lines(tree)
    code = [t for t in tokens if t.type not in _LAYOUT | {tokenize.COMMENT} and t.start[0] not in told]
    starts = [token.start[0] for token in code]
    functions = dict(_functions(tree))
    return Figures(
        name=name,
        tokens=len(code),
        lines=len({line for token in code for line in range(token.start[0], token.end[0] + 1)}),
        comments=sum(not comment.string.startswith(_ORDERS) for comment in comments),
        functions={
            f"{name}:{path}": sum(node.lineno <= line <= _end(node) for line in starts)
            for path, node in functions.items()
        },
        any_signatures=[f"{name}:{path}" for path, node in functions.items() if _says_any(node)],
        undocumented=list(_undocumented(name, tree)),
    )


def _functions(tree: ast.AST, outside: str = "") -> Iterator[tuple[str, Function]]:
    """Every function and method by its qualified name, those inside of others included."""
    for node in ast.iter_child_nodes(tree):
        path = f"{outside}{node.name}" if isinstance(node, Named) else outside
        if isinstance(node, Function):
            yield path, node
        yield from _functions(node, f"{path}." if isinstance(node, Named) else outside)


def _end(node: ast.stmt) -> int:
    assert node.end_lineno is not None  # every node of a parsed text has one
    return node.end_lineno


def _docstring_lines(tree: ast.AST) -> set[int]:
    """The lines of every bare string: docstrings, and those of fields."""
    bodies = [body for node in ast.walk(tree) if isinstance(body := getattr(node, "body", None), list)]
    return {
        line
        for body in bodies
        for statement in body
        if _is_text(statement)
        for line in range(statement.lineno, _end(statement) + 1)
    }


def _is_text(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _says_any(function: Function) -> bool:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    hints = [argument.annotation for argument in every if argument] + [function.returns]
    return any(_names_any(hint) for hint in hints if hint)


def _names_any(hint: ast.expr) -> bool:
    return re.search(r"\bAny\b", ast.unparse(hint)) is not None


def _undocumented(name: str, tree: ast.Module) -> Iterator[str]:
    """Public names without a docstring: the module, what stands at its top, and the methods of its classes."""
    if tree.body and ast.get_docstring(tree) is None:
        yield name
    told: set[str] = set()  # methods that a class above documents: what takes their place says the same
    for node in tree.body:
        if not _is_public(node):
            continue
        if ast.get_docstring(node) is None and not _is_overload(node):
            yield f"{name}:{node.name}"
        methods = [method for method in node.body if isinstance(node, ast.ClassDef) and _is_public(method)]
        told |= {method.name for method in methods if ast.get_docstring(method)}
        yield from (f"{name}:{node.name}.{method.name}" for method in methods if method.name not in told)


def _is_overload(node: Named) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in node.decorator_list)


def _is_public(node: ast.stmt) -> TypeGuard[Named]:
    return isinstance(node, Named) and not node.name.startswith("_")


def over_budget(every: Iterable[Figures]) -> list[str]:
    """Files and functions that are too large, as `tokens name`, the largest first."""
    large = []
    for file in every:
        if file.tokens > FILE_TOKENS:
            large.append((file.tokens, file.name))
        for name, tokens in file.functions.items():
            if tokens > (LOOP_TOKENS if name == LOOP else FUNCTION_TOKENS):
                large.append((tokens, name))
    return [f"{tokens} {name}" for tokens, name in sorted(large, reverse=True)]


def table(every: Iterable[Figures]) -> str:
    """The figures by folder, and of all of it, in columns."""
    folders: dict[str, list[Figures]] = {}
    for file in every:
        folders.setdefault(file.folder, []).append(file)
    rows = [_row(folder, files) for folder, files in sorted(folders.items())]
    rows.append(_row("all", [file for files in folders.values() for file in files]))
    head = ("folder", "files", "tokens", "lines", "tokens/line", "comments/100", "largest file", "function", "Any")
    return "\n".join(_LINE.format(*row) for row in [head, *rows])


_LINE = "{:<20}{:>7}{:>9}{:>8}{:>13}{:>14}{:>14}{:>10}{:>6}"


def _row(folder: str, files: list[Figures]) -> tuple[str, ...]:
    tokens = sum(file.tokens for file in files)
    lines = sum(file.lines for file in files)
    comments = sum(file.comments for file in files)
    functions = [size for file in files for size in file.functions.values()]
    return (
        folder,
        f"{len(files)}",
        f"{tokens:,}",
        f"{lines:,}",
        f"{tokens / max(lines, 1):.1f}",
        f"{100 * comments / max(lines, 1):.1f}",
        f"{max(file.tokens for file in files):,}",
        f"{max(functions, default=0):,}",
        f"{sum(len(file.any_signatures) for file in files)}",
    )


def main() -> None:
    """Print the table, and below it what is over budget or undocumented."""
    every = [measured(path) for path in sources()]
    print(table(every))
    for line in over_budget(every):
        print("over budget:", line)
    for name in (name for file in every for name in file.undocumented):
        print("undocumented:", name)


if __name__ == "__main__":
    main()
