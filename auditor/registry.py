"""Finds rules and reports through entry points, ours and third parties' by the same mechanism.

A distribution declares `[project.entry-points."auditor.rules"] anything = "package"`; every module below that package
is imported and every `Rule` at its top level is registered. Reports likewise, below "auditor.reports".
"""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType

from auditor.declare import Rule


class UnknownRule(LookupError):
    """No rule has that name, code or code prefix."""


def _modules(group: str) -> Iterator[ModuleType]:
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        root = import_module(point.module)
        yield root
        for found in pkgutil.walk_packages(getattr(root, "__path__", ()), root.__name__ + "."):
            yield import_module(found.name)


@cache
def rules() -> tuple[Rule, ...]:
    """All installed rules by code. Raises ValueError when two share a code or a name."""
    found: dict[str, Rule] = {}
    names: dict[str, Rule] = {}
    for module in _modules("auditor.rules"):
        for value in vars(module).values():
            if not isinstance(value, Rule) or found.get(value.code) is value:
                continue
            if value.code in found or value.name in names:
                raise ValueError(f"two rules are called {value.code} or {value.name}")
            found[value.code] = names[value.name] = value
    return tuple(found[code] for code in sorted(found))


def find(selector: str, among: Iterable[Rule] | None = None) -> tuple[Rule, ...]:
    """Rules meant by a name, a code, a code prefix ('OPT') or 'ALL'.

    Raises UnknownRule with the nearest names when there is none.
    """
    known = tuple(among) if among is not None else rules()
    if selector.upper() == "ALL":
        return known
    chosen = tuple(rule for rule in known if rule.name == selector.lower() or rule.code.startswith(selector.upper()))
    if not chosen or not selector:
        names = [rule.name for rule in known] + [rule.code for rule in known]
        near = difflib.get_close_matches(selector, names, n=2, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; `audit rules` lists them"
        raise UnknownRule(f"no rule is called {selector!r}{hint}")
    return chosen


@cache
def report_formats() -> dict[str, ModuleType]:
    """Format name -> module with `render(audit) -> str`, `FORMAT` and `SUFFIXES`.

    `render` may take more by keyword, if its signature names it: `fail_on` and `difference`, see auditor.output.Wanted.
    """
    return _named("FORMAT")


@cache
def comparison_formats() -> dict[str, ModuleType]:
    """Format name -> module with `render(difference) -> str`, `COMPARES` and `SUFFIXES`."""
    return _named("COMPARES")


def _named(attribute: str) -> dict[str, ModuleType]:
    modules = ((getattr(module, attribute, None), module) for module in _modules("auditor.reports"))
    return {name: module for name, module in modules if name is not None}
