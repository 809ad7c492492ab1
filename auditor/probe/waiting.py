"""Held-out data sets that wait for the end of the script: no loader has been built for them so far.

They are known by what a variable of the user's module is called, as `test_set`. Variables of functions are left alone:
to read them keeps what they hold alive for as long as the function runs.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from linecache import getlines
from types import FrameType, SimpleNamespace
from typing import Any

from torch.utils.data import Dataset, IterableDataset

from auditor.evidence import Location
from auditor.probe.heldoutnames import HELD_OUT, TRAINED, words
from auditor.probe.locate import is_users
from auditor.probe.parts.program import length
from auditor.probe.program import LoaderSeen

MOST_LAYERS = 16  # of data sets in data sets


def waiting_data_sets(training: list[LoaderSeen]) -> list[LoaderSeen]:
    """As loaders without credits; none of what a training loader hands out, or takes a part of."""
    trained = [inner for seen in training for inner in _layers(seen.loader.dataset)]
    found: list[LoaderSeen] = []
    for scope in _scopes():
        for name, value in [*scope.items()]:
            said = words(name)
            if not isinstance(value, Dataset) or not said & HELD_OUT or said & TRAINED:
                continue
            known = any(value is each for each in (*trained, *(seen.loader.dataset for seen in found)))
            if not known and not isinstance(value, IterableDataset) and length(value):
                place = _bound_at(str(scope.get("__file__", "")), name)
                found.append(LoaderSeen(SimpleNamespace(dataset=value), place, name))
    return found


def _layers(dataset: Any) -> Iterator[Any]:
    for _ in range(MOST_LAYERS):
        yield dataset
        dataset = getattr(dataset, "dataset", None)
        if dataset is None:
            return


def _scopes() -> list[dict[str, Any]]:
    """Modules of the user's whose code is running."""
    found: dict[int, dict[str, Any]] = {}
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            found[id(frame.f_globals)] = frame.f_globals
        frame = frame.f_back
    return [*found.values()]


def _bound_at(file: str, name: str) -> Location | None:
    """The first line of the module that binds the name."""
    try:
        tree = ast.parse("".join(getlines(file)))
    except (SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name:
            return Location(file=file, line=node.lineno)
    return None
