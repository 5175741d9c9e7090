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

NULL = {"null": True}
"""Metadata of a field that `to_json` writes as null where it is None."""

_BOX = re.compile(r"[╭╮╰╯│─┌┐└┘]+|-{10,}")  # the frame that tyro draws around a message

_LINE_LIMIT = 2000  # characters; what is longer was not written by us
_VALUE_LIMIT = 60  # characters of a wrong value that a message shows
_ALIKE = 0.6  # from there on difflib calls two words close
_NO_OPTIONS = ("-inf", "-nan", "-infinity")  # numbers that look like an option


def load(
    schema: type[T],
    argv: Sequence[str] | None = None,
    prog: str | None = None,
    table: Mapping[str, object] | None = None,
) -> T:
    """Build a `schema` from `[FILE.toml|FILE.json] [--section.key value ...]`; exits with status 2 on bad input.

    A `table` of options, such as a parsed config.json, goes before all of them.
    """
    rest = list(sys.argv[1:] if argv is None else argv)
    words = list(_as_flags(schema, table or {}))
    if rest and not rest[0].startswith("-"):
        words += _as_flags(schema, _read_file(rest.pop(0)))
    words += rest
    if not {"--help", "-h"} & set(words):
        _check_words(schema, words)
    import tyro  # here: what only checks a config or reads a manifest does without

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            config = tyro.cli(schema, args=words, prog=prog, description=schema.__doc__)
    except SystemExit as leave:
        if leave.code in (0, None):  # --help
            raise
        fail(_mistake(schema, leave, said.getvalue()))
    _check_finite(config)
    return config


def fail(message: str) -> NoReturn:
    """Print one line on stderr and leave with status 2: the user can mend it."""
    print(f"error: {clean(message, _LINE_LIMIT)}", file=sys.stderr)
    raise SystemExit(2)


