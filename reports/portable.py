"""An audit without the folders of the machine that it was made on: files are named below the project, the installed
packages or the standard library, wherever a text, a traceback or a place names them.

Reports are sent around, and where somebody's home is says nothing about the training. The JSON report keeps places as
they are: `audit judge` and `audit fix` read the sources there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel

from auditor.compare import Difference
from auditor.evidence import Location
from auditor.result import Audit, ReportedFinding
from auditor.rooted import Rooted

_Model = TypeVar("_Model", bound=BaseModel)
_Text = Callable[[str], str]

_BEFORE = r"(?<![\w./~:-])"  # what a path does not follow: an address, or the rest of a path
_PART = r"[^\s\"'<>|:]*"
_INSTEAD = (
    (re.compile(r"(?<=File \")[^\"]*[\\/](?:site|dist)-packages[\\/]"), ""),  # also with blanks
    (re.compile(_BEFORE + r"(?:[A-Za-z]:)?[\\/]" + _PART + r"(?:site|dist)-packages[\\/]"), ""),
    (re.compile(_BEFORE + r"/" + _PART + r"lib/python3\.\d+/(?=\w)"), ""),
    (re.compile(_BEFORE + r"/(?:home|Users)/[^\s/\"'<>|:]+/"), "~/"),
    (re.compile(_BEFORE + r"/root/"), "~/"),
)
# What was typed, what is applied or copied as it is, and what knows no machine.
_KEPT = frozenset({"target", "args", "diff", "source", "references", "thumbnail", "held_out_thumbnail"})


def portable(audit: Audit, difference: Difference | None = None) -> tuple[Audit, Difference | None]:
    """For people: texts and places, below the current folder where they lie there. A difference tells its findings from
    equal ones, so both are changed together."""
    walk = _Walk(_shortener(sorted(Rooted(audit).folders, key=len, reverse=True)), places=True)
    return walk.model(audit), walk.model(difference) if difference is not None else None


def with_short_texts(audit: Audit, difference: Difference | None = None) -> tuple[Audit, Difference | None]:
    """For machines, which get places by `Rooted`: texts only, with paths below the root of the repository."""
    walk = _Walk(_shortener(Rooted(audit).folders), places=False)
    return walk.model(audit), walk.model(difference) if difference is not None else None


def _shortener(folders: Sequence[str]) -> _Text:
    ours = re.compile(_BEFORE + "(?:" + "|".join(re.escape(f"{each}/") for each in folders) + ")") if folders else None

    @lru_cache(maxsize=4096)
    def short(text: str) -> str:
        if "/" not in text and "\\" not in text:
            return text
        text = ours.sub("", text) if ours is not None else text
        for pattern, instead in _INSTEAD:
            text = pattern.sub(instead, text)
        return text

    return short


class _Walk:
    """Changes every text of a model. What names no folder stays the same object, and what does becomes one new one."""

    def __init__(self, text: _Text, *, places: bool) -> None:
        self._text, self._places = text, places
        self._made: dict[int, tuple[ReportedFinding, ReportedFinding]] = {}  # with the old one, to keep its id taken

    def model(self, model: _Model) -> _Model:
        if isinstance(model, Location) and not self._places:
            return model
        if isinstance(model, ReportedFinding):
            if id(model) not in self._made:
                self._made[id(model)] = (model, self._changed(model))
            return self._made[id(model)][1]  # type: ignore[return-value]
        return self._changed(model)

    def _changed(self, model: _Model) -> _Model:
        old = {name: getattr(model, name) for name in type(model).model_fields}
        new = {name: value if name in _KEPT else self._value(value) for name, value in old.items()}
        same = all(new[name] is value for name, value in old.items())
        return model if same else type(model).model_construct(model.model_fields_set, **new)

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            new = self._text(value)
            return value if new == value else new
        if isinstance(value, BaseModel):
            return self.model(value)
        if isinstance(value, tuple) and value and not isinstance(value[0], int | float):  # curves have no text
            items = tuple(map(self._value, value))
            return value if all(a is b for a, b in zip(items, value, strict=True)) else items
        if isinstance(value, Mapping):
            made = {key: self._value(item) for key, item in value.items()}
            return value if all(made[key] is item for key, item in value.items()) else made
        return value
