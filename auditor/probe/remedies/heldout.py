"""Remedies of held-out data that training knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from auditor.evidence import Remedy, RemedyKind
from auditor.probe.groupscan import scan_groups
from auditor.probe.leakscan import scan
from auditor.probe.nearscan import scan_near_duplicates
from auditor.probe.remedies.treatment import Treatment
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

_SCANS: dict[RemedyKind, tuple[str, Callable[[Probe], object]]] = {
    RemedyKind.DROP_KNOWN: ("leakage", scan),
    RemedyKind.DROP_TWINS: ("near_duplicates", scan_near_duplicates),
    RemedyKind.DROP_GROUPS: ("groups", scan_groups),
}


def drop(probe: Probe, remedy: Remedy) -> Treatment:
    """The figure is a held-out loss with and without the samples concerned; the loop itself stays as it is."""
    place = (remedy.kind, remedy.subject)
    part, look = _SCANS[remedy.kind]
    if place not in probe.contaminated and not probe.spec.wants(part):
        look(probe)  # an earlier start has compared the data sets, and this one not
    if place not in probe.contaminated:
        raise NotRun("there is no loader that tells which of the held-out samples it concerns")
    return Treatment(metric="error of the held-out loss", contamination=probe.contaminated[place])