def to_json(value: object) -> Any:
    """A dataclass, or what one may hold, as JSON types, nested as it is. A field that is None is left out, unless its
    metadata is NULL; `in_` is the key `in`: names that Python keeps for itself have a `_` behind them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        entries = {}
        for field in dataclasses.fields(value):
            entry = getattr(value, field.name)
            if entry is not None or field.metadata == NULL:
                entries[field.name.removesuffix("_")] = to_json(entry)
        return entries
    if isinstance(value, Mapping):
        return {name: to_json(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(inner) for inner in value]
    return value


def from_json(kind: type[T], value: object) -> T:
    """The dataclass `kind` that `to_json` made this of; ValueError says which entry is missing, unknown or of another
    type, so that what a stranger wrote is an error in one line."""
    made = _of_type(kind, value, "")
    assert isinstance(made, kind)
    return made


def dumps(config: object) -> bytes:
    """The bytes of `config.json`: stable, so that an unchanged config rewrites nothing. URLs in it lose their
    secrets."""
    return json_bytes(_redacted(to_json(config)))


def json_bytes(value: object) -> bytes:
    """A dataclass, or what one may hold, as a JSON text: indented, for people to read, and with one line end."""
    return (json.dumps(to_json(value), indent=2, ensure_ascii=False) + "\n").encode()


def _redacted(value: object) -> object:
    if isinstance(value, dict):
        return {name: _redacted(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(inner) for inner in value]
    return redacted_option(value) if isinstance(value, str) and "://" in value else value


def digest(value: object) -> str:
    """Sha256 (hex) of a JSON value or a config, independent of key order."""
    return hashlib.sha256(json.dumps(to_json(value), sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def difference(old: object, new: object, prefix: str = "") -> list[str]:
    """Where two dataclasses, or nested dicts, differ, as `section.key: old -> new`."""
    lines = []
    before, after = to_json(old), to_json(new)
    for key in sorted(before.keys() | after.keys()):
        a, b = before.get(key), after.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += difference(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a!r} -> {b!r}")
    return lines


def _of_type(hint: object, value: object, where: str) -> object:
    """`value` as the type `hint` says; ValueError if it is of another. A list becomes a tuple, an integer a float."""
    origin, inner = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _dataclass_of(hint, value, where)
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return None
        *others, last = [each for each in inner if each is not NoneType]
        for each in others:
            with contextlib.suppress(ValueError):
                return _of_type(each, value, where)
        return _of_type(last, value, where)
    if origin in (tuple, list) and isinstance(value, list):
        each_kind = inner[:1] * len(value) if origin is list or inner[1:] == (...,) else inner
        if len(each_kind) == len(value):
            return origin(_of_items(each_kind, value, where))
    elif origin in (dict, Mapping) and isinstance(value, dict):
        return {key: _of_type(inner[1], each, f"{where}[{key!r}]") for key, each in value.items()}
    elif origin is Literal:
        if any(value == each and type(value) is type(each) for each in inner):
            return value
    elif hint in (Any, object) or type(value) is hint:
        return value
    elif hint is float and type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    name = hint.__name__ if isinstance(hint, type) and origin is None else str(hint)
    raise ValueError(f"{where or 'it'} is {_cut(json.dumps(value, default=repr))}, not of the type {name}")


def _of_items(kinds: Sequence[object], values: Sequence[object], where: str) -> Iterator[object]:
    if set(kinds) <= {int} and all(type(value) is int for value in values):
        yield from values  # the manifest of a checkpoint has a million of them
        return
    for i, (kind, value) in enumerate(zip(kinds, values, strict=True)):
        yield _of_type(kind, value, f"{where}[{i}]")


def _cut(text: str) -> str:
    return text if len(text) <= _VALUE_LIMIT else f"{text[:_VALUE_LIMIT]}…"


def _dataclass_of(kind: type, value: object, where: str) -> object:
    prefix = f"{where}." if where else ""
    if not isinstance(value, dict):
        raise ValueError(f"{where or 'it'} is a {type(value).__name__}, not an object")
    hints = _hints(kind)
    if unknown := sorted(value.keys() - hints.keys()):
        raise ValueError(f"{prefix}{unknown[0][:_VALUE_LIMIT]} is not known")
    entries = {key: _of_type(hints[key], entry, f"{prefix}{key}") for key, entry in value.items()}
    for field in dataclasses.fields(kind):
        key = field.name.removesuffix("_")
        if key in entries or not (field.default is field.default_factory is dataclasses.MISSING):
            continue
        if NoneType not in get_args(hints[key]):
            raise ValueError(f"{prefix}{key} is missing")
        entries[key] = None  # `to_json` may leave it out
    names = {field.name.removesuffix("_"): field.name for field in dataclasses.fields(kind)}
    return kind(**{names[key]: entry for key, entry in entries.items()})


@functools.cache
def _hints(kind: type) -> dict[str, object]:
    hints = get_type_hints(kind)
    return {field.name.removesuffix("_"): hints[field.name] for field in dataclasses.fields(kind)}


def _read_file(name: str) -> dict[str, object]:
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
    return table


def _as_flags(schema: type, table: Mapping[str, object], prefix: str = "--") -> Iterator[str]:
    hints = _hints(schema)
    for key, value in table.items():
        hint = hints.get(key)
        if isinstance(value, dict) and isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from _as_flags(hint, value, f"{prefix}{key}.")
        elif isinstance(value, dict):
            fail(f"{_spelled(prefix + key)} is no section of options; --help lists them")
        elif isinstance(value, bool):
            yield f"{prefix}{'' if value else 'no-'}{key}"
        else:
            yield f"{prefix}{key}"
            yield from (str(word) for word in (value if isinstance(value, list) else [value]))


def _options(schema: type, prefix: str = "--") -> Iterator[tuple[str, object]]:
    """Each option and the type of its value."""
    for name, hint in _hints(schema).items():
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from _options(hint, f"{prefix}{name}.")
        else:
            yield _spelled(prefix + name), hint
            if hint is bool:
                yield _spelled(f"{prefix}no-{name}"), hint


def _spelled(option: str) -> str:
    return option.replace("_", "-")


def _check_words(schema: type, words: Sequence[str]) -> None:
    """Fail for the first option that is unknown or whose values are not what its type asks for, then for the first that
    is missing."""
    types = dict(_options(schema))
    given: list[tuple[str, list[str]]] = []
    for word in words:
        if re.match(r"--?[A-Za-z]", word) and word not in _NO_OPTIONS:
            option, equals, value = word.partition("=")
            given.append((option, [value] if equals else []))
        elif given:
            given[-1][1].append(word)
        else:
            fail(f"{word!r} is no option; --help lists them")
    for option, values in given:
        if _spelled(option) not in types:
            fail(f"no option {option}; {_near(_spelled(option), types)}")
        if use := _wrong(types[_spelled(option)], values):
            fail(f"{_spelled(option)} {_shown(values)}; use {use.format(_spelled(option))}")
    named = {_spelled(option) for option, _ in given}
    for field in dataclasses.fields(schema):
        if field.default is field.default_factory is dataclasses.MISSING and _spelled(f"--{field.name}") not in named:
            fail(f"{_spelled(f'--{field.name}')} is required; give it a value, or name a config file that does")


def _shown(values: Sequence[str]) -> str:
    text = " ".join(str(_redacted(value)) for value in values)
    return f"is {_cut(text)}" if text else "has no value"


def _near(flag: str, types: Mapping[str, object]) -> str:
    """The options whose path, or whose name alone, is nearest to what was written."""
    if section := [option for option in types if option.startswith(f"{flag}.")]:
        return f"it is a section; name an option of it, such as {section[0]}"

    def likeness(option: str) -> float:
        names = (flag.lstrip("-").rpartition(".")[2], option.lstrip("-").rpartition(".")[2])
        return max(difflib.SequenceMatcher(None, *pair).ratio() for pair in ((flag, option), names))

    scores = {option: likeness(option) for option in types}
    best = max(scores.values())
    nearest = [option for option in types if scores[option] == best]
    return f"did you mean {' or '.join(nearest[:3])}?" if best > _ALIKE else "--help lists the options"


def _wrong(hint: object, values: Sequence[str]) -> str:
    """What to use instead of these values (`{}` stands for the option); empty if they are of the type."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    if get_origin(hint) in (Union, UnionType) and len(kinds) == 1:
        return "" if list(values) == ["None"] else _wrong(kinds[0], values)
    if hint is bool:
        return "{} without a value" if values else ""
    if get_origin(hint) is not tuple:
        return "" if len(values) == 1 and _is_of(hint, values[0]) else _one(hint)
    kind, number = kinds[0], 0 if kinds[1:] == [...] else len(kinds)
    if number in (0, len(values)) and all(_is_of(kind, value) for value in values):
        return ""
    return f"{number} {_PLURALS[_one(kind)]}" if number else f"{_one(kind)}, or several"


