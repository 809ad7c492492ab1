"""Rows that a model was trained on and rows that it is evaluated on, in loops that no loader feeds: are they the same?

A row of numbers is known by a print of its contents: of all that the model is given for it, where that is more than one
tensor, because one half of a pair may come again with another. Text is cut into windows anywhere, so each run of tokens
in it is, and so are series of measured numbers: their windows may overlap.
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
from auditor.probe.rowprints import (
    agreement,
    is_text,
    joint_prints,
    repeats_by_chance,
    row_bits,
    run_prints,
    some_rows,
)
from auditor.probe.windowprints import overlapping_windows, piece_prints

EVERY = 2  # steps
TRAINED_ROWS = 32  # of one training forward
EVALUATED_ROWS = 1024  # of one that evaluates
MOST_EVALUATIONS = 64  # forwards whose rows are kept
MOST_HELD = 512  # looks at windows whose pieces are kept
MOST_LOOKS = 400  # at names in the source
MOST_INPUTS = 4  # of one forward, compared together
FEWEST_STEPS = 5  # trained before an evaluation counts


@dataclass
class _Trained:
    """What one model was trained on: prints by step, kept on their device until the end."""

    rows: dict[int, list[tuple[int, torch.Tensor]]] = field(default_factory=dict)  # by the number of inputs
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
    inputs: int
    agreement: float
    pieces: list[torch.Tensor] = field(default_factory=list)

    def belongs_to(self, other: _Evaluated) -> bool:
        """Of one and the same evaluation."""
        mine, its = ((each.model, each.name, each.text, each.inputs, each.step) for each in (self, other))
        return mine == its


class FedRowsCollector(Collector):
    name = "leakage"  # of loops without loaders; `leakscan` sends that of the others
    looks_on = True

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._trained: dict[int, _Trained] = {}
        # Of the latest forward that may be trained on: its model, its prints by number of inputs, pieces.
        self._pending: tuple[int, list[_Prints], list[torch.Tensor]] | None = None
        self._evaluated: list[_Evaluated] = []
        self._looks = 0
        self._latest: tuple[int, int] = (0, 0)  # where the input of the latest training forward lies, and its size
        self._models: dict[int, nn.Module] = {}  # held, so that no other one gets its id
        self._by_chance: dict[int, bool] = {}  # model -> its rows are a table of codes

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._pending = None
        given = _given(args, kwargs) if self.step % EVERY == 0 else []
        if not given:
            return
        if id(module) not in self._by_chance:
            self._models[id(module)] = module
            self._by_chance[id(module)] = repeats_by_chance(*given)
        if self._by_chance[id(module)]:
            return
        self._latest = (given[0].data_ptr(), given[0].numel())
        # It may be evaluated with fewer inputs than it is trained with: without the targets, for example.
        found = [_prints(given[:count], TRAINED_ROWS, self.step) for count in range(1, len(given) + 1)]
        known = [each for each in found if each is not None and (len(given) == 1 or not each.text)]
        alone = given[0] if len(given) == 1 and self._looks_at_windows(module) else None
        pieces = piece_prints(some_rows(alone, TRAINED_ROWS, self.step)) if alone is not None else []
        self._pending = (id(module), known, pieces) if known else None

    def _looks_at_windows(self, module: nn.Module) -> bool:
        held = self._trained.get(id(module))
        return not self.probe.feed.has_loader and (held is None or len(held.pieces) < MOST_HELD)

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        if self._pending is None:
            return
        model, known, pieces = self._pending
        trained = self._trained.setdefault(model, _Trained())
        for each in known:
            (trained.runs if each.text else trained.rows.setdefault(each.inputs, [])).append((self.step, each.prints))
        if pieces:
            trained.pieces.append((self.step, pieces))
        self._pending = None

    def evaluation_forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if id(module) not in self._trained or self._looks >= MOST_LOOKS or len(self._evaluated) >= MOST_EVALUATIONS:
            return
        self._looks += 1
        given = _given(args, kwargs)
        # The nodes of one graph are trained and evaluated in one forward; which of them count, masks say.
        whole = bool(given) and (given[0].data_ptr(), given[0].numel()) == self._latest
        name = held_out_name(given[0]) if given and not whole else ""
        found = _prints(given, EVALUATED_ROWS, 0) if name else None
        if found is None:
            return
        rows = [some_rows(each, EVALUATED_ROWS, 0) for each in given]
        seen = _Evaluated(
            model=id(module),
            step=self.step,
            name=name,
            text=found.text,
            prints=found.prints,
            rows=given[0].shape[0],
            location=user_location(),
            inputs=found.inputs,
            agreement=1.0 if found.text else agreement(row_bits(rows), found.prints),
            pieces=piece_prints(rows[0]) if len(given) == 1 else [],
        )
        self._evaluated.append(seen)

    def part(self) -> Leakage:
        return Leakage(splits=(), fed=self._compare())

    def _compare(self) -> FedRows:
        late = [each for each in self._evaluated if each.step >= FEWEST_STEPS]
        if not late:
            raise Unavailable("no evaluation of rows that the script calls held-out was seen, outside of loaders")
        latest = max(late, key=lambda each: each.step)
        chosen = [each for each in late if each.belongs_to(latest)]
        trained = self._trained[latest.model]
        before = trained.runs if latest.text else trained.rows.get(latest.inputs, [])
        kept = [prints.cpu() for step, prints in before if step < latest.step]
        if not kept:
            raise Unavailable("what was trained on before the evaluation is not known", "inconclusive")
        apart = [each.prints[each.prints != 0].cpu() for each in chosen]
        prints = torch.cat(apart)
        if not len(prints):
            raise Unavailable("the rows that are evaluated are constant", "inconclusive")
        known = torch.cat(kept)
        again, chance = _repeats(kept)
        before_it = [pieces for step, pieces in trained.pieces if step < latest.step]
        usable, shared = overlapping_windows([each.pieces for each in chosen], before_it)
        return FedRows(
            windows=int(usable.sum()),
            overlapping=int(shared.sum()),
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
            agreement=min(each.agreement for each in chosen),
            inputs=latest.inputs,
            location=latest.location,
        )


@dataclass
class _Prints:
    text: bool
    prints: torch.Tensor
    inputs: int


def _given(args: Any, kwargs: Any) -> list[torch.Tensor]:
    """What the model is given for each row; [] where a part of it was computed with gradients, as states are."""
    given = [each for each in tensors((args, kwargs)) if each.layout == torch.strided and each.dim()]
    alike = [each for each in given if each.shape[0] == given[0].shape[0]]
    if len(alike) > MOST_INPUTS or (len(alike) > 1 and any(each.grad_fn is not None for each in alike)):
        return []
    return alike


def _prints(given: list[torch.Tensor], most: int, turn: int) -> _Prints | None:
    """Of some rows of the model's inputs."""
    given = [some_rows(each, most, turn) for each in given]
    if len(given) == 1 and is_text(given[0]):
        return _Prints(True, run_prints(given[0]), 1)
    found = joint_prints(given)
    return _Prints(False, found, len(given)) if found is not None else None


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
