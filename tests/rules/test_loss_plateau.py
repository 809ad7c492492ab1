"""FIT104 loss-plateau."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import InitialLoss, LossSite, LossSites, Program, Trajectory
from auditor.testing import judge


def standing(**changes: object) -> Trajectory:
    steps = 60
    losses = tuple(math.log(2) + 0.01 * math.sin(9.7 * step) for step in range(steps))
    given = {"losses": losses, "learning_rates": (0.1,) * steps, "grad_norms": (1.0,) * steps, **changes}
    return Trajectory(**given)  # type: ignore[arg-type]


COIN = InitialLoss(
    function="cross_entropy",
    value=0.7,
    standard_error=0.01,
    samples=64,
    classes=2,
    uniform=math.log(2),
    marginal=math.log(2),
)
SITES = LossSites(sites=(LossSite(function="cross_entropy", calls=8),), covered=True)


def test_a_loss_that_stands_at_the_constant_answer_is_a_finding() -> None:
    assert judge("loss-plateau", standing(), COIN, SITES, Program(loop="loader")).verdict.outcome == "fail"


@pytest.mark.parametrize(("after", "outcome"), [(27, "inconclusive"), (60, "fail")])
def test_the_losses_of_two_models_are_no_course(after: int, outcome: str) -> None:
    assert (
        judge("loss-plateau", standing(replaced_after=after), COIN, SITES, Program(loop="loader")).verdict.outcome
        == outcome
    )


def test_losses_of_several_calls_are_held_against_as_many_constant_answers() -> None:
    """Four batches whose losses are added, or four models that take turns."""
    several = SITES.model_copy(update={"multiple": 4.0})
    assert judge("loss-plateau", standing(), COIN, several, Program(loop="loader")).verdict.outcome == "pass"
    losses = tuple(4 * loss for loss in standing().losses)
    summed = standing(losses=losses)
    assert judge("loss-plateau", summed, COIN, several, Program(loop="loader")).verdict.outcome == "fail"
