"""DAT105: columns that hold one value only."""

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
from auditor.evidence import Batches

from ..words import count, listing


class Limits(Options):
    min_rows: int = Field(1000, ge=10, description="Rows that have to be seen before a column counts as constant.")


@rule(
    "DAT105",
    "constant-features",
    severity=Severity.NOTE,
    fix="""See whether the columns were meant to vary (a failed join, a unit cut off by an integer type), and drop them
    otherwise: `x = x[:, x_train.std(0) > 0]`.""",
    references=(
        "https://scikit-learn.org/stable/modules/feature_selection.html#removing-features-with-low-variance",
        "https://developers.google.com/machine-learning/guides/data-traps",
    ),
)
def constant_features(batches: Batches, limits: Limits) -> Judgement:
    """Some columns of the table hold the same value in every row.

    ## What it does

    Follows the smallest and the largest value of each column of the batches, as long as some column has not changed.

    ## Why is it bad?

    It is harmless for the training: such a column is a second bias. But it is often what is left of a column that was
    lost on the way - a join that matched nothing, a fraction cut to an integer, a filled gap - and standardizing it
    divides by zero.

    ## How it is measured

    By identity, over at least `min-rows` rows of the training loader's first tensor, when that is a table.

    ## When it may be wrong

    - Images and sequences are not judged: borders and padding are constant by nature.
    - A rare event may just not have occurred in the rows that were seen; their number is said.
    - A column of ones that stands for the bias is deliberate.

    ## How to fix

    ```python
    varies = x_train.std(0) > 0
    x_train, x_test = x_train[:, varies], x_test[:, varies]
    ```
    """
    if not batches.features:
        raise NotApplicable("the loader hands out no table of continuous values")
    columns = listing([str(column) for column in batches.constant[: batches.constants]])
    text = f"{batches.constants} of {count(batches.features, 'column')} constant"
    yield Measured(float(batches.constants), 0.0, text)
    if batches.constants <= 0:
        return
    if batches.rows < limits.min_rows:
        raise Inconclusive(
            f"column {columns} did not change over {count(batches.rows, 'row')}; needs {limits.min_rows} rows to tell"
        )
    yield Finding(
        message=(
            f"{count(batches.constants, 'column')} of {batches.features} held one value in all of {batches.rows} rows: "
            f"column {columns}"
        ),
        where=batches.loader,
        location=batches.location,
        measured=float(batches.constants),
        limit=0.0,
        confidence=Confidence.CONFIRMED,
    )
