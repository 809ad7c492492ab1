"""Rows that a model was trained on and rows that it is evaluated on, in loops that no loader feeds: are they the same?

A row of numbers is known by a print of its contents. Text is cut into windows anywhere, so each run of tokens in it is,
and so are series of measured numbers: their windows may overlap.
Only evaluations whose data the script itself calls held-out count, by a name in the call: `accuracy(model, x_test)`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from auditor.evidence import FedRows, Leakage, Location
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.heldoutnames import held_out_name
from auditor.probe.locate import user_location
from auditor.probe.rowprints import is_text, piece_prints, repeats_by_chance, row_prints, run_prints, some_rows

EVERY = 2  # steps
TRAINED_ROWS = 32  # of one training forward
EVALUATED_ROWS = 1024  # of one that evaluates
MOST_EVALUATIONS = 64  # forwards whose rows are kept
MOST_HELD = 512  # looks at windows whose pieces are kept
MOST_LOOKS = 400  # at names in the source
FEWEST_STEPS = 5  # trained before an evaluation counts


@dataclass
class _Trained:
    """What one model was trained on: prints by step, kept on their device until the end."""

    rows: list[tuple[int, torch.Tensor]] = field(default_factory=list)
    runs: list[tuple[int, torch.Tensor]] = field(default_factory=list)
    pieces: list[tuple[int, list[torch.Tensor]]] = field(default_factory=list)  # of windows, by axis


@dataclass
class _Evaluated:
    model: int
    step: int
    name: str
    text: bool
    prints: torch.Tensor
    rows: int
    location: Location | None
    pieces: list[torch.Tensor] = field(default_factory=list)

    def belongs_to(self, other: _Evaluated) -> bool:
        """Of one and the same evaluation."""
        mine, its = ((each.model, each.name, each.text, each.step) for each in (self, other))
        return mine == its


class FedRowsCollector(Collector):
    name = "leakage"  # of loops without loaders; `leakscan` sends that of the others
    looks_on = True

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._trained: dict[int, _Trained] = {}
        # Of the latest forward that may be trained on: its model, whether it is text, prints, pieces.
        self._pending: tuple[int, bool, torch.Tensor, list[torch.Tensor]] | None = None
        self._evaluated: list[_Evaluated] = []
        self._looks = 0
        self._latest: tuple[int, int] = (0, 0)  # where the input of the latest training forward lies, and its size
        self._models: dict[int, nn.Module] = {}  # held, so that no other one gets its id
        self._by_chance: dict[int, bool] = {}  # model -> its rows are a table of codes

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._pending = None
        given = _first(args, kwargs) if self.step % EVERY == 0 else None
        if given is None:
            return
        if id(module) not in self._by_chance:
            self._models[id(module)] = module
            self._by_chance[id(module)] = repeats_by_chance(given)
        if self._by_chance[id(module)]:
            return
        self._latest = (given.data_ptr(), given.numel())
        found = _prints(given, TRAINED_ROWS, self.step)
        pieces = piece_prints(some_rows(given, TRAINED_ROWS, self.step)) if self._looks_at_windows(module) else []
        self._pending = (id(module), *found, pieces) if found is not None else None

    def _looks_at_windows(self, module: nn.Module) -> bool:
        held = self._trained.get(id(module))
        return not self.probe.feed.has_loader and (held is None or len(held.pieces) < MOST_HELD)

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        if self._pending is None:
            return
        model, text, prints, pieces = self._pending
        trained = self._trained.setdefault(model, _Trained())
        (trained.runs if text else trained.rows).append((self.step, prints))
        if pieces:
            trained.pieces.append((self.step, pieces))
        self._pending = None

    def evaluation_forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if id(module) not in self._trained or self._looks >= MOST_LOOKS or len(self._evaluated) >= MOST_EVALUATIONS:
            return
        self._looks += 1
        given = _first(args, kwargs)
        # The nodes of one graph are trained and evaluated in one forward; which of them count, masks say.
        whole = given is not None and (given.data_ptr(), given.numel()) == self._latest
        name = held_out_name(given) if given is not None and not whole else ""
        found = _prints(given, EVALUATED_ROWS, 0) if given is not None and name else None
        if found is not None and given is not None:
            place = user_location()
            pieces = piece_prints(some_rows(given, EVALUATED_ROWS, 0))
            self._evaluated.append(_Evaluated(id(module), self.step, name, *found, given.shape[0], place, pieces))

    def part(self) -> Leakage:
        return Leakage(splits=(), fed=self._compare())

    def _compare(self) -> FedRows:
        late = [each for each in self._evaluated if each.step >= FEWEST_STEPS]
        if not late:
            raise Unavailable("no evaluation of rows that the script calls held-out was seen, outside of loaders")
        latest = max(late, key=lambda each: each.step)
        chosen = [each for each in late if each.belongs_to(latest)]
        trained = self._trained[latest.model]
        kept = [prints.cpu() for step, prints in (trained.runs if latest.text else trained.rows) if step < latest.step]
        if not kept:
            raise Unavailable("what was trained on before the evaluation is not known", "inconclusive")
        apart = [each.prints[each.prints != 0].cpu() for each in chosen]
        prints = torch.cat(apart)
        if not len(prints):
            raise Unavailable("the rows that are evaluated are constant", "inconclusive")
        known = torch.cat(kept)
        again, chance = _repeats(kept)
        windows, overlapping = _windows(chosen, [pieces for step, pieces in trained.pieces if step < latest.step])
        return FedRows(
            windows=windows,
            overlapping=overlapping,
            name=latest.name,
            text=latest.text,
            step=latest.step,
            rows=sum(each.rows for each in chosen),
            compared=len(prints),
            found=int(torch.isin(prints, known).sum()),
            trained=len(torch.unique(known)),
            repeated=again,
            chance=chance,
            own=sum(len(each) - len(torch.unique(each)) for each in apart) / len(prints),
            location=latest.location,
        )


def _first(args: Any, kwargs: Any) -> torch.Tensor | None:
    """The model's only input; None where there are several with as many rows: each of a pair may come again."""
    given = [each for each in tensors((args, kwargs)) if each.layout == torch.strided and each.dim()]
    alike = [each for each in given if each.shape[0] == given[0].shape[0]]
    return given[0] if len(alike) == 1 else None


