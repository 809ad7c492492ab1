"""Equal output units are counted, and only those."""

from __future__ import annotations

import pytest

LOOP = """
import torch
from torch import nn
torch.manual_seed(0)
MODEL
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(5):
    optimizer.zero_grad()
    model(torch.randn(8, SHAPE)).pow(2).mean().backward()
    optimizer.step()
"""


def symmetry(zygote, model, shape="4"):
    seen = zygote.probe(LOOP.replace("MODEL", model).replace("SHAPE", shape))
    return {layer.name: layer for layer in seen["symmetry"].layers}


NET = "model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))\n"


def test_random_weights_have_no_equal_units(zygote):
    layers = symmetry(zygote, NET)
    assert [(layer.units, layer.duplicates_start, layer.duplicates_end) for layer in layers.values()] == [
        (6, 0, 0),
        (3, 0, 0),
    ]
    assert all(layer.gradient_nonzero and layer.moved and not layer.zero_start for layer in layers.values())


def test_constant_weights_stay_equal(zygote):
    layers = symmetry(zygote, NET + "[nn.init.constant_(p, 0.3) for p in model.parameters()]")
    first = layers["0"]
    assert (first.duplicates_start, first.duplicates_end) == (5, 5)
    assert (first.gradient_nonzero, first.moved, first.zero_start) == (True, True, False)


def test_copies_of_one_unit_are_counted_once_each(zygote):
    extra = "model[0].weight.data[3] = model[0].weight.data[1]; model[0].bias.data[3] = model[0].bias.data[1]"
    first = symmetry(zygote, f"{NET}{extra}")["0"]
    assert (first.duplicates_start, first.duplicates_end) == (1, 0)


def test_another_bias_makes_another_unit(zygote):
    first = symmetry(zygote, f"{NET}model[0].weight.data[3] = model[0].weight.data[1]")["0"]
    assert first.duplicates_start == 0


def test_zero_weights(zygote):
    layers = symmetry(zygote, f"{NET}[nn.init.zeros_(p) for p in model.parameters()]")
    assert {(layer.zero_start, layer.gradient_nonzero, layer.moved) for layer in layers.values()} == {
        (True, False, False),
    }


@pytest.mark.parametrize(
    ("layer", "shape", "units"),
    [
        ("nn.Conv2d(2, 5, 3)", "2, 5, 5", 5),
        ("nn.ConvTranspose2d(2, 5, 3)", "2, 5, 5", 5),
        ("nn.Conv1d(2, 5, 3)", "2, 7", 5),
    ],
)
def test_units_of_every_kind_of_layer(zygote, layer, shape, units):
    model = f"model = nn.Sequential({layer})\nnn.init.ones_(model[0].weight)\nnn.init.zeros_(model[0].bias)"
    [found] = symmetry(zygote, model, shape).values()
    assert (found.units, found.duplicates_start) == (units, units - 1)


def test_weights_that_no_optimizer_trains_are_left_out(zygote):
    script = f"{NET}[p.requires_grad_(False) for p in model[0].parameters()]"
    script = LOOP.replace("MODEL", script).replace("SHAPE", "4").replace("model.parameters()", "model[2].parameters()")
    assert [layer.name for layer in zygote.probe(script)["symmetry"].layers] == ["2"]


def test_rows_of_embeddings_are_no_units(zygote):
    script = """
import torch
from torch import nn
model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2))
nn.init.ones_(model[0].weight)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(5):
    optimizer.zero_grad()
    model(torch.randint(0, 9, (8,))).pow(2).mean().backward()
    optimizer.step()
"""
    table, linear = zygote.probe(script)["symmetry"].layers
    assert (table.units, table.table, linear.name, linear.table) == (4, True, "1", False)
    assert (table.duplicates_start, table.duplicates_end) == (3, 0)  # columns, which part


