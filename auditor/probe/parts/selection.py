"""What the program decides right after an evaluation: which weights to keep, which rate to train at."""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from auditor.evidence import Choice, Location, Selection
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, LoopCall, Unavailable
from auditor.probe.heldoutnames import nearest_name
from auditor.probe.improvement import guarding_metric
from auditor.probe.locate import user_location
from auditor.probe.program import LoaderSeen
from auditor.probe.samples import unwrap

MOST_SETS = 4  # of data, between two training steps
MOST_LOOKS = 400  # at names in the source
SPLITS = ("split", "subset", "mode", "phase", "partition")


class SelectionCollector(Collector):
    name = "selection"
    looks_on = True

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._passes: dict[int, set[int]] = {}  # id of a loader's record -> steps at which a pass began
        self._evaluated = False  # since the latest training forward
        self._since: list[str] = []  # what was evaluated since then, as the source calls it; '' unknown
        self._fed: dict[str, set[int]] = {}  # data that no loader hands out -> steps at which it was evaluated
        self._from_loader = False  # since then, a held-out loader was asked
        self._looks = 0
        self._choices: dict[tuple[str, Location | None], Choice] = {}

    def pass_started(self, seen: LoaderSeen) -> None:
        self._passes.setdefault(id(seen), set()).add(self.step)
        if not seen.training_credits:
            self._from_loader = True
            self._since.append(seen.name)

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._evaluated = self._from_loader = False
        self._since = []

    def evaluation_forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._evaluated = True
        if not self._from_loader and len(self._since) < MOST_SETS:
            self._named(next(tensors((args, kwargs)), None))

    def _named(self, given: torch.Tensor | None) -> None:
        """What the calls that led here say of the data; what is trained on is left out."""
        self._looks += 1
        name, trained = nearest_name(given) if given is not None and self._looks <= MOST_LOOKS else ("", False)
        if trained:
            return
        if name not in self._since:
            self._since.append(name)
        if name:
            self._fed.setdefault(name, set()).add(self.step)

    def weights_read(self, module: nn.Module) -> None:
        metric = guarding_metric() if self._evaluated else ""
        if metric:
            self._chosen("checkpoint", metric)

    def loop_call(self, what: LoopCall, subject: Any) -> None:
        if what == "scheduler_step" and isinstance(subject, ReduceLROnPlateau) and self._evaluated:
            self._chosen("schedule", type(subject).__name__)

    def _chosen(self, what: Any, metric: str) -> None:
        location = user_location()
        known = self._choices.get((what, location))
        calls = known.calls + 1 if known is not None else 1
        by = (*(known.by if known is not None else ()), *self._since)
        self._choices[what, location] = Choice(
            what=what, metric=metric, calls=calls, by=tuple(dict.fromkeys(by)), location=location
        )

    def part(self) -> Selection:
        others = [seen for seen in self.probe.program.loaders if not seen.training_credits]
        used = [seen for seen in others if seen.held_out_credits]
        if not used:
            return self._without_loader()
        evaluated = max(used, key=lambda seen: len(self._passes.get(id(seen), ())))
        names, official = _names(evaluated)
        return Selection(
            loaders=tuple(seen.name for seen in others),
            evaluated=evaluated.name,
            names=names,
            official=official,
            evaluations=len(self._passes.get(id(evaluated), ())),
            choices=tuple(self._choices.values()),
            location=evaluated.location,
        )

    def _without_loader(self) -> Selection:
        """Data that are evaluated without a loader, `accuracy(model, x_test)`, where the choices tell by which."""
        choices = tuple(each for each in self._choices.values() if each.by and "" not in each.by)
        named = [name for choice in choices for name in choice.by] or [*self._fed]
        if not named:
            raise Unavailable("no held-out loader was used, and no evaluation of data that the source calls held out")
        return Selection(
            loaders=(),
            evaluated=named[0],
            names=tuple(dict.fromkeys(named)),
            evaluations=len(self._fed.get(named[0], ())),
            choices=choices,
        )


def _names(seen: LoaderSeen) -> tuple[tuple[str, ...], bool]:
    """(what the source calls the data of a loader, whether the dataset says that it is a test split)."""
    names = [seen.name]
    if seen.location is not None:
        names.append(_first_argument(seen.location.file, seen.location.line))
    base, _ = unwrap(getattr(seen.loader, "dataset", None))
    said = [str(getattr(base, name)) for name in SPLITS if isinstance(getattr(base, name, None), str)]
    names += said
    official = getattr(base, "train", None) is False or "test" in said
    return tuple(dict.fromkeys(name for name in names if name)), official


@lru_cache(maxsize=64)
def _first_argument(file: str, line: int) -> str:
    """Source of the dataset that a DataLoader call in this line is given, '' when it cannot be told."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError, RecursionError):
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.lineno <= line <= (node.end_lineno or node.lineno):
            given = node.args[:1] or [keyword.value for keyword in node.keywords if keyword.arg == "dataset"]
            if "Loader" in ast.unparse(node.func) and given:
                return ast.unparse(given[0])[:80]
    return ""