def _is_of(kind: object, value: str) -> bool:
    if get_origin(kind) is Literal:
        return value in map(str, get_args(kind))
    try:
        return kind not in (int, float) or kind(value) is not None
    except ValueError:
        return False


def _one(kind: object) -> str:
    if get_origin(kind) is Literal:
        *first, last = map(str, get_args(kind))
        return f"{', '.join(first)} or {last}" if first else last
    if kind is int:
        return "one whole number"
    return "one number" if kind is float else "one value"


_PLURALS = {"one whole number": "whole numbers", "one number": "numbers", "one value": "values"}


def _mistake(schema: type, leave: SystemExit, said: str) -> str:
    """One line for what a section refused, with the whole path of the option that its message begins with."""
    error: BaseException | None = leave
    while error is not None and not isinstance(error, ValueError):
        error = error.__context__
    place = re.search(r"Error parsing (\S+):", said)
    if error is None or place is None:
        return " ".join(_BOX.sub(" ", said).split()) or "the options could not be read; --help lists them"
    section = "" if place[1] == schema.__name__ else place[1]
    name, _, rest = str(error).partition(" ")
    option = f"--{section}.{name}" if section else f"--{name}"
    if _spelled(option) in dict(_options(schema)):
        return f"{_spelled(option)} {rest}"
    return f"--{_spelled(section)}: {error}" if section else str(error)


def _check_finite(config: object, prefix: str = "--") -> None:
    """Fail for what types let through: a number that is not finite, a name that is empty; their defaults excepted."""
    assert dataclasses.is_dataclass(config)
    for field in dataclasses.fields(config):
        value, option = getattr(config, field.name), _spelled(f"{prefix}{field.name}")
        if dataclasses.is_dataclass(value):
            _check_finite(value, f"{option}.")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number) and number != field.default:
                fail(f"{option} is {number}; use a finite number")
        if value == "" and field.default is None:
            fail(f"{option} is empty; give it a value, or leave it out")
