"""What a remedy is in a replay, and what the modules beside this one build it from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from auditor.evidence import Location, Metric, Remedy
from auditor.probe.callchange import CallChange
from auditor.probe.contamination import Contamination
from auditor.probe.examination import Examination
from auditor.probe.replay import NotRun


@dataclass
class Treatment:
    """Fields of the treated arm's Replay, and what makes the two arms' losses comparable."""

    fields: dict[str, Any] = field(default_factory=dict)
    unit: float = 1.0  # the loss as it is, divided by this, is in the unit of the treated one
    met: list[list[str]] = field(default_factory=list)  # of each change of calls: the first one that it concerned
    metric: Metric = "loss"  # of both arms; not the loss where the treatment changes its meaning
    otherwise: Metric = "loss"  # where the metric is one that the treatment measures itself, and turns out unknown
    shared: dict[str, Any] = field(default_factory=dict)  # of both arms: how to measure what no replay measures
    # The figure as it is and with the remedy, of the same weights: for what concerns answers and not training. A model
    # that does not have what the figure is of raises NotRun.
    gauge: Callable[[Examination], tuple[float, float]] | None = None
    contamination: Contamination | None = None  # what is left out of the held-out data


def amount(remedy: Remedy) -> float:
    if remedy.amount is None or not remedy.amount > 0:
        raise NotRun("the remedy does not say by how much")
    return remedy.amount


def is_at(site: Location | None, place: Location | None) -> bool:
    return site is not None and place is not None and (site.file, site.line) == (place.file, place.line)


def changing(change: CallChange, metric: Metric = "loss") -> Treatment:
    """Counts the calls that it meets: a change of calls that never come is no trial."""
    met: list[str] = []

    def counted(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = change(name, function, args, kwargs)
        if result is not NotImplemented and not met:
            met.append(name)
        return result

    return Treatment({"calls": counted}, metric=metric, met=[met])
