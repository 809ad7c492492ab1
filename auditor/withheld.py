"""Evidence without the user's samples, for data that must not leave its place."""

from __future__ import annotations

from auditor.evidence import Evidence

_SHOWN = {
    "thumbnail": "", "held_out_thumbnail": "", "training_label": "", "held_out_label": "", "row": None,
    "held_out_row": None,
}  # fmt: skip
_NOTE = "Pictures, values, labels and group names of samples are left out (--no-samples)"


def without_samples(evidence: Evidence) -> Evidence:
    """Indices and counts stay; pictures, values, labels and the names of groups do not."""
    parts: dict[str, object] = {}
    leakage, near, groups = evidence.leakage, evidence.near_duplicates, evidence.groups
    if leakage is not None:
        overlaps = tuple(
            overlap.model_copy(update={"pairs": tuple(pair.model_copy(update=_SHOWN) for pair in overlap.pairs)})
            for overlap in leakage.overlaps
        )
        parts["leakage"] = leakage.model_copy(update={"overlaps": overlaps})
    if near is not None:
        pairs = tuple(pair.model_copy(update=_SHOWN) for pair in near.pairs)
        parts["near_duplicates"] = near.model_copy(update={"pairs": pairs})
    if groups is not None:
        unnamed = tuple(overlap.model_copy(update={"examples": ()}) for overlap in groups.overlaps)
        parts["groups"] = groups.model_copy(update={"overlaps": unnamed})
    run = evidence.run.model_copy(update={"notes": (*evidence.run.notes, _NOTE)})
    return evidence.model_copy(update={**parts, "run": run})
