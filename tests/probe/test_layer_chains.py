"""Linear layers in a row are found on the graph, and biases in front of batch norms."""

from __future__ import annotations

import pytest

SCRIPT = """
import torch
from torch import nn
import torch.nn.functional as F
torch.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, 4, 3, padding=1)
        self.c2 = nn.Conv2d(4, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.c3 = nn.Conv2d(6, 6, 3, padding=1)
        self.p1 = nn.Linear(6 * 16, 20)
        self.drop = nn.Dropout(0.5)
        self.p2 = nn.Linear(20, 12)
        self.b1, self.b2 = nn.Linear(12, 12), nn.Linear(12, 12)
        self.n1 = nn.BatchNorm1d(12)
        self.last = nn.Linear(12, 3)

    def forward(self, x):
        x = F.relu(self.bn(self.c2(self.c1(x))))     # a pair, and a bias in front of a norm
        x = self.p1(F.max_pool2d(self.c3(x), 2).flatten(1))  # pooling lies between
        x = self.p2(self.drop(x))                     # a pair with a dropout
        h = self.b1(torch.tanh(x))
        x = self.n1(self.b2(h)) + h                   # h is used twice: no pair; b2 feeds the norm alone
        x = x * (x > 0)                               # a rectifier by hand
        return self.last(x)

net = Net()
optimizer = torch.optim.SGD(net.parameters(), 0.01)
for step in range(6):
    optimizer.zero_grad()
    F.cross_entropy(net(torch.randn(8, 1, 8, 8)), torch.randint(0, 3, (8,))).backward()
    optimizer.step()
"""


@pytest.fixture(scope="module")
def part(zygote):
    return zygote.probe(SCRIPT, steps=5, parts=("layer_chains",))["layer_chains"]


def test_pairs(part):
    assert [(pair.first, pair.second, pair.dropout) for pair in part.pairs] == [("c1", "c2", False), ("p1", "p2", True)]
    assert (part.linear, part.norms) == (8, 2)


def test_widths_and_what_one_layer_would_need(part):
    convolutions, dense = part.pairs
    assert (convolutions.before, convolutions.inner, convolutions.after) == (1, 4, 6)
    assert (convolutions.weights, convolutions.needed) == (4 * 9 + 24 * 9, 6 * 25)
    assert (dense.before, dense.inner, dense.after) == (96, 20, 12)
    assert (dense.weights, dense.needed) == (96 * 20 + 20 * 12, 96 * 12)


def test_biases_in_front_of_norms(part):
    assert [(each.layer, each.norm, each.bias) for each in part.biased] == [("c2", "bn", 6), ("b2", "n1", 12)]


@pytest.mark.parametrize(
    ("first", "second", "pairs"),
    [
        ("nn.Linear(4, 8)", "nn.Linear(8, 4)", 1),
        ("nn.Linear(4, 8).requires_grad_(False)", "nn.Linear(8, 4)", 0),
        ("nn.Conv1d(4, 4, 3, groups=4)", "nn.Conv1d(4, 8, 1)", 0),
        ("nn.Conv1d(4, 8, 3)", "nn.Conv1d(8, 4, 1)", 0),
        ("nn.Conv2d(4, 8, (1, 3))", "nn.Conv2d(8, 4, (3, 1))", 0),
        ("nn.Conv2d(4, 8, 3, stride=2)", "nn.Conv2d(8, 4, 3)", 1),
        ("nn.Conv2d(4, 8, 3)", "nn.ConvTranspose2d(8, 4, 2, stride=2)", 0),
        ("nn.Conv2d(4, 16, 3), nn.PixelShuffle(2)", "nn.Conv2d(4, 4, 3)", 0),
        ("nn.Linear(4, 8), nn.Identity(), nn.Unflatten(1, (2, 4)), nn.Flatten()", "nn.Linear(8, 4)", 1),
        ("nn.Linear(4, 8), nn.LayerNorm(8)", "nn.Linear(8, 4)", 0),
        ("nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.1)", "nn.Linear(8, 4)", 1),
        ("nn.Linear(4, 8), nn.BatchNorm1d(8).eval()", "nn.Linear(8, 4)", 1),
        ("nn.Linear(4, 8), nn.BatchNorm1d(8, track_running_stats=False)", "nn.Linear(8, 4)", 0),
        ("nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)", "nn.Conv2d(8, 4, 3)", 1),
        ("nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU()", "nn.Conv2d(8, 4, 3)", 0),
    ],
)
def test_what_counts_as_a_pair(zygote, first, second, pairs):
    size = "4, 9, 9" if "Conv2d" in first else "4, 9" if "Conv1d" in first else "4"
    script = f"""
    import torch
    from torch import nn
    net = nn.Sequential({first}, {second})
    net = nn.Sequential(nn.Tanh(), net)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.01)
    for step in range(4):
        optimizer.zero_grad()
        net(torch.randn(5, {size}, requires_grad=True)).pow(2).mean().backward()
        optimizer.step()
    """
    assert len(zygote.probe(script, steps=3, parts=("layer_chains",))["layer_chains"].pairs) == pairs


def test_layers_called_one_by_one(zygote):
    script = """
    import torch
    from torch import nn
    a, b = nn.Linear(3, 5), nn.Linear(5, 2)
    optimizer = torch.optim.SGD([*a.parameters(), *b.parameters()], 0.01)
    for step in range(4):
        optimizer.zero_grad()
        b(a(torch.randn(5, 3))).pow(2).mean().backward()
        optimizer.step()
    """
    [pair] = zygote.probe(script, steps=3, parts=("layer_chains",))["layer_chains"].pairs
    assert (pair.before, pair.inner, pair.after) == (3, 5, 2)


def test_recurrent_networks_have_none(zygote):
    script = """
    import torch
    from torch import nn
    net = nn.LSTM(3, 5)
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    for step in range(4):
        optimizer.zero_grad()
        net(torch.randn(5, 2, 3))[0].pow(2).mean().backward()
        optimizer.step()
    """
    assert zygote.probe(script, steps=3, parts=("layer_chains",)).absent("layer_chains").startswith("not-applicable")


WHOLE = """
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AvgPool2d(2), MIDDLE nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(8, 2))
optimizer = torch.optim.SGD(net.parameters(), 0.01)
for step in range(4):
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(torch.randn(8, 1, 8, 8)), torch.randint(0, 2, (8,))).backward()
    optimizer.step()
"""


@pytest.mark.parametrize(("middle", "whole", "pairs"), [("", True, 2), ("nn.ReLU(),", False, 1)])
def test_a_network_that_is_linear_from_end_to_end(zygote, middle, whole, pairs):
    seen = zygote.probe(WHOLE.replace("MIDDLE", middle), steps=3)["layer_chains"]
    assert (seen.whole, len(seen.pairs)) == (whole, pairs)
    assert seen.pairs[0].averaged == whole
