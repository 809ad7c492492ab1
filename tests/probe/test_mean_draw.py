"""A model that draws in evaluation mode: its held-out loss with the mean of what it draws."""

from __future__ import annotations

import pytest
import torch

from auditor.probe.callchange import ChangedCalls
from auditor.probe.experiments.mean_draw import without_noise

LOOP = """
import torch
from torch import nn
import torch.nn.functional as F
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, OUT)
    def forward(self, x):
        h = self.a(x)
        return self.b(DRAW).squeeze(1)
x = torch.randn(480, 6)
y, held = x.sum(1), torch.randn(256, 6)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
for step in range(120):
    rows = torch.arange(12) + step % 40 * 12
    loss = (model(x[rows]) - TARGET).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 5 == 4:
        model.eval()
        with torch.no_grad():
            F.mse_loss(model(held), HELD)
        model.train()
"""
NOISY = "h + torch.randn_like(h)"


def look(zygote, draw, out="1", target="y[rows]", held="held.sum(1)"):
    script = LOOP.replace("DRAW", draw).replace("OUT", out).replace("TARGET", target).replace("HELD", held)
    seen = zygote.probe(script, steps=20, experiments=True, parts=("modes", "evaluation_noise"))
    return seen["evaluation_noise"]


def test_the_mean_is_better_than_a_draw(zygote):
    found = look(zygote, NOISY).mean_draw
    assert (found.samples, len(found.groups.control)) == (256, 32)
    assert found.steps >= 40
    assert found.mean < 0.8 * found.drawn
    assert sum(found.groups.treated) / 32 == pytest.approx(found.mean)


@pytest.mark.parametrize(
    ("draw", "more"),
    [
        ("h", {}),  # none
        ("h * torch.bernoulli(torch.full_like(h, 0.5))", {}),  # another distribution
        ("h if not self.training else " + NOISY, {}),
        (NOISY, {"out": "6", "target": "x[rows]", "held": "held"}),  # it gives back what it is given
        (NOISY, {"out": "6", "target": "x[rows] / 2", "held": "held / 2"}),  # on another scale
    ],
)
def test_where_nothing_is_measured(zygote, draw, more):
    assert look(zygote, draw, **more).mean_draw is None


def test_means_in_the_place_of_draws():
    means, spread = torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0])
    with ChangedCalls(without_noise, None):
        assert torch.randn(3).tolist() == [0, 0, 0]
        assert torch.randn_like(means).tolist() == [0, 0]
        assert torch.normal(means, spread).tolist() == torch.normal(mean=means, std=1.0).tolist() == [1, -2]
        assert torch.normal(2.0, 1.0, (2,)).tolist() == [2, 2]
        assert torch.empty(2).normal_(5.0, 1.0).tolist() == [5, 5]
        assert torch.empty(2).normal_().tolist() == [0, 0]
        assert torch.distributions.Normal(means, spread).rsample().tolist() == [1, -2]
        assert torch.rand(2).tolist() != [0, 0]
