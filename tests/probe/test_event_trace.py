"""The order of the calls, and what zero_grad() throws away."""

from __future__ import annotations

import pytest

LOOP = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x, y = torch.randn(96, 4), torch.randn(96, 1)
loader = DataLoader(TensorDataset(x, y), batch_size=8)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
loss_of = nn.MSELoss()
"""

PLAIN = """
for epoch in range(2):
    for i, (x, y) in enumerate(loader):
        optimizer.zero_grad()
        loss_of(model(x), y).backward()
        optimizer.step()
"""

PER_MICRO_BATCH = """
for epoch in range(2):
    for i, (x, y) in enumerate(loader):
        optimizer.zero_grad()
        loss_of(model(x), y).backward()
        if i % 4 == 3:
            optimizer.step()
"""

REST = """
for epoch in range(4):
    optimizer.zero_grad()
    for i, (x, y) in enumerate(loader):
        loss_of(model(x), y).backward()
        if i % 5 == 4:
            optimizer.step()
            optimizer.zero_grad()
"""

BEFORE_STEP = """
for i, (x, y) in enumerate(loader):
    loss_of(model(x), y).backward()
    model.zero_grad()
    optimizer.step()
"""


PER_LOSS = """
head = nn.Linear(4, 1)
optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], lr=0.01)
for x, y in loader:
    for loss in (loss_of(model(x), y), loss_of(head(x), y)):
        optimizer.zero_grad()
        loss.backward()
    optimizer.step()
"""

CHUNKS = """
for x, y in loader:
    for part, answer in zip(x.chunk(4), y.chunk(4)):
        optimizer.zero_grad()
        loss_of(model(part), answer).backward()
    optimizer.step()
"""

SUMMED_BY_HAND = """
for step in range(20):
    total = [torch.zeros_like(p) for p in model.parameters()]
    for i in torch.randint(0, 96, (4,)):
        optimizer.zero_grad()
        loss_of(model(x[i]), y[i]).backward()
        for whole, p in zip(total, model.parameters()):
            whole += p.grad
    for whole, p in zip(total, model.parameters()):
        p.grad = whole / 4
    optimizer.step()
"""

LOGGED = """
for x, y in loader:
    first, second = loss_of(model(x), y), model(x).abs().mean()
    for loss in (first, second):
        optimizer.zero_grad()
        loss.backward(retain_graph=True)
    optimizer.zero_grad()
    (first + second).backward()
    optimizer.step()
"""

SET_TO_NONE = """
for x, y in loader:
    loss_of(model(x), y).backward()
    for p in model.parameters():
        p.grad = None
    optimizer.step()
"""


def trace(zygote, body, **options):
    return zygote.probe(LOOP + body, **options)["event_trace"]


def test_the_usual_order(zygote):
    seen = trace(zygote, PLAIN)
    assert seen.orders[0].calls == "nzfbs"
    assert sum(order.steps for order in seen.orders) == seen.steps == 24
    assert (seen.backwards, seen.used_backwards, seen.empty_updates, seen.cleared) == (24, 24, 0, ())


def test_clearing_per_micro_batch(zygote):
    seen = trace(zygote, PER_MICRO_BATCH)
    [site] = seen.cleared
    assert (seen.steps, seen.backwards, seen.used_backwards) == (6, 24, 6)
    assert (site.between_backwards, site.backwards, site.before_update) == (18, 18, 0)
    assert site.location.line == 14
    assert all(norm > 0 for norm in site.norms)


def test_a_rest_dropped_at_the_start_of_an_epoch(zygote):
    seen = trace(zygote, REST)
    [site] = seen.cleared
    assert (site.between_backwards, site.at_epoch_start, site.backwards) == (3, 3, 6)
    assert site.location.line == 13


def test_clearing_before_the_step(zygote):
    seen = trace(zygote, BEFORE_STEP)
    assert (seen.steps, seen.empty_updates) == (12, 12)
    assert seen.cleared[0].before_update == 12


def test_gradients_set_by_hand_after_clearing_are_no_empty_step(zygote):
    by_hand = BEFORE_STEP.replace(
        "    optimizer.step()", "    for p in model.parameters(): p.grad = torch.ones_like(p)\n    optimizer.step()"
    )
    assert trace(zygote, by_hand).empty_updates == 0


ATTACK = """
for x, y in loader:
    x.requires_grad_(True)
    loss_of(model(x), y).backward()
    x = (x + 0.1 * x.grad.sign()).detach()
    optimizer.zero_grad()
    loss_of(model(x), y).backward()
    optimizer.step()
