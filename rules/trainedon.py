"""Findings on models that are trained on what they are tested on, where the order of the training alone says so."""

from __future__ import annotations

from auditor.declare import Confidence, Finding, Severity
from auditor.evidence import FoldLoop, HeldOutTrained, Refit

from .words import count


def of_folds(loop: FoldLoop) -> Finding:
    return Finding(
        message=(
            f"{loop.model} is built once, before the loop over the folds, and never set back in it: from the second "
            "fold on it is tested on rows that it was trained on"
        ),
        where=loop.model,
        location=loop.location,
        measured=1.0,
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        detail=(f"{loop.model} is built at line {loop.built.line}",),
        remedies=(),
        fix="""Build the model and its optimizer anew in every fold, inside the loop.""",
    )


def of_refit(seen: Refit) -> Finding:
    return Finding(
        message=(
            f"{seen.data} is joined to the training data (line {seen.joined.line}), what comes of the training on both "
            f"is then evaluated on {seen.data} (line {seen.evaluated.line})"
        ),
        where=seen.data,
        location=seen.location,
        measured=1.0,
        limit=0.0,
        severity=Severity.WARNING,
        confidence=Confidence.SUSPECTED,
        remedies=(),
        fix="""Give the score of the model that did not see the test data; refit on everything for use alone, and report
        no score for that.""",
    )


def of_held_out(seen: HeldOutTrained) -> Finding:
    return Finding(
        message=(
            f"{seen.name} is trained on: the optimizer that steps on {seen.training} made "
            f"{count(seen.updates, 'step')} on its batches too"
        ),
        where=seen.name,
        location=seen.location,
        measured=float(seen.updates),
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        remedies=(),
        fix="""Evaluate without the optimizer: no `backward()` and no `step()` on held-out batches, and
        `torch.no_grad()` around the pass. A function that trains when it is given an optimizer must get none here.""",
    )
