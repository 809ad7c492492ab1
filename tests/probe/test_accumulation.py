"""Accumulated micro-batches, and what their losses are divided by."""

from __future__ import annotations

import pytest

LOOP = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(160, 4), torch.randint(0, 3, (160,))), batch_size=8)
model = nn.Linear(4, 3)
optimizer = torch.optim.KIND(model.parameters(), lr=0.01)
loss_of = nn.CrossEntropyLoss()
for i, (x, y) in enumerate(loader):
    BODY
    if i % 4 == 3:
        optimizer.step()
        optimizer.zero_grad()
"""


def accumulation(zygote, body, kind="SGD"):
    return zygote.probe(LOOP.replace("BODY", body.replace("\n", "\n    ")).replace("KIND", kind))


def test_divided_losses(zygote):
    seen = accumulation(zygote, "(loss_of(model(x), y) / 4).backward()")["accumulation"]
    assert (seen.per_step, seen.batches, seen.sites, seen.losses, seen.reductions) == (4, 4, 1, 1, ("mean",))
    assert seen.ratios == pytest.approx([0.25] * 20)
    assert seen.rescaled == pytest.approx([1.0] * 5)
    assert seen.counted == ((8, 8, 8, 8),) * 5
    assert (seen.scale_free, seen.clipping) == (False, False)


def test_undivided_losses_and_their_optimizer(zygote):
    seen = accumulation(zygote, "loss_of(model(x), y).backward()", "AdamW")["accumulation"]
    assert seen.ratios == pytest.approx([1.0] * 20)
    assert seen.scale_free


def test_gradients_divided_before_the_step_are_seen(zygote):
    body = "loss_of(model(x), y).backward()\nif i % 4 == 3:\n    for p in model.parameters(): p.grad /= 4"
    assert accumulation(zygote, body)["accumulation"].rescaled == pytest.approx([0.25] * 5)


def test_several_losses_on_one_batch_are_told_apart(zygote):
    body = "for k in range(2):\n    loss_of(model(x), y).backward()\noptimizer.step()"
    seen = accumulation(zygote, body)["accumulation"]
    assert (seen.per_step, seen.batches) == (2, 1)


def test_the_factor_of_a_mean_of_ones_own_is_read_from_its_graph(zygote):
    seen = accumulation(zygote, "model(x).pow(2).mean().backward()")["accumulation"]
    assert seen.own_means
    assert seen.ratios == (1.0,) * 20
    seen = accumulation(zygote, "(model(x).pow(2).mean() / 4).backward()")["accumulation"]
    assert seen.own_means
    assert seen.ratios == pytest.approx([0.25] * 20)


def test_of_a_loss_of_ones_own_that_is_no_mean_it_is_not_known(zygote):
    seen = accumulation(zygote, "model(x).pow(2).mean().sqrt().backward()")["accumulation"]
    assert not seen.own_means
    assert all(ratio != ratio for ratio in seen.ratios)
    assert seen.weights == ()


@pytest.mark.parametrize(
    ("loss", "values", "weights"),
    [
        ("model(x).sum(1).pow(2).mean() / 4", (8, 8, 8, 2), (1 / 32, 1 / 32, 1 / 32, 1 / 8)),
        ("model(x).sum(1).pow(2).sum() / 26", (8, 8, 8, 2), (1 / 26,) * 4),
        ("loss_of(model(x), y) / 4", (8, 8, 8, 2), (1 / 32, 1 / 32, 1 / 32, 1 / 8)),
        ("nn.functional.mse_loss(model(x)[:, 0], x[:, 0])", (8, 8, 8, 2), (1 / 8, 1 / 8, 1 / 8, 1 / 2)),
    ],
)
def test_what_a_value_counts_in_its_micro_batch(zygote, loss, values, weights):
    seen = accumulation(zygote, f"if i % 4 == 3: x, y = x[:2], y[:2]\n({loss}).backward()")["accumulation"]
    assert seen.values == (values,) * 5
    assert seen.weights[0] == pytest.approx(weights)
    assert not seen.same_last


def test_a_last_micro_batch_that_is_always_the_same(zygote):
    body = "if i % 4 == 3: x = torch.ones(2, 4)\n(model(x).pow(2).mean() / 4).backward()"
    assert accumulation(zygote, body)["accumulation"].same_last


def test_ignored_labels_do_not_count(zygote):
    body = "y = torch.where(torch.arange(8) < 2 * (i % 4), -100, y)\nloss_of(model(x), y).backward()"
    assert accumulation(zygote, body)["accumulation"].counted[0] == (8, 6, 4, 2)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("loss_of(model(x), y).backward(); optimizer.step()", "nothing is accumulated"),
        ("optimizer.zero_grad(); loss_of(model(x), y).backward()", "nothing is accumulated"),
    ],
)
def test_without_accumulation_there_is_nothing_to_say(zygote, body, reason):
    assert reason in accumulation(zygote, body).absent("accumulation")


def test_the_experiment_takes_the_step_of_the_mean(zygote):
    script = LOOP.replace("BODY", "loss_of(model(x), y).backward()").replace("KIND", "SGD")
    script = script.replace("for i, (x, y) in enumerate(loader)", "for i, (x, y) in enumerate(tuple(loader) * 200)")
    script = script.replace("tuple(loader) * 200", "batch for _ in range(200) for batch in loader")
    seen = zygote.probe(script, steps=10, experiments=True, parts=("accumulation", "divided_accumulation"))
    part = seen["divided_accumulation"]
    look = part.looks[0]
    assert part.per_step == 4
    assert look.control[0] == pytest.approx(look.treated[0])
    assert look.control[1] != look.treated[1]


def test_no_experiment_where_it_would_say_nothing(zygote):
    script = LOOP.replace("BODY", "(loss_of(model(x), y) / 4).backward()").replace("KIND", "SGD")
    seen = zygote.probe(script, steps=3, experiments=True, parts=("accumulation", "divided_accumulation"))
    assert "not-applicable" in seen.absent("divided_accumulation")
