"""Reads the settings from the nearest configuration file, and says file and line of whatever is wrong there."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from auditor.config import Ignore, Settings
from auditor.declare import Rule
from auditor.errors import ConfigError
from auditor.registry import UnknownRule, find
from auditor.untrusted import one_line

_LARGEST = 1_000_000  # bytes
_LONGEST_LINE = 300  # characters that can hold a key; more are not looked at
_LONGEST_REASON = 500
_KEYS = tuple(field.alias or name for name, field in Settings.model_fields.items())
_HEADER = re.compile(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*([\w\-.\"' ]+?)\s*=")


@dataclass(frozen=True)
class Document:
    """A configuration file: its settings table, and where each key stands in the text."""

    path: Path
    text: str
    table: Mapping[str, Any]
    prefix: tuple[str, ...] = ()

    def line(self, *keys: str) -> int:
        """Line of a key below the settings table; of its nearest ancestor when it has no line of its own."""
        wanted = (*self.prefix, *keys)
        best, best_line = 0, 1
        header: tuple[str, ...] = ()
        for number, line in enumerate(self.text.splitlines(), 1):
            line = line.strip()[:_LONGEST_LINE]
            if match := _HEADER.match(line):
                here = header = _dotted(match[1])
            elif match := _KEY.match(line):
                here = header + _dotted(match[1])
            else:
                continue
            depth = len(here)
            if here == wanted[:depth] and depth > best:
                best, best_line = depth, number
        return best_line

    def error(self, keys: Sequence[str], message: str) -> ConfigError:
        return ConfigError(f"{_shown(self.path)}:{self.line(*keys)}: {one_line(message, _LONGEST_REASON)}")


def load(
    start: Path,
    rules: Iterable[Rule],
    *,
    config: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings for a target in the folder `start`: defaults, below the file, below `overrides` (field names of
    Settings; None values do not count; `ignore` is added to the file's).

    Raises ConfigError in one sentence, with file:line where the file is at fault.
    """
    known = tuple(rules)
    document = read(config) if config is not None else nearest(start)
    settings = _from_file(document, known) if document is not None else Settings()
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    given["ignore"] = (*settings.ignore, *given.get("ignore", ()))
    settings = Settings.model_validate({**settings.model_dump(), **given})
    for option, selectors in (("--select", settings.select), ("--ignore", [e.rule for e in settings.ignore])):
        for selector in selectors:
            _known(selector, known, option)
    return settings


def nearest(start: Path) -> Document | None:
    """auditor.toml or a pyproject.toml that has [tool.auditor], in `start` or the nearest folder above it."""
    start = start.resolve()
    for folder in (start, *start.parents):
        own = folder / "auditor.toml"
        if own.is_file():
            return read(own)
        project = folder / "pyproject.toml"
        # A broken pyproject.toml that never mentions us is not ours to complain about.
        if project.is_file() and "auditor" in _text(project) and _table(project) is not None:
            return read(project)
    return None


def read(path: Path) -> Document:
    """The settings of one file: its [tool.auditor] table, else (in other files than pyproject.toml) all of it."""
    table = _table(path)
    if table is not None:
        return Document(path, _text(path), table, ("tool", "auditor"))
    if path.name == "pyproject.toml":
        raise ConfigError(f"{_shown(path)}: there is no table [tool.auditor]")
    return Document(path, _text(path), _parsed(path))


def _text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ConfigError(f"{_shown(path)}: a configuration has at most {_LARGEST:,} bytes")
        return data.decode("utf-8").replace("\r\n", "\n")
    except FileNotFoundError:
        raise ConfigError(f"{_shown(path)}: there is no such configuration file") from None
    except (OSError, UnicodeDecodeError) as why:
        raise ConfigError(f"{_shown(path)}: the configuration cannot be read: {_reason(why)}") from None


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(path))
    except (ValueError, RecursionError) as why:  # among them digits without end, and dates that no calendar has
        reason = "nested too deeply" if isinstance(why, RecursionError) else one_line(str(why), _LONGEST_REASON)
        raise ConfigError(f"{_shown(path)}: not valid TOML: {reason}") from None


