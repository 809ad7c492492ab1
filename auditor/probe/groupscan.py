"""Which groups (patients, speakers, users) have samples on both sides of a split, by the key that the user declares, or
by a field of the samples whose name says whose they are."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from auditor.evidence import GroupOverlap, Groups, GroupSplit, RemedyKind
from auditor.probe.contamination import keep
from auditor.probe.groupnames import named_key, told_by_group
from auditor.probe.parts.program import length
from auditor.probe.program import LoaderSeen, chosen
from auditor.probe.randomness import RandomState
from auditor.probe.samples import item_label, unwrap

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

SECONDS = 5.0
TIME_SHARE = 0.05  # of what is left of the budget
EXAMPLES = 5
UNDECLARED = (
    "no group key is declared; name the column, field or attribute of the data set that tells whose sample it is in "
    'pyproject.toml: [tool.auditor] group-key = "patient_id"'
)


class _Unknown(Exception):
    """The groups of a data set cannot be told; the text says why."""


def scan_groups(probe: Probe) -> None:
    """Send the part `groups`, or why there is none."""
    declared = probe.spec.group_key
    splits = [record for record in probe.program.loaders if getattr(record.loader, "dataset", None) is not None]
    training = [record for record in splits if record.training_credits]
    held_out = [record for record in splits if record.is_held_out]
    if not training or not held_out:
        reason = "no training and held-out loaders were seen to compare" if declared else UNDECLARED
        probe.sink.absent("groups", "not-applicable", reason)
        return
    left = max(0.0, probe.spec.deadline - time.monotonic())
    until = time.monotonic() + min(SECONDS, TIME_SHARE * left)
    noise = RandomState.capture()
    with probe.paused():
        try:
            part = (
                _declared(probe, declared, training, held_out, until)
                if declared
                else _named(probe, training, held_out, until)
            )
        except Exception as why:  # reading samples runs the user's own code, which may do anything
            if not declared:
                probe.sink.absent("groups", "not-applicable", UNDECLARED)
                return
            reason = str(why) if isinstance(why, _Unknown) else f"reading them failed: {type(why).__name__}: {why}"
            probe.sink.absent("groups", "inconclusive", reason)
            return
        finally:
            noise.restore()
    probe.sink.part("groups", part)


def _declared(probe: Probe, key: str, training: list[LoaderSeen], held_out: list[LoaderSeen], until: float) -> Groups:
    read = {id(record): group_ids(record.loader, key, until) for record in [*training, *held_out]}
    return _compare(probe, key, training, held_out, read)


def _named(probe: Probe, training: list[LoaderSeen], held_out: list[LoaderSeen], until: float) -> Groups:
    """By a key that nobody declared, which counts where it tells the label. Raises _Unknown."""
    key = named_key(training[0].loader.dataset)
    if not key:
        raise _Unknown(UNDECLARED)
    read = {id(record): group_ids(record.loader, key, until) for record in [*training, *held_out]}
    groups: list[str] = []
    labels: list[str] = []
    for record in [*training, *held_out]:
        dataset, part = record.loader.dataset, chosen(record.loader)
        for position, group in enumerate(read[id(record)][0]):
            groups.append(group)
            labels.append(item_label(dataset, part[position] if part is not None else position))
            if time.monotonic() > until:
                raise _Unknown(UNDECLARED)
    if not told_by_group(groups, labels):
        raise _Unknown(UNDECLARED)
    return _compare(probe, key, training, held_out, read).model_copy(update={"declared": False})


def _compare(
    probe: Probe,
    key: str,
    training: list[LoaderSeen],
    held_out: list[LoaderSeen],
    read: Mapping[int, tuple[list[str], bool]],
) -> Groups:
    overlaps = []
    for train in training:
        known = set(read[id(train)][0])
        for held in held_out:
            if not train.shares_model(held if held.models else train):
                continue
            theirs = read[id(held)][0]
            shared = known & set(theirs)
            concerned = [position for position, group in enumerate(theirs) if group in shared]
            keep(probe, RemedyKind.DROP_GROUPS, held, concerned, range(len(theirs)))
            overlaps.append(
                GroupOverlap(
                    training=train.name,
                    held_out=held.name,
                    shared=len(shared),
                    held_out_groups=len(set(theirs)),
                    samples=len(concerned),
                    held_out_samples=len(theirs),
                    examples=tuple(sorted(shared)[:EXAMPLES]),
                    location=held.location,
                )
            )
    return Groups(
        key=key,
        splits=tuple(
            GroupSplit(
                name=record.name,
                role="training" if record.training_credits else "held-out",
                samples=len(read[id(record)][0]),
                groups=len(set(read[id(record)][0])),
            )
            for record in [*training, *held_out]
        ),
        overlaps=tuple(overlap for overlap in overlaps if overlap.shared),
        complete=all(complete for _, complete in read.values()),
    )


def group_ids(loader: Any, key: str, until: float) -> tuple[list[str], bool]:
    """(the group of every sample that the loader hands out, whether all were read). Raises _Unknown."""
    dataset, part = loader.dataset, chosen(loader)
    total = length(dataset)
    if total is None:
        raise _Unknown(f"{type(dataset).__name__} has no length: its samples cannot be asked for by index")
    places = part if part is not None else list(range(total))
    base, indices = unwrap(dataset)
    for owner, mapping in ((dataset, None), (base, indices)):
        column = _column(owner, key)
        if column is not None:
            return [_text(column[mapping[place] if mapping is not None else place]) for place in places], True
    found: list[str] = []
    for place in places:
        value = _field(dataset[place], key)
        if value is None:
            raise _Unknown(f"{type(base).__name__} has no attribute, column or field called {key!r}")
        found.append(_text(value))
        if time.monotonic() > until:
            break
    return found, len(found) == len(places)


def _column(owner: Any, key: str) -> Sequence[Any] | None:
    """Values with one entry a sample: an attribute, a column of a table that is an attribute, or of the data set."""
    total = length(owner)
    candidates = [getattr(owner, key, None)] if not callable(getattr(owner, key, None)) else []
    if key in (getattr(owner, "column_names", None) or ()):
        candidates.append(owner[key])
    for value in list(vars(owner).values()) if hasattr(owner, "__dict__") else ():
        names = value if isinstance(value, Mapping) else list(getattr(value, "columns", ()))
        if key in names:
            candidates.append(value[key])
    for values in candidates:
        if values is not None and not isinstance(values, str) and length(values) == total:
            return list(values)
    return None


def _field(item: Any, key: str) -> Any:
    """The field of a sample: of a mapping, of an object or named tuple, or of a part of a tuple."""
    if isinstance(item, Mapping):
        return item.get(key)
    if hasattr(item, key) and not callable(getattr(item, key)):
        return getattr(item, key)
    if isinstance(item, tuple | list):
        return next((value[key] for value in item if isinstance(value, Mapping) and key in value), None)
    return None


def _text(value: Any) -> str:
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    return str(value)[:80]
