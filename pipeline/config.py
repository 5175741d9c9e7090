"""Configs: one frozen dataclass tree per job; a TOML or JSON file and flags, the later one wins.

A config file is flags written down: each entry becomes the `--section.key value` that a user would type, placed before
the real command line, so every value is checked once, by tyro, against the types. Guarantees: an unknown key, a wrong
type, a number that is not finite or a failed `__post_init__` check is one line on stderr and exit status 2; a config
saved by `save` loads to an equal config; nothing is read from the environment, so secrets have no place in a config.
"""

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import io
import json
import math
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from pipeline.log import clean
from pipeline.redact import redacted_option

T = TypeVar("T")

_BOX = re.compile(r"[╭╮╰╯│─┌┐└┘]+|-{10,}")  # the frame that tyro draws around a message

_LINE_LIMIT = 2000  # characters; what is longer was not written by us
_VALUE_LIMIT = 60  # characters of a wrong value that a message shows


def load(schema: type[T], argv: Sequence[str] | None = None, prog: str | None = None) -> T:
    """Build a `schema` from `[FILE.toml|FILE.json] [--section.key value ...]`; exits with status 2 on bad input."""
    argv = list(sys.argv[1:] if argv is None else argv)
    flags: list[str] = []
    if argv and not argv[0].startswith("-"):
        flags = _read_file(schema, argv.pop(0))
    for word in (*flags, *argv):
        _check_flag(schema, word)
    import tyro  # here: what only checks a config or reads a manifest does without

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


def to_json(value: object) -> Any:
    """A dataclass, or what one may hold, as JSON types, nested as it is; fields that are None are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: to_json(inner) for name, inner in fields.items() if inner is not None}
    if isinstance(value, Mapping):
        return {name: to_json(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(inner) for inner in value]
    return value


def from_json(kind: type[T], value: object) -> T:
    """The dataclass `kind` that `to_json` made this of; ValueError says which entry is missing, unknown or of another
    type, so that what a stranger wrote is an error in one line."""
    return _of_type(kind, value, "")


def dumps(config: Any) -> bytes:
    """The bytes of `config.json`: stable, so that an unchanged config rewrites nothing. URLs in it lose their
    secrets."""
    return (json.dumps(_redacted(to_json(config)), indent=2, ensure_ascii=False) + "\n").encode()


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _redacted(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(inner) for inner in value]
    return redacted_option(value) if isinstance(value, str) and "://" in value else value


def digest(value: Any) -> str:
    """Sha256 (hex) of a JSON value or a config, independent of key order."""
    if dataclasses.is_dataclass(value):
        value = to_json(value)
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


def _of_type(hint: Any, value: object, where: str) -> Any:
    """`value` as the type `hint` says; ValueError if it is of another. A list becomes a tuple, an integer a float."""
    origin, inner = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _dataclass_of(hint, value, where)
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return None
        kinds = [each for each in inner if each is not NoneType]
        if len(kinds) == 1:
            return _of_type(kinds[0], value, where)
        for each in kinds:
            with contextlib.suppress(ValueError):
                return _of_type(each, value, where)
    elif origin in (tuple, list) and isinstance(value, list):
        if origin is list or inner[1:] == (...,):
            if inner[0] in (int, str) and all(type(each) is inner[0] for each in value):
                return origin(value)  # a manifest may hold a million of them
            return origin(_of_type(inner[0], each, f"{where}[{i}]") for i, each in enumerate(value))
        if len(inner) == len(value):
            pairs = zip(inner, value, strict=True)
            return tuple(_of_type(each, entry, f"{where}[{i}]") for i, (each, entry) in enumerate(pairs))
    elif origin in (dict, Mapping) and isinstance(value, dict):
        return {key: _of_type(inner[1], each, f"{where}[{key!r}]") for key, each in value.items()}
    elif origin is Literal:
        if any(value == each and type(value) is type(each) for each in inner):
            return value
    elif hint in (Any, object) or type(value) is hint:
        return value
    elif hint is float and type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    text = json.dumps(value, default=repr)
    kind_name = hint.__name__ if isinstance(hint, type) and origin is None else str(hint)
    shown = text if len(text) <= _VALUE_LIMIT else f"{text[:_VALUE_LIMIT]}…"
    raise ValueError(f"{where or 'it'} is {shown}, not of the type {kind_name}")


def _dataclass_of(kind: Any, value: object, where: str) -> Any:
    prefix = f"{where}." if where else ""
    if not isinstance(value, dict):
        raise ValueError(f"{where or 'it'} is a {type(value).__name__}, not an object")
    hints = _hints(kind)
    if unknown := sorted(value.keys() - hints.keys()):
        raise ValueError(f"{prefix}{unknown[0][:_VALUE_LIMIT]} is not known")
    entries = {key: _of_type(hints[key], entry, f"{prefix}{key}") for key, entry in value.items()}
    for field in dataclasses.fields(kind):
        if field.name in entries or not (field.default is field.default_factory is dataclasses.MISSING):
            continue
        if NoneType not in get_args(hints[field.name]):
            raise ValueError(f"{prefix}{field.name} is missing")
        entries[field.name] = None  # `to_json` leaves it out
    return kind(**entries)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


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
