"""A copy of a scheduler goes the way that the scheduler will go, and leaves it where it is."""

from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler

from auditor.probe.rates_ahead import KEPT, rates_ahead

BUILDS = {
    "step": lambda o: lr_scheduler.StepLR(o, 2, gamma=0.5),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=40),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: (step + 1) / 5),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5),
    "multiplied": lambda o: lr_scheduler.MultiplicativeLR(o, lambda _: 0.9),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 5, cycle_momentum=False),
    "in turn": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, total_iters=5), lr_scheduler.CosineAnnealingLR(o, 15)], [5]
    ),
    "at once": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(o, total_iters=5), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
}


def started(build, calls=4):
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    scheduler = build(optimizer)
    for _ in range(calls):
        optimizer.step()
        scheduler.step()
    return optimizer, scheduler


def rest(optimizer, scheduler, calls):
    rates = []
    for _ in range(calls):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize("name", BUILDS)
def test_as_the_scheduler_itself(name):
    told, untold = started(BUILDS[name]), started(BUILDS[name])
    ahead = rates_ahead(told[1], 20)
    assert ahead == pytest.approx(rest(*untold, 20))
    assert rest(*told, 20) == pytest.approx(ahead)


def test_long_plans_are_thinned_to_the_last_call():
    optimizer, scheduler = started(BUILDS["lambda"])
    ahead = rates_ahead(scheduler, 1001)
    assert len(ahead) == KEPT
    assert ahead[-1] == pytest.approx(rest(optimizer, scheduler, 1001)[-1])


class Counting:
    def __call__(self, _):
        return 1.0


class Own(lr_scheduler.LambdaLR):
    pass


def counted():
    calls = 0

    def factor(_):
        nonlocal calls
        calls += 1
        return 1 / calls

    return factor


@pytest.mark.parametrize(
    "build",
    [
        lambda o: lr_scheduler.LambdaLR(o, Counting()),
        lambda o: lr_scheduler.LambdaLR(o, counted()),
        lambda o: Own(o, lambda _: 1.0),
        lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=10),  # over before the plan is
    ],
)
def test_where_a_copy_may_go_another_way_nothing_is_told(build):
    assert rates_ahead(started(build)[1], 20) == ()


def test_metrics_are_not_guessed():
    optimizer = torch.optim.Adam(torch.nn.Linear(2, 2).parameters(), lr=0.1)
    assert rates_ahead(lr_scheduler.ReduceLROnPlateau(optimizer), 20) == ()