def _table(path: Path) -> dict[str, Any] | None:
    tool = _parsed(path).get("tool")
    table = tool.get("auditor") if isinstance(tool, dict) else None
    return table if isinstance(table, dict) else None


def _from_file(document: Document, rules: Sequence[Rule]) -> Settings:
    for key in document.table:
        if key not in _KEYS:
            raise document.error([key], f"unknown key {key!r}{_near(key, _KEYS)}")
    _check_ignore(document, rules)
    for selector in _listed(document, "select"):
        _known(selector, rules, "select", document)
    _check_limits(document, rules)
    try:
        return Settings.model_validate(dict(document.table))
    except ValidationError as wrong:
        keys = _path(wrong)
        raise document.error(keys, f"{'.'.join(keys)}: {_message(wrong)}") from None


def _listed(document: Document, key: str) -> list[Any]:
    value = document.table.get(key, [])
    if not isinstance(value, list):
        raise document.error([key], f"{key} must be a list")
    return value


def _check_ignore(document: Document, rules: Sequence[Rule]) -> None:
    example = '{ rule = "...", reason = "why it is fine here" }'
    for entry in _listed(document, "ignore"):
        if not isinstance(entry, dict):
            raise document.error(["ignore"], f"ignore: {entry!r} gives no reason; write {example}")
        for key in entry:
            if key not in Ignore.model_fields:
                raise document.error(["ignore", key], f"ignore: unknown key {key!r}{_near(key, Ignore.model_fields)}")
        if not str(entry.get("reason", "")).strip():
            raise document.error(["ignore"], f"ignore: {entry.get('rule')!r} gives no reason; write {example}")
        _known(entry.get("rule"), rules, "ignore", document)


def _check_limits(document: Document, rules: Sequence[Rule]) -> None:
    limits = document.table.get("limits", {})
    if not isinstance(limits, dict):
        raise document.error(["limits"], "limits: write one table a rule, [tool.auditor.limits.<rule>]")
    for name, table in limits.items():
        rule = next((rule for rule in rules if name in (rule.name, rule.code)), None)
        if rule is None:
            hint = _near(name, [rule.name for rule in rules] + [rule.code for rule in rules])
            raise document.error(["limits", name], f"limits: no rule is called {name!r}{hint}")
        if not isinstance(table, dict):
            raise document.error(["limits", name], f"limits.{name}: write a table of limits")
        known = [field.alias or key for key, field in rule.limits.model_fields.items()]
        for key in table:
            if key not in known:
                raise document.error(["limits", name, key], f"{name} has no limit {key!r}{_near(key, known, True)}")
        try:
            rule.limits.model_validate(table)
        except ValidationError as wrong:
            keys = ("limits", name, *_path(wrong))
            raise document.error(keys, f"{'.'.join(keys)}: {_message(wrong)}") from None


def _known(selector: Any, rules: Sequence[Rule], key: str, document: Document | None = None) -> None:
    try:
        if not isinstance(selector, str):
            raise UnknownRule(f"{selector!r} is no rule's name or code")
        find(selector, rules)
    except UnknownRule as why:
        said = one_line(f"{key}: {why}", _LONGEST_REASON)
        raise (document.error([key], said) if document else ConfigError(said)) from None


def _near(word: str, known: Iterable[str], listing: bool = False) -> str:
    names = list(known)
    near = difflib.get_close_matches(word.replace("_", "-"), names, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; it has {', '.join(names) or 'none'}" if listing else f"; known are {', '.join(names[:8])}"


def _path(wrong: ValidationError) -> tuple[str, ...]:
    return tuple(str(key) for key in wrong.errors()[0]["loc"] if not isinstance(key, int))


def _message(wrong: ValidationError) -> str:
    first = wrong.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]} (it is {first['input']!r})"


def _dotted(text: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in text.split("."))


def _reason(why: Exception) -> str:
    return (why.strerror if isinstance(why, OSError) else None) or one_line(str(why), _LONGEST_REASON)


def _shown(path: Path) -> str:
    """Relative to the current directory where that is shorter to read."""
    absolute = path.absolute()
    with suppress(ValueError, OSError):
        absolute = absolute.relative_to(Path.cwd())
    return one_line(str(absolute), 300)
