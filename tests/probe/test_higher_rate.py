"""A rate is measured from rate zero: from the losses that the same batches have at the first weights."""

from __future__ import annotations

import pytest

LOOP = """
import copy
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x = torch.randn(512, 5)
y = torch.tanh(x @ torch.randn(5, 1))
net = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))
LOADED
first = copy.deepcopy(net)
optimizer = torch.optim.AdamW(net.parameters(), lr=RATE)
for epoch in range(40):
    for xb, yb in DataLoader(TensorDataset(x, y), batch_size=16):
        loss = F.mse_loss(net(xb), yb)
        note(first=F.mse_loss(first(xb), yb).item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


def probe(zygote, rate, loaded=""):
    script = LOOP.replace("RATE", str(rate)).replace("LOADED", loaded)
    return zygote.probe(script, steps=20, experiments=True, parts=("higher_rate", "schedules"))


def test_at_rate_zero_the_batches_have_the_losses_of_the_first_weights(zygote):
    seen = probe(zygote, 3e-5)
    looks = seen["higher_rate"].looks
    assert [look.factor for look in looks] == [looks[0].factor] * 2
    assert seen["higher_rate"].planned_steps == 40 * 32
    still = looks[0].still
    assert still[:20] == pytest.approx(seen.noted("first")[:20])
    assert looks[0].control[:20] != pytest.approx(seen.noted("first")[:20], rel=1e-4)
    assert sum(looks[0].between[-20:]) < sum(looks[0].control[-20:]) < sum(still[-20:])


def test_a_loop_inside_a_comprehension_does_not_shorten_the_plan(zygote):
    fit = """
def step(xb, yb):
    loss = F.mse_loss(net(xb), yb)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
for epoch in range(5):
    sum([step(x[i], y[i]) for i in torch.randperm(512).split(16)])
"""
    head = LOOP[: LOOP.index("for epoch")].replace("RATE", "3e-5").replace("LOADED", "")
    seen = zygote.probe(head + fit, steps=20, experiments=True, parts=("higher_rate", "schedules"))
    assert seen["higher_rate"].planned_steps is None


def test_loaded_weights_are_not_asked_for_more(zygote):
    """The loss is none of classes, and the rate is as low."""
    seen = probe(zygote, 3e-5, "net[0].load_state_dict(nn.Linear(5, 16).state_dict())")
    assert "loaded weights" in seen.absent("higher_rate")
