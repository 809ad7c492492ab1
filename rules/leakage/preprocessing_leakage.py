"""LEK104: rows of the held-out part take a part in fitting the preprocessing."""

from __future__ import annotations

import math

from pydantic import Field

from auditor.declare import Confidence, Finding, Judgement, Measured, NotApplicable, Options, Severity, rule
from auditor.evidence import ClassFill, CopiedTargets, FutureFilter, Loader, Program, Source, WholeFit

from ..words import count, listing, number


class Limits(Options):
    max_shift: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Shift of a mean, in standard deviations, that the held-out rows can cause; below, it is a note.",
    )


@rule(
    "LEK104",
    "preprocessing-leakage",
    severity=Severity.WARNING,
    fix="""Split first, fit on the training rows, apply to the others:
    `scaler.fit(x_train); x_test = scaler.transform(x_test)`.""",
    references=(
        "https://scikit-learn.org/stable/common_pitfalls.html#data-leakage",
        "https://doi.org/10.1016/j.patter.2023.100804",
    ),
)
def preprocessing_leakage(
    source: Source, program: Program | None, targets: CopiedTargets | None, limits: Limits
) -> Judgement:
    """Statistics of all rows prepare the data before they are split.

    ## What it does

    Reads the source for a mean, a scale, a decomposition or a selection of features that is computed over all rows,
    used to transform these rows, and followed by the split into training and held-out rows.

    ## Why is it bad?

    What the model is tested on has then shaped what it is trained on, and the score promises more than new data will
    keep. With a mean and a standard deviation of many rows the difference is small. With features selected, or
    categories encoded, by means of the targets of all rows, random numbers can be made to look predictable.

    ## How it is measured

    From the source alone, following variables from statement to statement: a reduction over rows (`x.mean(0)`,
    `scaler.fit(x)`, a sum by category such as `np.bincount(shop, y)`, or a function of your own that returns nothing
    but such), a transformation of the same rows by it, and a split of the result (`train_test_split`, `random_split`, a
    fold, two complementary slices, batches drawn from one slice and the other slice). The split may also come first:
    the statistic of all rows then transforms one part and the other. A statistic that does not look at the targets is a
    note when the script was run and had so many training rows that the held-out ones shift a mean by less than
    `max-shift` standard deviations.

    A filter that looks ahead is an error of the same kind: a centred moving average, `filtfilt`, `savgol_filter`,
    `gaussian_filter1d`, a convolution padded to both sides. It is reported where windows of the smoothed series end
    before the place of the value that goes with them, and that value is taken from the same series as it was before
    (`smoothed[t - 24:t]` and `level[t]`): live, when the values after the window do not exist yet, the same numbers
    cannot be computed.

    Gaps that were filled with a mean of the row's own class are seen in the training batches. Such a column holds, for
    each class, one value that comes again and again, amid the class's other values and in no row of another class,
    while all the others differ: the filled cells are the target, written in another way.

    ## When it may be wrong

    - Smoothing before whole recordings are classified, smoothing of the target, and windows that lie around their
      target pass: nothing is forecast there.

    - Constants, statistics of the training slice alone, and statistics of each row by itself pass.
    - Values that pass through functions of your own are not followed where rows and statistics come out together, but
      for one that picks columns by what it reduces over the rows that it is given: `keep = pick(x, y)`, then
      `x[:, keep]`.
    - Where all rows that will ever be seen are there already (a fixed set of nodes in a graph), using them is
      legitimate.

    ## How to fix

    ```python
    x_train, x_test = x[:n], x[n:]
    mean, std = x_train.mean(0), x_train.std(0)
    x_train, x_test = (x_train - mean) / std, (x_test - mean) / std
    ```
    """
    fills = targets.fills if targets is not None else ()
    if fills:
        yield Measured(float(len(fills)), 0.0, f"{count(len(fills), 'column')} filled by means of the target")
        yield _filled_by_target(fills)
        return
    if not any(file.problem == "" for file in source.files):
        raise NotApplicable("there is no source that could be read")
    names = listing([f"{fit.what} of {fit.data}" for fit in source.whole_fits])
    seen = f"{names} before the split" if names else "no statistic of all rows"
    if source.future_filters:
        seen = f"{listing([each.what for each in source.future_filters])} over what is to be forecast"
    yield Measured(float(len(source.whole_fits) + len(source.future_filters)), 0.0, seen)
    yield from map(_looks_ahead, source.future_filters)
    for fit in source.whole_fits:
        yield _finding(fit, _shift(program), limits)


def _finding(fit: WholeFit, shift: float | None, limits: Limits) -> Finding:
    targets = " and looks at the targets" if fit.supervised else ""
    small = not fit.supervised and shift is not None and shift < limits.max_shift
    detail = [f"the split ({fit.split}) is at line {fit.split_location.line}"]
    if shift is not None and not fit.supervised:
        detail.append(f"the held-out rows shift a mean by about {number(shift)} standard deviations")
    return Finding(
        message=f"{fit.what} uses all rows of {fit.data}{targets}, which are split into training and test rows later",
        where=fit.data,
        location=fit.location,
        measured=shift if shift is not None else 1.0,
        limit=limits.max_shift if shift is not None else 0.0,
        severity=Severity.NOTE if small else None,
        confidence=Confidence.CONFIRMED if fit.supervised else Confidence.SUSPECTED,
        detail=tuple(detail),
    )


def _filled_by_target(fills: tuple[ClassFill, ...]) -> Finding:
    most = max(fills, key=lambda fill: fill.filled)
    columns = listing([f"column {fill.column}" for fill in sorted(fills, key=lambda fill: fill.column)], 3)
    return Finding(
        message=(
            f"the gaps of {columns} of the input were filled by means of the target: {most.filled} of "
            f"{count(most.rows, 'row')} have one of {count(most.classes, 'value')} in column {most.column}, one for "
            "each class, which no row of another class has"
        ),
        where="inputs",
        location=most.location,
        measured=float(len(fills)),
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        fix="""Fill with what is known of a new row: `means = np.nanmean(x[train_rows], axis=0)` over all classes, or
        `SimpleImputer().fit(x[train_rows])`; never by group of the target.""",
    )


def _looks_ahead(seen: FutureFilter) -> Finding:
    return Finding(
        message=(
            f"{seen.what} smooths {seen.data} with readings of both sides, and windows of the outcome are to forecast "
            f"a later value of {seen.data}: the last readings of each window hold what comes after it"
        ),
        where=seen.data,
        location=seen.location,
        measured=1.0,
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        detail=(f"the value to be forecast is taken at line {seen.target_location.line}",),
        fix="""Smooth with the past only: a trailing average (`rolling(k)` without `center=True`, a valid convolution of
        `np.pad(x, (k - 1, 0))`, `lfilter` for `filtfilt`), or smooth within each window.""",
    )


def _shift(program: Program | None) -> float | None:
    """Typical difference of the mean of the training rows from the mean of all, in standard deviations."""
    loaders: tuple[Loader, ...] = program.loaders if program is not None else ()
    training = max((loader.samples or 0 for loader in loaders if loader.role == "training"), default=0)
    held_out = max((loader.samples or 0 for loader in loaders if loader.role == "held-out"), default=0)
    if not training or not held_out:
        return None
    return math.sqrt(1 / training - 1 / (training + held_out))
