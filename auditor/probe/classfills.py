"""Columns of a table whose gaps were filled by means of the target: the one value that comes again and again in the
rows of a class is never found in those of another, while the measured values all differ."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from auditor.evidence import ClassFill, Location

MOST_ROWS = 2048
MOST_COLUMNS = 512
MOST_CLASSES = 50
FEWEST_ROWS = 10  # of a class
FEWEST_FILLED = 5  # rows of a class with its value
FEWEST_MEASURED = 5  # rows of a class with a value of their own
REPEATED = 3  # times, for a value to be looked at
DISTINCT = 0.9  # share of the other values that come once: a column of measurements
WITHIN = 0.05  # share of a class's measured values that lie on either side of its own: limits of a sensor are no fill


class ClassFills:
    """Rows of a table with the classes that go with them, from the sampled steps."""

    def __init__(self) -> None:
        self._rows: list[torch.Tensor] = []
        self._classes: list[torch.Tensor] = []
        self._count = 0
        self._location: Location | None = None

    def note(self, given: torch.Tensor, wanted: torch.Tensor, location: Location | None = None) -> None:
        """`wanted`: (rows, columns of the target)."""
        fits = given.dim() == 2 and given.shape[1] <= MOST_COLUMNS and wanted.shape[1] == 1
        if not fits or self._count >= MOST_ROWS or (self._rows and self._rows[0].shape[1] != given.shape[1]):
            return
        self._rows.append(given.detach().clone())
        self._classes.append(wanted[:, 0].detach().clone())
        self._count += len(given)
        self._location = self._location or location

    def found(self) -> tuple[ClassFill, ...]:
        if not self._rows:
            return ()
        classes = torch.cat(self._classes).double().cpu()
        kinds = torch.unique(classes)
        if not 2 <= len(kinds) <= MOST_CLASSES or bool((classes != classes.round()).any()):
            return ()
        rows, place = torch.unique(torch.cat(self._rows).double().cpu(), dim=0, return_inverse=True)
        first = torch.zeros(len(rows), dtype=torch.long).scatter_(0, place, torch.arange(len(place)))
        # A row that came twice counts once.
        return tuple(_filled(rows, classes[first], kinds, self._location))


def _filled(
    rows: torch.Tensor, classes: torch.Tensor, kinds: torch.Tensor, location: Location | None
) -> Iterator[ClassFill]:
    large = [kind for kind in kinds if int((classes == kind).sum()) >= FEWEST_ROWS]
    if len(large) < 2:
        return
    for column in range(rows.shape[1]):
        values = rows[:, column]
        fills = _fills(values, classes, large)
        if fills is not None:
            filled = torch.isin(values, fills)
            yield ClassFill(
                column=column, classes=len(large), rows=len(rows), filled=int(filled.sum()), location=location
            )


def _fills(values: torch.Tensor, classes: torch.Tensor, kinds: list[torch.Tensor]) -> torch.Tensor | None:
    """The value of each class, in their order; None where this is no such column."""
    distinct, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    often = counts >= REPEATED
    if int(often.sum()) != len(kinds) or not bool(values.isfinite().all()):
        return None
    alone = ~often[place]
    if int((counts == 1).sum()) < DISTINCT * int(alone.sum()):
        return None
    found = []
    for kind in kinds:
        own = values[classes == kind]
        candidates = distinct[often & torch.isin(distinct, own)]
        measured = values[alone & (classes == kind)]
        if len(candidates) != 1 or len(measured) < FEWEST_MEASURED or int((own == candidates).sum()) < FEWEST_FILLED:
            return None
        below, above = float((measured < candidates).double().mean()), float((measured > candidates).double().mean())
        if min(below, above) < WITHIN:
            return None
        found.append(candidates)
    fills = torch.cat(found)
    return fills if len(torch.unique(fills)) == len(kinds) else None
