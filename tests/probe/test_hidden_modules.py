"""Weights outside of named_parameters() are found, and it is known what becomes of them."""

from __future__ import annotations

import pytest

SCRIPT = """
import torch
from torch import nn
torch.manual_seed(0)

class Plain:
    def __init__(self):
        self.inner = {"a": nn.Linear(4, 4)}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.blocks = [nn.Linear(4, 4) for _ in range(3)]
        self.table = {"scale": nn.Parameter(torch.ones(4))}
        self.helper = Plain()
        self.again = [self.first]
        self.unused = [nn.Linear(4, 4)]
        self.frozen = [nn.Linear(4, 4).requires_grad_(False)]
        self.held = (nn.Linear(4, 4),)
        self.by_hand = [nn.Linear(4, 4)]
        self.mixed = nn.ModuleList([nn.Linear(4, 4)])
        self.config = {"width": 4, "names": ["a", "b"]}

    def forward(self, x):
        x = self.first(x)
        for layer in (*self.blocks, self.helper.inner["a"], *self.frozen, *self.held, *self.mixed, *self.by_hand):
            x = torch.tanh(layer(x))
        return x * self.table["scale"]

net = Net()
other = nn.Linear(4, 4)
other.load_state_dict({"weight": torch.eye(4), "bias": torch.zeros(4)})
net.loaded = [other.eval()]
optimizer = torch.optim.SGD([*net.parameters(), *net.held[0].parameters()], lr=0.1)
for step in range(12):
    optimizer.zero_grad()
    (net(torch.randn(8, 4)) + net.loaded[0](torch.ones(4))).pow(2).mean().backward()
    optimizer.step()
    with torch.no_grad():
        net.by_hand[0].weight.mul_(0.99)
"""


@pytest.fixture(scope="module")
def found(zygote):
    seen = zygote.probe(SCRIPT, steps=12)
    return {each.holder: each for each in seen["hidden_modules"].found}


def test_everything_that_is_hidden_and_nothing_else(found):
    assert set(found) == {
        f"Net.{name}" for name in ("blocks", "table", "helper", "unused", "held", "by_hand", "loaded")
    }


def test_what_a_list_holds(found):
    blocks = found["Net.blocks"]
    assert (blocks.container, blocks.kinds, blocks.modules, blocks.parameters) == ("list", ("Linear",), 3, 60)
    assert (blocks.reached, blocks.optimized, blocks.moved, blocks.training, blocks.loaded) == (
        4,
        False,
        False,
        True,
        False,
    )
    assert blocks.location.line == 14


def test_bare_parameters_and_objects(found):
    assert (found["Net.table"].modules, found["Net.table"].parameters) == (0, 4)
    assert (found["Net.helper"].container, found["Net.helper"].parameters) == ("Plain", 20)


def test_what_becomes_of_the_others(found):
    assert found["Net.unused"].reached == 0
    assert found["Net.held"].optimized
    assert found["Net.by_hand"].moved
    assert found["Net.loaded"].loaded
    assert not found["Net.loaded"].training


def test_a_loop_without_modules_has_nothing_to_look_at(zygote):
    script = """
    import torch
    w = torch.randn(3, requires_grad=True)
    for step in range(6):
        loss = (w * w).sum()
        loss.backward()
        with torch.no_grad():
            w -= 0.1 * w.grad
        w.grad = None
    """
    assert zygote.probe(script, steps=5).absent("hidden_modules").startswith("not-applicable")


PLAIN = """
import torch
from torch import nn
torch.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(5, 1)
        self.weight = torch.randn(4, 5, requires_grad=True)
        self.grid = torch.randn(8, 4, requires_grad=True)
        self.fixed = torch.randn(4, 5)
        self.shifts = [torch.randn(5).requires_grad_() for _ in range(2)]
        self.noise = []

    def forward(self, x):
        self.noise[:] = [torch.zeros(4, 1, requires_grad=True)]  # as an attack makes them
        hidden = (x + self.grid + self.fixed.sum()) @ (self.weight + self.noise[0])
        return self.out(torch.tanh(hidden + self.shifts[0] * self.shifts[1]))

net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(12):
    optimizer.zero_grad()
    net(torch.randn(8, 4)).pow(2).mean().backward()
    optimizer.step()
"""


def test_plain_tensors_that_want_a_gradient(zygote):
    """Points with one row a sample are inputs, what is made anew is an attack's; what is multiplied with them is a
    weight, also in a list."""
    found = zygote.probe(PLAIN, steps=10, parts=("hidden_modules",))["hidden_modules"].found
    assert [(each.holder, each.container, each.parameters) for each in found] == [
        ("Net.weight", "Tensor", 20),
        ("Net.shifts", "list", 10),
    ]
    assert all(each.reached and not each.moved for each in found)
