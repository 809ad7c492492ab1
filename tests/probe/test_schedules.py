"""When schedulers are stepped, and the lengths that they and the loop declare."""

from __future__ import annotations

import pytest

SCRIPT = """
import argparse
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.optim import lr_scheduler
torch.manual_seed(0)
args = argparse.Namespace(epochs=3, start=0)
EPOCHS = 3
loader = DataLoader(TensorDataset(torch.randn(80, 4), torch.randn(80, 1)), batch_size=8)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scheduler = lr_scheduler.BUILD
def one_epoch():
    for i, (x, y) in enumerate(loader):
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        # batch
for epoch in range(EPOCHS):
    one_epoch()
    # epoch
"""


def schedules(zygote, build="StepLR(optimizer, 2, gamma=0.5)", batch="", epoch="", count="EPOCHS", **options):
    script = SCRIPT.replace("BUILD", build).replace("# batch", batch or "pass").replace("# epoch", epoch or "pass")
    return zygote.probe(script.replace("range(EPOCHS)", f"range({count})"), **options)


def test_once_per_epoch(zygote):
    seen = schedules(zygote, epoch="scheduler.step()")["schedules"]
    [schedule] = seen.schedules
    assert (seen.steps, seen.epochs_seen, seen.batches_per_epoch, seen.planned_epochs) == (30, 2, 10, 3)
    assert (schedule.kind, schedule.per_period, schedule.period_name, schedule.gamma) == ("StepLR", 2, "step_size", 0.5)
    assert (schedule.calls, schedule.per_step, schedule.per_epoch, schedule.before_update) == (3, 0, 1, 0)
    assert schedule.rates == pytest.approx((0.1, 0.05, 0.05))
    assert (schedule.location.line, schedule.step_location.line) == (13, 23)


def test_once_per_batch(zygote):
    seen = schedules(zygote, "CosineAnnealingLR(optimizer, T_max=30)", batch="scheduler.step()")["schedules"]
    [schedule] = seen.schedules
    assert (schedule.per_period, schedule.period_name, schedule.per_step) == (30, "T_max", 1)
    assert schedule.calls in (29, 30)


@pytest.mark.parametrize("count", ["args.epochs", "args.start, args.epochs", "1 + 2", "int(3.0)", "3"])
def test_lengths_of_the_loop_that_can_be_read(zygote, count):
    assert schedules(zygote, epoch="scheduler.step()", count=count)["schedules"].planned_epochs == 3


@pytest.mark.parametrize("count", ["len([1, 2, 3])", "max(2, 3)"])
def test_lengths_that_cannot_be_read_are_not_guessed(zygote, count):
    assert schedules(zygote, epoch="scheduler.step()", count=count)["schedules"].planned_epochs is None


def test_batches_by_next_have_no_epochs(zygote):
    script = SCRIPT.replace("BUILD", "StepLR(optimizer, 5)").replace("range(EPOCHS)", "range(2)")
    script = script.replace(
        "    for i, (x, y) in enumerate(loader):",
        "    it = iter(loader)\n    for i in range(9):\n        x, y = next(it)",
    )
    seen = zygote.probe(script.replace("# batch", "scheduler.step()"))["schedules"]
    assert seen.planned_epochs is None


def test_never_stepped(zygote):
    [schedule] = schedules(zygote)["schedules"].schedules
    assert (schedule.calls, schedule.mentioned) == (0, False)
    mentioned = schedules(zygote, epoch="if epoch > 9: scheduler.step()")["schedules"].schedules[0]
    assert (mentioned.calls, mentioned.mentioned) == (0, True)


def test_before_the_first_update(zygote):
    script = SCRIPT.replace("BUILD", "StepLR(optimizer, 2)").replace(
        "    one_epoch()", "    scheduler.step()\n    one_epoch()"
    )
    assert zygote.probe(script)["schedules"].schedules[0].before_update == 1


def test_micro_batches(zygote):
    script = SCRIPT.replace("BUILD", "StepLR(optimizer, 2)").replace("# batch", "scheduler.step()")
    script = script.replace(
        "        optimizer.step()\n        optimizer.zero_grad()\n",
        "        if i % 2 == 1:\n            optimizer.step()\n            optimizer.zero_grad()\n",
    )
    seen = zygote.probe(script)["schedules"]
    assert (seen.backwards_per_step, seen.schedules[0].per_step) == (2, 2)


def test_composed_schedules_are_one(zygote):
    build = (
        "SequentialLR(optimizer, [lr_scheduler.LinearLR(optimizer, total_iters=5), "
        "lr_scheduler.CosineAnnealingLR(optimizer, T_max=25)], milestones=[5])"
    )
    [schedule] = schedules(zygote, build, batch="scheduler.step()")["schedules"].schedules
    assert (schedule.kind, schedule.per_step) == ("SequentialLR", 1)