def _prints(given: torch.Tensor, most: int, turn: int) -> tuple[bool, torch.Tensor] | None:
    """(whether it is text, prints) of some rows of the model's first input."""
    if not given.dim():
        return None
    given = some_rows(given, most, turn)
    if is_text(given):
        return True, run_prints(given)
    found = row_prints(given)
    return (False, found) if found is not None else None


def _windows(evaluated: list[_Evaluated], trained: list[list[torch.Tensor]]) -> tuple[int, int]:
    """(windows, of these with both ends inside windows that were trained on), along the axis with most of these. An
    end at the same place in its window is no overlap, but the same data; and where test follows training in time, only
    the first steps of a window may have been trained on."""
    best = (0, 0)
    for axis in range(min((len(each.pieces) for each in evaluated), default=0)):
        known = [pieces[axis].cpu() for pieces in trained if len(pieces) > axis]
        if not known:
            continue
        inner, outer = torch.cat([t[:, 1:].flatten() for t in known]), torch.cat([t[:, :-1].flatten() for t in known])
        pieces = torch.cat([each.pieces[axis].cpu() for each in evaluated])
        first, last = pieces[:, 0], pieces[:, -1]
        usable = (first != 0) & (last != 0) & ~_repeating(pieces)
        shared = torch.isin(first, inner) & torch.isin(last, outer) & usable
        best = max(best, (int(usable.sum()), int(shared.sum())), key=lambda pair: (pair[1], pair[0]))
    return best


def _repeating(pieces: torch.Tensor) -> torch.Tensor:
    """(rows,) bool: some stretch of a window comes twice in it, as in a signal that is exactly periodic."""
    ordered = pieces.sort(1).values
    return ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != 0)).any(1)


def _repeats(steps: list[torch.Tensor]) -> tuple[float, float]:
    """Of what the last fifth of the steps was fed, the share that earlier steps were fed, and the share of the second
    step that the first one was fed: what is left of it when hardly any row has come twice."""
    early, late = steps[: -max(1, len(steps) // 5)], steps[-max(1, len(steps) // 5) :]
    if not early:
        return 0.0, 0.0
    last = torch.cat(late)
    again = float(torch.isin(last, torch.cat(early)).double().mean()) if len(last) else 0.0
    chance = float(torch.isin(steps[1], steps[0]).double().mean()) if len(steps) > 1 and len(steps[1]) else 0.0
    return again, chance
