"""EVL107: a metric's sum goes on from epoch to epoch."""

from __future__ import annotations

from auditor.declare import Confidence, Finding, Judgement, Measured, NotApplicable, Severity, rule
from auditor.evidence import Accumulator, Source

from ..words import listing

LASTING = "Make the list in the function: `def evaluate(model, loader):` and `answers = []` as its first line."


@rule(
    "EVL107",
    "accumulating-metric",
    severity=Severity.WARNING,
    fix="Start the sum anew in every epoch: `total = 0.0` inside the loop over epochs, before the one over batches.",
    references=(
        "https://docs.pytorch.org/tutorials/beginner/introyt/trainingyt.html",
        "https://lightning.ai/docs/torchmetrics/stable/pages/overview.html",
    ),
)
def accumulating_metric(source: Source) -> Judgement:
    """A sum over the batches is never set back to zero between epochs.

    ## What it does

    Reads the source for a loss or a count of hits that a loop over batches adds to, that is set to zero only before the
    loop over epochs around it, and that is divided after each epoch by the length of one.

    ## Why is it bad?

    After epoch e the reported average is the sum of e averages. A loss that falls by a tenth per epoch looks as if it
    rose, an accuracy passes 1, and whatever follows the number - early stopping, the choice of a checkpoint, a
    scheduler - follows a wrong one.

    ## How it is measured

    From the source alone: the sum is added to inside a loop within the loop over epochs, no statement of that loop sets
    it, and the division after the inner loop has a divisor that does not grow with the epochs. In a class, the sum is
    an attribute that only `__init__` sets. Where hits and samples both go on, it fails if they are those of a loop over
    batches without `backward()` beside one with it, over the same data and with the same model in every epoch: the
    score then is a mean over all epochs. So does a score made of a list that is a default argument
    (`def evaluate(model, loader, hits=[])`) where a loop of the function adds to it and no call gives another one.

    ## When it may be wrong

    - A running average over everything so far, divided by a count that grows as well or by the number of epochs so far,
      is deliberate in training and passes. So does one in an evaluation that counts per epoch besides.
    - A sum that is reset inside a function which the loop calls is not seen, if the function sets it as a global.
    - A list that is a default argument passes if the function empties it, looks at a part of it or returns it as it is.
    - Of metric objects, those of a class of the script are followed, that the evaluation adds to and nothing resets,
      where another object of that class is reset. Those of libraries are not looked into.

    ## How to fix

    ```python
    for epoch in range(epochs):
        total = 0.0
        for x, y in loader:
            total += step(x, y)
        print(total / len(loader))
    ```
    """
    if not any(file.problem == "" for file in source.files):
        raise NotApplicable("there is no source that could be read")
    names = listing([found.name for found in source.accumulators])
    text = f"{names} goes on from epoch to epoch" if names else "no sum goes on from epoch to epoch"
    yield Measured(float(len(source.accumulators)), 0.0, text)
    for found in source.accumulators:
        started = f"{found.name} is set before the loop over epochs only"
        if found.lasting:
            started = f"{found.name} is a list that is made once, with the function"
        yield Finding(
            message=_message(found),
            where=found.name,
            location=found.location,
            measured=1.0,
            limit=0.0,
            confidence=Confidence.CONFIRMED,
            detail=(
                f"{started}, at line {found.started.line}" if found.started else started,
                f"{'made into the score' if found.lasting else 'divided'} at line {found.used.line}",
            ),
            fix=LASTING if found.lasting else None,
        )


def _message(found: Accumulator) -> str:
    if found.lasting:
        return (
            f"{found.name} is an empty list by default, is added to in every batch and lives on from call to call: the "
            "score of epoch 10 is one of the answers of ten epochs"
        )
    if found.together:
        return (
            f"{found.name} and {found.divisor} are added to in every batch of the evaluation and never set back to "
            "zero between the epochs: the score of epoch 10 is the mean over ten epochs"
        )
    return (
        f"{found.name} is added to in every batch and divided by {found.divisor} after every epoch, but never "
        "set back to zero in between: the average of epoch 10 is ten times too large"
    )
