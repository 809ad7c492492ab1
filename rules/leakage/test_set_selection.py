"""LEK105: the test set decides which weights are kept or which rate is used."""

from __future__ import annotations

import re

from pydantic import Field

from auditor.declare import (
    Confidence,
    Finding,
    Judgement,
    Measured,
    NotApplicable,
    Options,
    Severity,
    rule,
)
from auditor.evidence import Choice, Selection

from ..words import count, listing

TEST = re.compile(r"(?<![a-z])test(?!ing_?env)", re.IGNORECASE)
VALIDATION = re.compile(r"val|dev(?!ice)|tune|tuning", re.IGNORECASE)
TRAINING = re.compile(r"train", re.IGNORECASE)


class Limits(Options):
    min_evaluations: int = Field(1, ge=1, description="Evaluations amid the training that have to be seen.")


@rule(
    "LEK105",
    "test-set-selection",
    severity=Severity.NOTE,
    fix="""Hold out a third part for decisions, e.g. `train_set, val_set = random_split(train_set, [0.9, 0.1])`, choose
    by it, and evaluate on the test set once, at the end.""",
    references=(
        "https://arxiv.org/abs/1811.12808",
        "https://arxiv.org/abs/2207.07048",
    ),
)
def test_set_selection(selection: Selection, limits: Limits) -> Judgement:
    """The test set decides which weights are kept or which rate is used, and then gives the final score.

    ## What it does

    Looks whether the only held-out data of the script are called test data, are evaluated again and again, and decide
    something.

    ## Why is it bad?

    The best of many test scores is partly luck: the noise of each evaluation is selected for. What is then reported
    as the test accuracy of the best epoch is too high, by more the smaller the test set and the more epochs there are.

    ## How it is measured

    From the order of events and from the source. It is reported when there is one held-out loader, it was evaluated
    amid the training at least `min-evaluations` times, and right after an evaluation either the model's
    weights were taken inside an `if` that compares a score with the best so far, or `ReduceLROnPlateau` was stepped;
    and when the loader's variable or its dataset is called a test set, or the dataset says that it is one. Where there
    are more held-out loaders, each such decision must have followed an evaluation of none but test data, or, where
    several were evaluated before it, the score that is compared has the name of a test score (`test_acc > best`,
    `outcome.test > best.test`), also in a function of your own that is asked (`if better(outcome):`). Data that no
    loader hands out are known by the names in the calls that lead to the evaluation, as `accuracy(model, x_test)`.

    ## When it may be wrong

    - Held-out data called validation data are there to choose by, and pass, unless the dataset itself is a test split.
    - Where the set that gives the final score is called something else, and the set to choose by a test set.
    - Tutorials and benchmarks whose published numbers were made in this way do it on purpose: it is a note.
    - Early stopping that keeps no weights leaves no trace that could be seen here.

    ## How to fix

    ```python
    train_set, val_set = random_split(train_set, [0.9, 0.1], generator=torch.Generator().manual_seed(0))
    for epoch in range(epochs):
        train(model, train_loader)
        score = evaluate(model, val_loader)
        if score > best:
            best, kept = score, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    print(evaluate(model, test_loader))
    ```
    """
    choices = [choice for choice in selection.choices if not TRAINING.search(choice.metric)]
    if not selection.evaluated:
        raise NotApplicable("no held-out data were evaluated")
    named = _named_test(selection)
    yield Measured(
        float(len(choices)),
        0,
        f"{selection.evaluated} was evaluated {count(selection.evaluations, 'time')} and decided "
        f"{listing([_said(choice) for choice in choices], 3) or 'nothing'}",
    )
    apart = [choice for choice in choices if _by_test(choice)]
    said = [choice for choice in choices if _score_of_test(choice)]
    if said or (len(selection.loaders) > 1 and len(apart) == len(choices)):
        named = True  # another set is there, and decides nothing
    elif len(selection.loaders) > 1:
        return
    if not choices or not named or selection.evaluations < limits.min_evaluations:
        return
    choices = said or choices
    first, decided = choices[0], listing([_said(choice) for choice in choices], 3)
    data = f"{selection.evaluated} is the only held-out data"
    if said:
        data = "several held-out sets are evaluated, the score that counts is that of the test set"
    elif len(selection.loaders) > 1:
        data = f"{apart[0].by[0]} is test data"
    yield Finding(
        message=(
            f"{data}, it was evaluated {count(selection.evaluations, 'time')}, and it decides {decided}: its best "
            "score is no estimate for new data"
        ),
        where=selection.evaluated,
        location=first.location or selection.location,
        measured=float(len(choices)),
        limit=0.0,
        confidence=Confidence.SUSPECTED,
        detail=tuple(f"the source calls it {name}" for name in selection.names[:3]),
    )


def _named_test(selection: Selection) -> bool:
    if selection.official:
        return True
    called = [name for name in selection.names if name]
    return any(TEST.search(name) for name in called) and not any(VALIDATION.search(name) for name in called)


def _by_test(choice: Choice) -> bool:
    """Nothing but data that are called test data was evaluated before it."""
    return bool(choice.by) and all(TEST.search(name) and not VALIDATION.search(name) for name in choice.by)


def _score_of_test(choice: Choice) -> bool:
    """Several sets were evaluated before it, and by its name the score that it compares is that of test data: a
    `test_loss` where nothing but `val_loader` is evaluated is that of a function called `test`."""
    by = set(choice.by)
    says = TEST.search(choice.metric) and not VALIDATION.search(choice.metric)
    return choice.what == "checkpoint" and bool(says) and len(by) > 1 and not all(map(VALIDATION.search, by))


def _said(choice: Choice) -> str:
    if choice.what == "schedule":
        return f"the learning rate ({choice.metric})" if choice.metric else "the learning rate"
    return f"which weights are kept (by {choice.metric})" if choice.metric else "which weights are kept"
