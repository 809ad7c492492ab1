"""Sites and numbers that a rule leaves open."""

from __future__ import annotations

import pytest

from auditor.evidence import Evidence, Inputs, Labels, Location, Program, Remedy, RemedyKind, Run
from auditor.evidence.data import Channel
from auditor.evidence.program import Optimizer
from auditor.placing import placed

FOUND, BUILT, STEPPED, BACKWARD = (Location(file="/home/user/train.py", line=line) for line in (3, 10, 20, 19))
ADAM = Optimizer(kind="Adam", learning_rates=(1e-3,), steps=9, location=BUILT, step_location=STEPPED)


def evidence(*optimizers: Optimizer, **parts: object) -> Evidence:
    program = Program(loop="loader", optimizers=optimizers, loss_location=BACKWARD)
    return Evidence(run=Run(target="train.py"), program=program, **parts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "site"),
    [
        (RemedyKind.RATE, BUILT),
        (RemedyKind.NO_PENALTY, BUILT),
        (RemedyKind.CLIP, STEPPED),
        (RemedyKind.ZERO_GRADIENTS, BACKWARD),
        (RemedyKind.TRAINING_MODE, BACKWARD),
        (RemedyKind.SHUFFLE, FOUND),
    ],
)
def test_a_remedy_is_placed_where_it_is_written(kind: RemedyKind, site: Location) -> None:
    assert placed(Remedy(kind=kind), FOUND, evidence(ADAM)).site == site


def test_what_a_rule_says_stays() -> None:
    assert placed(Remedy(kind=RemedyKind.RATE, site=STEPPED), FOUND, evidence(ADAM)).site == STEPPED


def test_of_several_optimizers_the_one_that_steps() -> None:
    idle = ADAM.model_copy(update={"steps": 0, "location": FOUND})
    assert placed(Remedy(kind=RemedyKind.RATE), FOUND, evidence(idle, ADAM)).site == BUILT
    assert placed(Remedy(kind=RemedyKind.RATE), FOUND, evidence(ADAM, ADAM)).site == FOUND
    assert placed(Remedy(kind=RemedyKind.RATE), FOUND, Evidence(run=Run(target="train.py"))).site == FOUND


def inputs(kind: str, shape: tuple[int, ...], *stds: float, **more: object) -> Inputs:
    channels = tuple(Channel(mean=5.0, std=std, min=0.0, max=9.0) for std in stds)
    numbers = {"samples": 8, "mean": 5.0, "std": 1.0, "min": 0.0, "max": 9.0}
    return Inputs.model_validate({"kind": kind, "shape": shape, "channels": channels, **numbers, **more})


def test_the_numbers_of_images_and_tables() -> None:
    remedy = Remedy(kind=RemedyKind.STANDARDIZE_INPUTS)

    def of(given: Inputs) -> tuple[tuple[float, ...], tuple[float, ...], str]:
        known = placed(remedy, FOUND, evidence(inputs=given))
        return known.mean, known.std, known.subject

    assert of(inputs("image", (4, 2, 8, 8), 1.0, 2.0)) == ((5.0, 5.0), (1.0, 2.0), "")
    assert of(inputs("features", (4, 2), 1.0, 2.0)) == ((), (), "table")
    nothing = ((), (), "")
    assert of(inputs("features", (4, 2), 1.0, 0.0)) == nothing  # a constant column
    assert of(inputs("features", (4, 99), 1.0, 2.0)) == nothing
    assert of(inputs("image", (4, 2, 8, 8), 1.0, 2.0, prepared=True)) == nothing
    assert of(inputs("sequence", (4, 7, 2), 1.0, 2.0)) == nothing


def test_the_weights_of_the_classes() -> None:
    remedy = Remedy(kind=RemedyKind.CLASS_WEIGHTS)
    assert placed(remedy, FOUND, evidence(labels=Labels(classes=2, counts=(30, 10)))).values == (40 / 60, 2.0)
    assert placed(remedy, FOUND, evidence(labels=Labels(classes=2, counts=(30, 0)))).values == ()
    assert placed(remedy, FOUND, evidence()).values == ()


@pytest.mark.parametrize("kind", [RemedyKind.LEAVE_OUT, RemedyKind.SIGMOID, RemedyKind.SOFTMAX_AXIS])
def test_two_calls_are_two_trials(kind: RemedyKind) -> None:
    assert Remedy(kind=kind, site=BUILT).key != Remedy(kind=kind, site=STEPPED).key
    assert Remedy(kind=RemedyKind.CLIP, site=BUILT).key == Remedy(kind=RemedyKind.CLIP, site=STEPPED).key
