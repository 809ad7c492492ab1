"""Keys of groups that nobody declared: a field or column of the data set whose name says whose sample it is, such as
`speaker` or `patient_id`, and what the labels have to do with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from auditor.probe.heldoutnames import words
from auditor.probe.parts.program import length
from auditor.probe.samples import unwrap

OWNERS = frozenset(
    {"patient", "subject", "speaker", "singer", "person", "participant", "donor", "animal", "slide", "specimen",
     "boat", "vessel", "vehicle", "machine", "writer", "author", "household", "individual", "volunteer", "rider"}
)  # fmt: skip
FEWEST_GROUPS = 5
SAMPLES_A_GROUP = 3  # on average, at least


def named_key(dataset: Any) -> str:
    """The only field or attribute with such a name; '' where there is none, or several."""
    total = length(dataset)
    if not total:
        return ""
    item = dataset[0]
    names = [str(name) for name, value in item.items() if _single(value)] if isinstance(item, Mapping) else []
    for owner in (dataset, unwrap(dataset)[0]):
        held = vars(owner) if hasattr(owner, "__dict__") else {}
        names += [name for name, value in held.items() if _column(value, length(owner))]
    found = {name for name in names if {word.removesuffix("s") for word in words(name)} & OWNERS}
    return found.pop() if len(found) == 1 else ""


def _single(value: Any) -> bool:
    """A whole number or a word."""
    if getattr(value, "ndim", 1) == 0 and hasattr(value, "item"):
        value = value.item()
    return isinstance(value, int | str) and not isinstance(value, bool)


def _column(value: Any, total: int | None) -> bool:
    if isinstance(value, str | Mapping) or not hasattr(value, "__getitem__") or length(value) != total or not total:
        return False
    return getattr(value, "ndim", 1) == 1 and _single(value[0])


def told_by_group(groups: Sequence[str], labels: Sequence[str]) -> bool:
    """Every group has one label, several groups may have the same: whose sample it is tells the answer. Not where the
    group itself is asked for, which is what labels are that stand for one group each, unless they are measured."""
    known: dict[str, set[str]] = defaultdict(set)
    for group, label in zip(groups, labels, strict=False):
        known[group].add(label)
    sizes_fit = FEWEST_GROUPS <= len(known) <= len(labels) / SAMPLES_A_GROUP
    if not sizes_fit or any(len(each) != 1 or "" in each for each in known.values()):
        return False
    answers = {label for each in known.values() for label in each}
    return len(answers) >= 2 and (2 * len(answers) <= len(known) or all(map(_measured, answers)))


def _measured(label: str) -> bool:
    try:
        return float(label) != round(float(label))
    except (ValueError, OverflowError):
        return False