def test_plateau_and_restarts(zygote):
    [plateau] = schedules(zygote, "ReduceLROnPlateau(optimizer)", epoch="scheduler.step(1.0)")["schedules"].schedules
    assert (plateau.kind, plateau.calls, plateau.per_period) == ("ReduceLROnPlateau", 3, None)
    build = "CosineAnnealingWarmRestarts(optimizer, T_0=10)"
    [restarts] = schedules(zygote, build, batch="scheduler.step(epoch + i / 10)")["schedules"].schedules
    assert (restarts.per_step, restarts.per_period) == (1, 10)


def test_without_scheduler_there_is_nothing_to_say(zygote):
    assert "no learning-rate scheduler" in schedules(zygote, "StepLR").absent("schedules")


BY_INDEX = """
import torch
from torch import nn
torch.manual_seed(0)
x, y = torch.randn(80, 4), torch.randn(80, 1)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5)
B = 8
def update(i):
    optimizer.zero_grad()
    (model(x[i]) - y[i]).pow(2).mean().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    "inner", ["range(0, len(x), B)", "range(x.shape[0] // B)", "torch.randperm(80).split(B)", "range(x.size(0) // B)"]
)
def test_epochs_of_a_loop_that_cuts_its_own_batches(zygote, inner):
    body = (
        f"for epoch in range(7):\n    for _ in {inner}:\n        update(torch.randperm(80)[:B])\n    scheduler.step()\n"
    )
    seen = zygote.probe(BY_INDEX + body)["schedules"]
    assert (seen.batches_per_epoch, seen.planned_epochs, seen.planned_steps) == (10, 7, None)
    assert seen.schedules[0].per_epoch == pytest.approx(1, abs=0.3)


def test_a_loop_over_steps_only(zygote):
    seen = zygote.probe(BY_INDEX + "for it in range(90):\n    update(slice(0, B))\n    scheduler.step()\n")["schedules"]
    assert (seen.batches_per_epoch, seen.planned_epochs, seen.planned_steps) == (None, None, 90)


def test_a_rate_that_is_set_by_hand(zygote):
    script = BY_INDEX.replace("scheduler =", "unused = None #")
    body = "for it in range(90):\n    update(slice(0, B))\n    optimizer.param_groups[0]['lr'] *= 0.9\n"
    [schedule] = zygote.probe(script + body)["schedules"].schedules
    assert (schedule.kind, schedule.per_step) == ("rate set by hand", 1.0)
    assert schedule.rates[1] == pytest.approx(0.009)


def test_a_warm_up_in_batches_is_followed_at_both_paces(zygote):
    """The factor is a method, as in many trainers."""
    build = "LambdaLR(optimizer, Ramp().of)"
    script = SCRIPT.replace("EPOCHS = 3", "EPOCHS = 6").replace(
        "optimizer = ", "class Ramp:\n    def of(self, step):\n        return min(1.0, (step + 1) / 20)\noptimizer = "
    )
    script = script.replace("BUILD", build).replace("# epoch", "scheduler.step()")
    [schedule] = zygote.probe(script)["schedules"].schedules
    assert (*schedule.rates, *schedule.ahead) == pytest.approx([0.1 * n / 20 for n in range(2, 8)])
    assert max(schedule.at_every_batch) == pytest.approx(0.1)
    assert schedule.batches_ahead in (54, 55)


RESUMED = """
def segment(kept):
    global steps
    steps = OPTIMIZER
    scheduler = torch.optim.lr_scheduler.LambdaLR(steps, lambda step: min(1.0, (step + 1) / 100))
    RESTORED
    for it in range(25):
        update(slice(0, B))
        scheduler.step()
    return scheduler.state_dict()
kept = None
for _ in range(4):
    kept = segment(kept)
"""


@pytest.mark.parametrize(
    ("optimizer", "restored", "left"),
    [
        ("optimizer", "pass", 0.0026),
        ("optimizer", "if kept: scheduler.load_state_dict(kept)", None),
        ("torch.optim.Adam(model.parameters(), lr=0.01)", "pass", None),  # nothing says that training goes on
    ],
)
def test_a_schedule_that_is_begun_anew(zygote, optimizer, restored, left):
    script = BY_INDEX.replace("optimizer.step()", "steps.step()").replace("scheduler =", "unused = None #")
    seen = zygote.probe(script + RESUMED.replace("OPTIMIZER", optimizer).replace("RESTORED", restored))["schedules"]
    first, second = seen.schedules[:2]
    assert (first.left_at, second.per_step) == (None, 1)
    assert second.left_at == (pytest.approx(left) if left else None)