"""

TWO_PASSES = """
def closure():
    optimizer.zero_grad()
    loss_of(model(x), y).backward()
for x, y in loader:
    closure()
    with torch.no_grad():
        for p in model.parameters(): p.add_(p.grad, alpha=0.05)
    closure()
    optimizer.step()
"""

SLICES = """
for i in range(10):
    for part in (0, 1):
        optimizer.zero_grad()
        loss_of(model(x[16 * i % 80 + 8 * part:][:8]), y[16 * i % 80 + 8 * part:][:8]).backward()
    optimizer.step()
"""


@pytest.mark.parametrize("body", [ATTACK, TWO_PASSES], ids=["attack", "two passes"])
def test_a_second_look_at_the_same_batch_is_no_loss(zygote, body):
    assert not any(site.between_backwards for site in trace(zygote, body).cleared)


def test_batches_without_a_loader_are_told_apart_by_their_content(zygote):
    [site] = trace(zygote, SLICES).cleared
    assert site.between_backwards == 10


def test_the_end_that_the_probe_brings_about_is_no_loss(zygote):
    body = REST.replace("range(4)", "range(400)").replace("i % 5 == 4", "i % 4 == 3")
    seen = trace(zygote, body, steps=10, experiments=True, parts=("event_trace",))
    assert seen.cleared == ()


def test_scheduler_clipping_and_closures(zygote):
    body = """
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5)
for x, y in loader:
    optimizer.zero_grad()
    loss_of(model(x), y).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
"""
    assert trace(zygote, body).orders[0].calls == "lnzfbcs"
    closure = """
optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
def closure():
    optimizer.zero_grad()
    loss = loss_of(model(x), y)
    loss.backward()
    return loss
for step in range(6):
    optimizer.step(closure)
"""
    seen = trace(zygote, closure)
    assert (seen.closure, seen.cleared) == (True, ())


def test_clearing_between_the_losses_of_one_batch(zygote):
    seen = trace(zygote, PER_LOSS)
    [site] = seen.cleared
    assert (seen.backwards, seen.used_backwards) == (24, 12)
    assert (site.between_losses, site.between_backwards, site.backwards) == (12, 12, 12)


def test_clearing_per_piece_of_a_batch(zygote):
    [site] = trace(zygote, CHUNKS).cleared
    assert (site.between_losses, site.between_backwards) == (0, 36)


TWO_SOURCES = """
first, second = iter(loader), iter(loader)
for step in range(10):
    x, y = next(first)
    loss_of(model(x), y).backward()
    MIDDLE
    x, y = next(second)
    (0.5 * loss_of(model(x), y)).backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.mark.parametrize(
    ("middle", "lost"), [("optimizer.zero_grad()", 10), ("pass", 0), ("optimizer.step(); optimizer.zero_grad()", 0)]
)
def test_clearing_between_the_losses_of_two_sources(zygote, middle, lost):
    assert sum(site.between_losses for site in trace(zygote, TWO_SOURCES.replace("MIDDLE", middle)).cleared) == lost


@pytest.mark.parametrize("body", [SUMMED_BY_HAND, LOGGED])
def test_gradients_that_were_read(zygote, body):
    assert trace(zygote, body).cleared == ()


def test_gradients_set_to_none_before_the_step(zygote):
    assert trace(zygote, SET_TO_NONE).empty_updates == 12
