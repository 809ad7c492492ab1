"""Columns of a table, or the last step of windows, that are a moving mean of the target with its own value in it.

A forecaster's rows are successive where one holds the other's target as a lag, bit for bit, or is the same window moved
on by a step. In that order the targets are a series again, and a column that a mean was taken for is, to rounding, a
weighted sum of the targets around its row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import torch

from auditor.evidence import Location, TargetWindow

MOST_ROWS = 20_000
MOST_VALUES = 2**22
MOST_COLUMNS = 256
MOST_TABLES = 3  # that are looked at for the one that the rows are taken from
MOST_LAGS = 4  # columns that hold the target of another row, that are tried for an order
FEWEST_LINKED = 0.3  # share of the rows whose predecessor was seen
MOST_FITTED = 2048  # rows
FEWEST_ROWS = 64  # with all their neighbours, and at least three for each weight
SPANS = ((7, 0), (3, 3), (31, 0), (15, 15))  # rows before and behind, that a mean may be taken over
DISTINCT = 0.5  # share of different values: a measured quantity
EXACT = 1e-4  # residual, over the column's spread, of what is a sum of the targets to rounding
APART = 0.01  # residual, where the row's own target is left out, of what needs it
SMALLEST_SHARE = 0.01  # of a target in all weights, for it to be one of those that the mean is taken over


@dataclass
class _Table:
    rows: torch.Tensor  # (rows, columns), or windows (rows, steps, features)
    targets: torch.Tensor  # (rows,)


class TargetWindows:
    """Rows as they are fed, or the whole table that they are taken from, where it lies ready."""

    def __init__(self) -> None:
        self._rows: list[torch.Tensor] = []
        self._targets: list[torch.Tensor] = []
        self._values = 0
        self._table: _Table | None = None
        self._tables_seen = 0
        self._location: Location | None = None

    def wants(self, given: torch.Tensor) -> bool:
        fits = given.dim() in (2, 3) and given[0].numel() and given.shape[-1] <= MOST_COLUMNS
        new = not self._rows or self._rows[0].shape[1:] == given.shape[1:]
        return bool(fits) and new and self._table is None and self._values + given.numel() <= MOST_VALUES

    def note(self, given: torch.Tensor, wanted: torch.Tensor, location: Location | None) -> None:
        """`wanted`: (rows, columns of the target)."""
        if wanted.shape[1] == 1 and wanted.is_floating_point() and self.wants(given):
            self._rows.append(given.detach().clone())
            self._targets.append(wanted[:, 0].detach().clone())
            self._values += given.numel()
            self._location = self._location or location

    @property
    def asks_for_table(self) -> bool:
        return bool(self._rows) and self._table is None and self._tables_seen < MOST_TABLES

    def note_table(self, given: torch.Tensor, wanted: torch.Tensor) -> None:
        """What the rows are taken from. It is looked at, not kept, when the observation ends."""
        self._tables_seen += 1
        if self._rows and self._table is None and given.shape[1:] == self._rows[0].shape[1:]:
            self._table = _Table(given, wanted.reshape(len(wanted), -1)[:, 0])

    def found(self) -> tuple[TargetWindow, ...]:
        if not self._rows:
            return ()
        table = self._table or _Table(torch.cat(self._rows), torch.cat(self._targets))
        most = min(MOST_ROWS, max(1, MOST_VALUES // table.rows[0].numel()))
        rows, place = _once(table.rows[:most].detach().cpu(), table.targets[:most].detach().cpu())
        return tuple(self._in_order(rows, place))[:1]

    def _in_order(self, rows: torch.Tensor, targets: torch.Tensor) -> Iterator[TargetWindow]:
        if len(rows) < FEWEST_ROWS or not _is_measured(targets):
            return
        columns = (rows if rows.dim() == 2 else rows[:, -1]).double()
        measured = [column for column in range(columns.shape[1]) if _is_measured(columns[:, column])]
        for before in chain(_by_lags(columns, measured, targets) if rows.dim() == 2 else (), _by_overlap(rows)):
            for past, future in SPANS:
                for column, weights in _sums(columns, measured, targets.double(), before, past, future):
                    yield TargetWindow(
                        shape=tuple(rows.shape[1:]),
                        column=column,
                        rows=len(weights.rows),
                        weights=weights.numbers,
                        past=past,
                        location=self._location,
                    )


@dataclass
class _Weights:
    numbers: tuple[float, ...]  # of the targets from `past` rows before to `future` rows behind
    rows: list[int]


def _once(rows: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Without rows that came twice."""
    _, place = torch.unique(targets, return_inverse=True)
    first = torch.full((int(place.max()) + 1,), len(targets)).scatter_reduce_(
        0, place, torch.arange(len(targets)), "amin"
    )
    kept = first.sort().values
    return rows[kept], targets[kept]


