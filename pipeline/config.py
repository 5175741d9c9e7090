"""Configs: one frozen dataclass tree per job; a TOML or JSON file and flags, the later one wins.

A config file is flags written down: each entry becomes the `--section.key value` that a user would type, placed before
the real command line, so every value is checked once, by tyro, against the types. Guarantees: an unknown key, a wrong
type, a number that is not finite or a failed `__post_init__` check is one line on stderr and exit status 2; a config
saved by `save` loads to an equal config; nothing is read from the environment, so secrets have no place in a config.
"""

import contextlib
import dataclasses
import difflib
import hashlib
import io
import json
import math
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_type_hints

import tyro

from pipeline.log import clean
from pipeline.redact import redacted_option

T = TypeVar("T")

_BOX = re.compile(r"[╭╮╰╯│─┌┐└┘]+|-{10,}")  # the frame that tyro draws around a message

_LINE_LIMIT = 2000  # characters; what is longer was not written by us


def load(schema: type[T], argv: Sequence[str] | None = None, prog: str | None = None) -> T:
    """Build a `schema` from `[FILE.toml|FILE.json] [--section.key value ...]`; exits with status 2 on bad input."""
    argv = list(sys.argv[1:] if argv is None else argv)
    flags: list[str] = []
    if argv and not argv[0].startswith("-"):
        flags = _read_file(schema, argv.pop(0))
    for word in (*flags, *argv):
        _check_flag(schema, word)
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            config = tyro.cli(schema, args=[*flags, *argv], prog=prog, description=schema.__doc__)
    except SystemExit as leave:
        if leave.code in (0, None):  # --help
            raise
        fail(_one_line(errors.getvalue()))
    _check_values(config)
    return config


def fail(message: str) -> NoReturn:
    """Print one line on stderr and leave with status 2: the user can mend it."""
    print(f"error: {clean(message, _LINE_LIMIT)}", file=sys.stderr)
    raise SystemExit(2)


def check_range(
    config: Any, *names: str, low: float = -math.inf, above: float = -math.inf, high: float = math.inf
) -> None:
    """ValueError for the first of these options that is a number (not None) outside of the bounds, or nan."""
    bounds = {"{:g} or more": low, "more than {:g}": above, "{:g} at most": high}
    wanted = ", ".join(words.format(bound) for words, bound in bounds.items() if math.isfinite(bound))
    for name in names:
        value = getattr(config, name)
        if value is not None and not (low <= value <= high and value > above):
            raise ValueError(f"{name} is {value}; use {wanted}")


def to_dict(config: Any) -> dict[str, Any]:
    """The resolved config as JSON types, nested as its dataclasses are; `None` values are left out, being defaults."""
    return {
        f.name: to_dict(value)
        if dataclasses.is_dataclass(value)
        else list(value)
        if isinstance(value, tuple)
        else value
        for f in dataclasses.fields(config)
        if (value := getattr(config, f.name)) is not None
    }


def dumps(config: Any) -> bytes:
    """The bytes of `config.json`: stable, so that an unchanged config rewrites nothing. URLs in it lose their
    secrets."""
    return (json.dumps(_redacted(to_dict(config)), indent=2, ensure_ascii=False) + "\n").encode()


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _redacted(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(inner) for inner in value]
    return redacted_option(value) if isinstance(value, str) and "://" in value else value


def digest(value: Any) -> str:
    """Sha256 (hex) of a JSON value or a config, independent of key order."""
    if dataclasses.is_dataclass(value):
        value = to_dict(value)
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def difference(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Where two nested dicts differ, as `section.key: old -> new`."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += difference(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a!r} -> {b!r}")
    return lines


def _read_file(schema: type, name: str) -> list[str]:
    path = Path(name)
    parsers = {".toml": tomllib.loads, ".json": json.loads}
    if path.suffix not in parsers:
        fail(f"{name!r} is neither an option nor a config file (*.toml, *.json); --help lists the options")
    try:
        table = parsers[path.suffix](path.read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"cannot read the config file {name}: {error.strerror}")
    except ValueError as error:
        fail(f"{name} is not valid {path.suffix[1:].upper()}: {error}")
    if not isinstance(table, dict):
        fail(f"{name} must hold a table of options, not a {type(table).__name__}")
    return list(_as_flags(schema, table))


def _as_flags(schema: Any, table: dict[str, Any], prefix: str = "--") -> Iterator[str]:
    hints = get_type_hints(schema)
    for key, value in table.items():
        if dataclasses.is_dataclass(hints.get(key)) and isinstance(value, dict):
            yield from _as_flags(hints[key], value, f"{prefix}{key}.")
        elif isinstance(value, bool):
            yield f"{prefix}{'' if value else 'no-'}{key}"
        else:
            yield f"{prefix}{key}"
            yield from (str(word) for word in (value if isinstance(value, list) else [value]))


def _options(schema: Any, prefix: str = "--") -> Iterator[str]:
    for key, hint in get_type_hints(schema).items():
        if dataclasses.is_dataclass(hint):
            yield from _options(hint, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}".replace("_", "-")
            if hint is bool:
                yield f"{prefix}no-{key}".replace("_", "-")


def _check_flag(schema: type, word: str) -> None:
    if not re.match(r"--[A-Za-z]", word) or word == "--help":
        return
    flag = word.split("=")[0].replace("_", "-")
    known = list(_options(schema))
    if flag not in known:
        near = difflib.get_close_matches(flag, known, n=1)
        fail(
            f"no option {word.split('=')[0]}" + (f"; did you mean {near[0]}?" if near else "; --help lists the options")
        )


def _check_values(config: Any, prefix: str = "--") -> None:
    """Fail for what types let through: a number that is not finite, a name that is empty; their defaults excepted."""
    for field in dataclasses.fields(config):
        value, option = getattr(config, field.name), f"{prefix}{field.name}".replace("_", "-")
        if dataclasses.is_dataclass(value):
            _check_values(value, f"{option}.")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number) and number != field.default:
                fail(f"{option} is {number}; use a finite number")
        if value == "" and field.default is None:
            fail(f"{option} is empty; give it a value, or leave it out")


def _one_line(text: str) -> str:
    words = _BOX.sub(" ", text).split()
    line = " ".join(words).removeprefix("Parsing error ").removeprefix("Required options ")
    line = re.sub(r"^Value error Error parsing \S+: ", "", line)
    line = re.sub(r"\s*For full helptext.*", "", line)
    line = re.sub(r"Missing from [^:]+: (\S+).*", r"\1 is required", line)
    return line or "the options could not be read; --help lists them"