def test_equal_columns_of_embeddings_whose_product_is_summed_stay_equal(zygote):
    script = """
import torch
from torch import nn
left, right = nn.Embedding(9, 4), nn.Embedding(7, 4)
nn.init.constant_(left.weight, 0.1)
nn.init.constant_(right.weight, 0.2)
class Pairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = left, right
    def forward(self, a, b):
        return (self.left(a) * self.right(b)).sum(1)
model = Pairs()
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
for step in range(5):
    optimizer.zero_grad()
    (model(torch.randint(0, 9, (8,)), torch.randint(0, 7, (8,))) - torch.randn(8)).pow(2).mean().backward()
    optimizer.step()
"""
    layers = zygote.probe(script)["symmetry"].layers
    assert [(layer.units, layer.duplicates_start, layer.duplicates_end) for layer in layers] == [(4, 3, 3)] * 2


LOOSE = """
import torch
torch.manual_seed(0)
w, v = START
optimizer = torch.optim.SGD([w, v], lr=0.05)
for step in range(5):
    optimizer.zero_grad()
    (torch.tanh(torch.randn(8, 4) @ w) @ v).pow(2).mean().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("start", "equal"),
    [
        ("torch.full((4, 6), 0.3, requires_grad=True), torch.full((6, 2), 0.3, requires_grad=True)", [5, 5]),
        ("torch.randn(4, 6, requires_grad=True), torch.randn(6, 2, requires_grad=True)", [0, 0]),
    ],
)
def test_columns_of_weights_that_no_module_owns(zygote, start, equal):
    seen = zygote.probe(LOOSE.replace("START", start))
    assert [min(each.duplicates_start, each.duplicates_end) for each in seen["symmetry"].layers] == equal


EXPERTS = """
import copy
class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        one = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
        self.experts = nn.ModuleList(copy.deepcopy(one) for _ in range(3))
    def forward(self, x):
        return sum(expert(INPUT) for i, expert in enumerate(self.experts))
model = Mixture()
"""


def test_copies_that_get_the_same_input_stay_copies(zygote):
    loop = LOOP.replace("MODEL", EXPERTS.replace("INPUT", "x")).replace("SHAPE", "4")
    first, second = zygote.probe(loop)["symmetry"].copies
    assert (first.names, first.apart) == (("experts.0.0", "experts.1.0", "experts.2.0"), 0.0)
    assert (first.moved > 0, first.gradient_nonzero, second.shape) == (True, True, (3, 6))
    assert first.location.line == 11


def test_copies_that_get_other_inputs_part(zygote):
    loop = LOOP.replace("MODEL", EXPERTS.replace("INPUT", "x + i")).replace("SHAPE", "4")
    assert all(each.apart > 0.1 * each.moved for each in zygote.probe(loop)["symmetry"].copies)


FACTORS = """
import torch
from torch import nn
torch.manual_seed(0)
x, y = torch.randn(64, 6), torch.randn(64)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(6, 1)
        self.left, self.right = nn.Parameter(torch.zeros(6, 3)), nn.Parameter(RIGHT)
        self.idle = nn.Parameter(torch.zeros(6, 3))
    def forward(self, x):
        return self.line(x)[:, 0] + ((x @ self.left) * (x @ self.right)).sum(1) + 0.0 * (x @ self.idle).sum(1)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for x, y in torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y) + 1e-3 * sum(p.abs().sum() for p in model.parameters())
    loss.backward()
    optimizer.step()
"""


def test_factors_that_both_start_at_zero_have_a_gradient_elsewhere(zygote):
    script = FACTORS.replace("RIGHT", "torch.zeros(6, 3)")
    found = zygote.probe(script, steps=5, experiments=True, parts=("symmetry", "zero_starts"))["zero_starts"]
    woken = {each.name: each.woken for each in found.weights}
    assert woken == {"Net.left": True, "Net.right": True, "Net.idle": False}


def test_one_factor_may_start_at_zero(zygote):
    script = FACTORS.replace("RIGHT", "torch.randn(6, 3)")
    found = zygote.probe(script, steps=5, experiments=True, parts=("symmetry", "zero_starts"))["zero_starts"]
    assert [(each.name, each.woken) for each in found.weights] == [("Net.idle", False)]
