"""Targets that stand among the inputs, bit for bit."""

from __future__ import annotations

import pytest

SCRIPT = """
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x = torch.randn(320, SHAPE)
y = TARGET
model = nn.Sequential(nn.Flatten(), nn.LazyLinear(1))
model(x[:2])
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
LOOP
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
LOADER = """
for xb, yb in DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True):
    loss = (model(xb).squeeze(1) - yb.reshape(len(yb))).square().mean()
"""
SLICES = """
for rows in torch.randperm(320).split(16):
    loss = F.mse_loss(model(x[rows]).squeeze(1), y[rows].reshape(16))
"""


def copies(zygote, shape, target, loop=LOADER):
    script = SCRIPT.replace("SHAPE", shape).replace("TARGET", target).replace("LOOP", loop.strip())
    return zygote.probe(script, steps=20, parts=("copied_targets",))["copied_targets"]


@pytest.mark.parametrize(
    ("shape", "target", "place"),
    [
        ("6", "x[:, 2].clone()", (2,)),
        ("6", "x[:, 5:].clone()", (5,)),
        ("9, 4", "x[:, -1, 1].clone()", (8, 1)),
    ],
)
@pytest.mark.parametrize("loop", [LOADER, SLICES], ids=["loader", "slices"])
def test_a_place_of_the_input(zygote, shape, target, place, loop):
    (found,) = copies(zygote, shape, target, loop).copies
    assert (found.place, found.samples) == (place, 16 * 5)  # of the sampled steps
    assert found.distinct == found.samples


@pytest.mark.parametrize("target", ["x[:, 2] + 1e-3 * torch.randn(320)", "x[:, 2].roll(1, 0)", "x.sum(1)"])
def test_other_targets(zygote, target):
    found = copies(zygote, "6", target)
    assert (found.copies, found.samples) == ((), 80)
