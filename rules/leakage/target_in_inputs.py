"""LEK106: the target is one of the values that the model is given."""

from __future__ import annotations

from pydantic import Field

from auditor.declare import Confidence, Finding, Inconclusive, Judgement, Measured, Options, Severity, rule
from auditor.evidence import CopiedTarget, CopiedTargets, TargetWindow

from ..words import count, percent


class Limits(Options):
    min_samples: int = Field(128, ge=2, description="Samples whose target has to be compared with their inputs.")
    min_values: int = Field(2, ge=2, description="Different values that the target has to take in them.")


@rule(
    "LEK106",
    "target-in-inputs",
    severity=Severity.ERROR,
    explains=("label-shift",),
    fix="""Take the target out of what the model is given: `features = frame.drop(columns=["target"])`, or, of a series,
    let the window end before it: `series[i:end], series[end]`; a moving mean is taken of what is known by then:
    `series.shift(1).rolling(7).mean()`.""",
    references=(
        "https://doi.org/10.1145/2382577.2382579",
        "https://doi.org/10.1016/j.patter.2023.100804",
    ),
)
def target_in_inputs(targets: CopiedTargets, limits: Limits) -> Judgement:
    """The target of every sample stands among its own inputs, or a mean over it does.

    ## What it does

    Compares the targets of the training batches with each column of the model's input, and with the last values of
    its sequences. Puts the rows of a forecaster in order, and looks for columns that are a moving mean of the target.

    ## Why is it bad?

    The model learns to copy. The loss falls to nearly nothing, and so does that on held-out data, which leak in the
    same way; where the target is not known yet, which is what the model was built for, it has nothing to copy.

    ## How it is measured

    By identity. It fails when one place of the input, a column of a table or the last step of a sequence, equals the
    target bit for bit in every one of at least `min-samples` samples, and the target takes `min-values` different
    values in them.

    A mean that holds the target is found by identity, too. One row follows another where it holds that one's target as
    a lag, bit for bit, or where its window is the other's moved on by a step. It fails when a column, or the last step,
    is to float32 rounding a sum with positive weights of the targets around its row, and cannot be written so without
    the row's own target, in at least `min-samples` rows.

    ## When it may be wrong

    - Autoencoders, whose target is as large as the input, and models of tokens are not looked at; tasks that ask for
      an earlier value of a sequence from memory pass, too.
    - Means of a target that other columns were scaled apart from are not found: no lag equals a target then.
    - A program that is meant to reproduce one of its columns fails.

    ## How to fix

    ```python
    features = frame.drop(columns=["price"])
    window, target = series[i : i + n], series[i + n]      # not series[i + n - 1]
    week = series[i + n - 7 : i + n].mean()                # not series[i + n - 6 : i + n + 1]
    ```
    """
    if targets.samples < limits.min_samples:
        raise Inconclusive(f"needs {limits.min_samples} samples, saw {targets.samples}")
    copies = [each for each in targets.copies if _counts(each, limits)]
    yield Measured(float(len(copies)), 0.0, f"{count(targets.samples, 'sample')} compared with their targets")
    for each in copies[:1]:
        place = _place(each)
        yield Finding(
            message=(
                f"the target is {place} of the input, in each of {count(each.samples, 'sample')}: the model is given "
                "what it has to predict"
            ),
            where="target",
            location=each.location,
            measured=1.0,
            limit=0.0,
            confidence=Confidence.CONFIRMED,
            detail=(f"input of shape {each.shape}; {count(each.distinct, 'different value')} of the target",),
        )
    for window in targets.windows[:1]:
        holds_own = 0 <= window.past < len(window.weights) and window.weights[window.past] > 0
        if holds_own and window.rows >= limits.min_samples and not copies:
            yield _mean(window)


def _mean(window: TargetWindow) -> Finding:
    column = f"column {window.column}" if len(window.shape) == 1 else f"the last step (feature {window.column})"
    own = window.weights[window.past]
    used = [place - window.past for place, weight in enumerate(window.weights) if weight > own / 1000]
    return Finding(
        message=(
            f"{column} of the input is a moving mean of the target that holds the row's own value, with a weight of "
            f"{percent(own)}, in each of {count(window.rows, 'row')} whose neighbours were seen: the model is given a "
            "part of what it has to predict"
        ),
        where="target",
        location=window.location,
        measured=own,
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        detail=(f"a mean of {count(len(used), 'target')}, from {used[0]} to {used[-1]} rows away",),
    )


def _counts(each: CopiedTarget, limits: Limits) -> bool:
    if len(each.place) + 1 != len(each.shape) or len(each.shape) not in (2, 3):
        return False
    late = len(each.shape) == 2 or each.place[0] == each.shape[1] - 1
    return late and each.samples >= limits.min_samples and each.distinct >= limits.min_values


def _place(each: CopiedTarget) -> str:
    if len(each.shape) == 3:
        return f"the last step (feature {each.place[1]})"
    last = each.place[0] == each.shape[1] - 1
    return f"column {each.place[0]}" + (", the last one," if last else "")
