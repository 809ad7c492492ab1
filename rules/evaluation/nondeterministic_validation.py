"""EVL105: the held-out data are not the same in every evaluation."""

from __future__ import annotations

from pydantic import Field

from auditor.declare import (
    Confidence,
    Finding,
    Inconclusive,
    Judgement,
    Measured,
    NotApplicable,
    Options,
    Severity,
    rule,
)
from auditor.evidence import HeldOutLoader, HeldOutPasses

from ..words import count, percent


class Limits(Options):
    max_share: float = Field(
        0.0, ge=0, lt=1, description="Largest share of held-out samples that may differ between two evaluations."
    )
    min_samples: int = Field(8, ge=1, description="Samples of a loader that have to be compared.")


@rule(
    "EVL105",
    "nondeterministic-validation",
    severity=Severity.NOTE,
    fix="""Evaluate on fixed samples: no random transforms, `DataLoader(val_set, shuffle=False)`, and no sampler that
    draws a part of them.""",
    references=(
        "https://docs.pytorch.org/docs/stable/data.html",
        "https://docs.pytorch.org/vision/stable/transforms.html",
    ),
)
def nondeterministic_validation(passes: HeldOutPasses, limits: Limits) -> Judgement:
    """The held-out data are not the same in every evaluation, so scores of two epochs cannot be compared.

    ## What it does

    Asks the dataset of every held-out loader for some samples twice, with other random numbers, and fingerprints every
    sample that the loader hands out, to compare the first pass with the latest.

    ## Why is it bad?

    When the training transforms (random crops, flips, noise) are also applied to held-out data, or a random part of
    them is drawn, each evaluation measures another data set. The best epoch is then the one with the easiest
    draw, and early stopping, checkpoints and schedules follow the noise. Scores are also too low for what the model
    does on clean data.

    ## How it is measured

    By identity: a hash of the whole sample, label included. It fails when more than `max-share` of the samples that
    were asked for twice differ, or of those that the second of two passes hands out were not in the first one (from
    `min-samples` on). Samples in another order are found again and pass. If a pass was cut short, only loaders that do
    not shuffle are compared.

    ## When it may be wrong

    - Test-time augmentation and evaluation on a random subset on purpose are reported: it is a note.
    - A stream that goes on where it was, instead of starting again, hands out other samples.
    - Random transforms that are applied after the loader are not seen.

    ## How to fix

    ```python
    train_set = ImageFolder("train", transform=Compose([RandomCrop(32, 4), RandomHorizontalFlip(), ToTensor()]))
    val_set = ImageFolder("val", transform=Compose([CenterCrop(32), ToTensor()]))
    val_loader = DataLoader(val_set, batch_size=256, shuffle=False)
    ```
    """
    if not passes.loaders:
        raise NotApplicable("no held-out loader was used")
    known = [loader for loader in passes.loaders if loader.reread > 0 or _compared(loader, limits)]
    if not known:
        raise Inconclusive(
            "the held-out samples cannot be asked for by index, and two passes over them that can be compared "
            f"({limits.min_samples} samples, whole or unshuffled) were not seen in the observed steps"
        )
    worst = max(known, key=lambda loader: _other(loader, limits))
    yield Measured(_other(worst, limits), limits.max_share, _said(worst, limits))
    for loader in known:
        if _other(loader, limits) > limits.max_share:
            yield _finding(loader, limits)


def _compared(loader: HeldOutLoader, limits: Limits) -> bool:
    """Two passes hold the same samples in any order when both are whole, in the same order when nothing shuffles."""
    return loader.compared >= limits.min_samples and (_whole(loader) or loader.shuffled is False)


def _whole(loader: HeldOutLoader) -> bool:
    return len(loader.passes) > 1 and all(each.complete for each in loader.passes)


def _other(loader: HeldOutLoader, limits: Limits) -> float:
    """Share of the second pass that the first did not hold, or of the samples that changed when read again."""
    passed = 0.0
    if _compared(loader, limits):
        passed = max(0.0, 1 - max(loader.found, loader.same) / loader.compared)
    return max(passed, min(1.0, loader.changed / loader.reread) if loader.reread else 0.0)


def _said(loader: HeldOutLoader, limits: Limits) -> str:
    if _compared(loader, limits):
        order = "" if loader.same >= loader.compared or loader.found < loader.compared else ", in another order"
        same = max(loader.found, loader.same)
        return f"{same} of {count(loader.compared, 'sample')} of {loader.loader} are the same in two evaluations{order}"
    return f"{loader.changed} of {count(loader.reread, 'sample')} of {loader.loader} changed when they were read again"


def _finding(loader: HeldOutLoader, limits: Limits) -> Finding:
    detail = []
    if _compared(loader, limits):
        steps = [count(each.step, "step") for each in loader.passes[:2]]
        detail.append(f"{_said(loader, limits)}, after {' and after '.join(steps)}")
    if loader.reread:
        detail.append(
            f"{loader.changed} of {count(loader.reread, 'sample')} changed when they were read again with other random "
            "numbers"
        )
    if loader.shuffled and loader.drop_last:
        detail.append("the loader shuffles and drops its last, incomplete batch: other samples are missing each time")
    if loader.changed:
        why = "its dataset changes them at random"
    else:
        why = "a part of the data is drawn at random, or what changes them keeps its own random numbers"
    return Finding(
        message=(
            f"{loader.loader} evaluates other samples each time ({percent(_other(loader, limits))} of those compared "
            f"differ): {why}"
        ),
        where=loader.loader,
        location=loader.location,
        measured=_other(loader, limits),
        limit=limits.max_share,
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
    )
