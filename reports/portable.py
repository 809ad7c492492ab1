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

from auditor.evidence import Location
from auditor.result import Audit
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


def portable(audit: Audit) -> Audit:
    """For people: texts and places, below the current folder where they lie there."""
    folders = sorted(Rooted(audit).folders, key=len, reverse=True)
    return _model(audit, _shortener(folders), places=True)


def with_short_texts(audit: Audit) -> Audit:
    """For machines, which get places by `Rooted`: texts only, with paths below the root of the repository."""
    return _model(audit, _shortener(Rooted(audit).folders), places=False)


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


def _model(model: _Model, text: _Text, *, places: bool) -> _Model:
    if isinstance(model, Location):
        return model.model_copy(update={"file": text(model.file)}) if places else model
    changed = {}
    for name, value in model.__dict__.items():
        new = value if name in _KEPT else _value(value, text, places)
        if new is not value:
            changed[name] = new
    return model.model_copy(update=changed) if changed else model


def _value(value: Any, text: _Text, places: bool) -> Any:
    """The same object where nothing in it names a folder."""
    if isinstance(value, str):
        new = text(value)
        return value if new == value else new
    if isinstance(value, BaseModel):
        return _model(value, text, places=places)
    if isinstance(value, tuple) and value and not isinstance(value[0], int | float):  # curves have no text
        items = tuple(_value(item, text, places) for item in value)
        return value if all(a is b for a, b in zip(items, value, strict=True)) else items
    if isinstance(value, Mapping):
        made = {key: _value(item, text, places) for key, item in value.items()}
        return value if all(made[key] is item for key, item in value.items()) else made
    return value
