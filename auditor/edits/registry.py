"""Which function writes which kind of remedy. A new kind is a new module in `auditor.edits.kinds`, and no list."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache

from auditor.edits.changes import Change, NoEdit
from auditor.edits.parsed import Parsed
from auditor.evidence import Location, Remedy, RemedyKind

Writer = Callable[[Parsed, Remedy, Location], tuple[Change, ...]]
_writers: dict[RemedyKind, Writer] = {}


def writes(*kinds: RemedyKind) -> Callable[[Writer], Writer]:
    """Declare a function from source, remedy and its site to changes. It raises NoEdit rather than guess."""

    def declare(writer: Writer) -> Writer:
        _writers.update(dict.fromkeys(kinds, writer))
        return writer

    return declare


def changes(source: Parsed, remedy: Remedy) -> tuple[Change, ...]:
    """What the remedy changes in the source. Raises NoEdit with the reason where nothing is certain."""
    writer = _known().get(remedy.kind)
    if writer is None:
        raise NoEdit("no edit is known for it")
    if remedy.site is None:
        raise NoEdit("the line that it concerns is not known")
    return writer(source, remedy, remedy.site)


@cache
def _known() -> dict[RemedyKind, Writer]:
    kinds = importlib.import_module("auditor.edits.kinds")
    for module in pkgutil.iter_modules(kinds.__path__):
        importlib.import_module(f"{kinds.__name__}.{module.name}")
    return _writers
