"""What the program decides right after an evaluation: which weights to keep, which rate to train at."""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from auditor.evidence import Choice, Location, Selection
from auditor.probe.collect import Collector, LoopCall, Unavailable
from auditor.probe.improvement import guarding_metric
from auditor.probe.locate import user_location
from auditor.probe.program import LoaderSeen
from auditor.probe.samples import unwrap

SPLITS = ("split", "subset", "mode", "phase", "partition")


class SelectionCollector(Collector):
    name = "selection"
    looks_on = True

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._passes: dict[int, set[int]] = {}  # id of a loader's record -> steps at which a pass began
        self._evaluated = False  # since the latest training forward
        self._choices: dict[tuple[str, Location | None], Choice] = {}

    def pass_started(self, seen: LoaderSeen) -> None:
        self._passes.setdefault(id(seen), set()).add(self.step)

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._evaluated = False

    def evaluation_forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._evaluated = True

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
        self._choices[what, location] = Choice(what=what, metric=metric, calls=calls, location=location)

    def part(self) -> Selection:
        others = [seen for seen in self.probe.program.loaders if not seen.training_credits]
        used = [seen for seen in others if seen.held_out_credits]
        if not used:
            raise Unavailable("no held-out loader was used")
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