def _is_measured(values: torch.Tensor) -> bool:
    return bool(values.isfinite().all()) and len(torch.unique(values)) >= DISTINCT * len(values)


def _matched(wanted: torch.Tensor, among: torch.Tensor) -> torch.Tensor:
    """For each value the place of the same one, bit for bit; -1 where there is none. `among` holds each value once."""
    values, order = among.sort()
    near = torch.searchsorted(values, wanted.contiguous()).clamp(max=len(values) - 1)
    return torch.where(values[near] == wanted, order[near], -1)


def _by_lags(columns: torch.Tensor, measured: list[int], targets: torch.Tensor) -> Iterator[torch.Tensor]:
    """(rows,) the row before each one, by the columns that hold the target of another row."""
    tried = 0
    for column in measured:
        before = _matched(columns[:, column].to(targets.dtype), targets)
        own = before == torch.arange(len(before))
        if float((before >= 0).double().mean()) < FEWEST_LINKED or bool(own.any()):
            continue
        yield before
        tried += 1
        if tried == MOST_LAGS:
            return


def _by_overlap(windows: torch.Tensor) -> Iterator[torch.Tensor]:
    """The same of windows of a series: all but the last step of one are all but the first of the next."""
    if windows.shape[1] < 3:
        return
    keys, place = torch.unique(
        torch.cat([windows[:, :-1].flatten(1), windows[:, 1:].flatten(1)]), dim=0, return_inverse=True
    )
    head, tail = place[: len(windows)], place[len(windows) :]
    ends = torch.full((len(keys),), -1).scatter_(0, tail, torch.arange(len(windows)))
    before = ends[head]
    if float((before >= 0).double().mean()) >= FEWEST_LINKED and not bool((before == torch.arange(len(before))).any()):
        yield before


def _neighbours(before: torch.Tensor, past: int, future: int) -> torch.Tensor:
    """(rows, past + 1 + future) places of each row's neighbours in the series, those before it first; -1: not seen."""
    behind = torch.full_like(before, -1)
    known = before >= 0
    behind[before[known]] = torch.arange(len(before))[known]
    places = [torch.arange(len(before))]
    for link, steps in ((before, past), (behind, future)):
        at = torch.arange(len(before))
        for _ in range(steps):
            at = torch.where(at >= 0, link[at.clamp(min=0)], -1)
            places.insert(0, at) if link is before else places.append(at)
    return torch.stack(places, 1)


def _sums(
    columns: torch.Tensor, measured: list[int], targets: torch.Tensor, before: torch.Tensor, past: int, future: int
) -> Iterator[tuple[int, _Weights]]:
    """Columns that are a mean of the targets around their row, its own among them, and no sum of the others."""
    places = _neighbours(before, past, future)
    whole = (places >= 0).all(1).nonzero()[:MOST_FITTED, 0]
    if len(whole) < max(FEWEST_ROWS, 3 * places.shape[1]) or not measured:
        return
    around = targets[places[whole]]
    around = around - around.mean()
    wanted = columns[whole][:, measured]
    wanted = (wanted - wanted.mean(0)) / wanted.std(0).clamp(min=1e-12)
    weights, residual = _fitted(around, wanted)
    _, without = _fitted(torch.cat([around[:, :past], around[:, past + 1 :]], 1), wanted)
    for index, column in enumerate(measured):
        numbers = weights[:, index]
        if residual[index] > EXACT or without[index] < APART:
            continue
        numbers = numbers if float(numbers.sum()) > 0 else -numbers
        size = float(numbers.abs().sum())
        several = int((numbers > SMALLEST_SHARE * size).sum()) >= 2
        if several and float(numbers.min()) > -EXACT * size and float(numbers[past]) >= SMALLEST_SHARE * size:
            yield column, _Weights(tuple((numbers / size).tolist()), whole.tolist())


def _fitted(given: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(weights without the constant's, root mean square of what is left of each column)."""
    inputs = torch.cat([given, torch.ones(len(given), 1, dtype=given.dtype)], 1)
    found = torch.linalg.lstsq(inputs, wanted, driver="gelsd").solution
    return found[:-1], (wanted - inputs @ found).square().mean(0).sqrt()
