"""Weights that no gradient reaches, whether the loss depends on them, and where they were cut off."""

from __future__ import annotations

import pytest

HEAD = """
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
data = TensorDataset(torch.randn(64, 6), torch.randint(0, 3, (64,)))
loader = DataLoader(data, batch_size=16, shuffle=True)
"""
LOOP = """
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
for epoch in range(60):
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        print("logged", loss.item())
"""
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 5), nn.Linear(6, 5), nn.Linear(6, 5)
        self.unused, self.called = nn.Linear(6, 5), nn.Linear(6, 5)
        self.gate = nn.Parameter(torch.zeros(()))
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        a = self.a(x).detach()
        b = torch.tensor(self.b(x).tolist())
        with torch.no_grad():
            c = self.c(x)
        self.called(x)
        return self.head(a + b + c + x[:, :5] * self.gate)

net = Net()
"""


@pytest.fixture(scope="module")
def seen(zygote):
    return zygote.probe(HEAD + NET + LOOP, steps=12, experiments=True, parts=("gradient_reach", "graph_cuts"))


def test_layers_without_any_gradient(seen):
    part = seen["gradient_reach"]
    assert {each.name: each.parameters for each in part.unreached} == {
        "a": 35,
        "b": 35,
        "c": 35,
        "unused": 35,
        "called": 35,
    }
    assert (part.steps, part.parameters, part.rootless) == (12, 5 * 35 + 1 + 18, 0)
    assert not any(each.moved for each in part.unreached)


def test_cuts_and_what_they_cut_off(seen):
    cuts = {cut.layers: cut for cut in seen["graph_cuts"].cuts}
    place = {cut.operation: cut.location.line for cut in cuts.values() if cut.location}
    assert set(cuts) == {("a",), ("b",), ("c",), ("unused", "called")}
    source = (HEAD + NET).splitlines()
    for operation, text in (("detach", ".detach()"), ("tolist", ".tolist()"), ("no_grad", "c = self.c(x)")):
        assert text in source[place[operation] - 1]


def test_the_loss_depends_on_what_was_cut_off_only(seen):
    for cut in seen["graph_cuts"].cuts:
        assert (cut.change > 1e-3) is (cut.layers != ("unused", "called"))
        assert cut.change == 0 or cut.layers != ("unused", "called")


def test_gates_of_zero_have_a_gradient(zygote):
    net = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch, self.head = nn.Linear(6, 6), nn.Linear(6, 3)
        self.gate = nn.Parameter(torch.zeros(()))
    def forward(self, x):
        return self.head(x + self.gate * self.branch(x))
net = Net()
"""
    seen = zygote.probe(HEAD + net + LOOP, steps=8, experiments=True, parts=("gradient_reach", "graph_cuts"))
    assert seen["gradient_reach"].unreached == ()
    assert seen.absent("graph_cuts").startswith("not-applicable")


def test_a_loss_that_is_made_anew_reaches_nothing(zygote):
    loop = LOOP.replace(
        "loss.backward()", "loss = torch.tensor(loss.item(), requires_grad=True)\n        loss.backward()"
    )
    net = "net = nn.Linear(6, 3)\n"
    seen = zygote.probe(HEAD + net + loop, steps=8, experiments=True, parts=("gradient_reach", "graph_cuts"))
    part = seen["gradient_reach"]
    assert part.rootless == 8
    assert sum(each.parameters for each in part.unreached) == part.parameters == 21
    [cut] = seen["graph_cuts"].cuts
    assert cut.operation == "item"
    assert cut.change > 1e-3


def test_moving_averages_that_an_optimizer_holds_have_moved(zygote):
    net = """
import copy
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.online = nn.Linear(6, 3)
        self.target = nn.Linear(6, 3)
    def forward(self, x):
        with torch.no_grad():
            for a, b in zip(self.target.parameters(), self.online.parameters()):
                a.lerp_(b, 0.1)
            wanted = self.target(x)
        return self.online(x) + 0.1 * wanted
net = Net()
"""
    seen = zygote.probe(HEAD + net + LOOP, steps=8, experiments=True, parts=("gradient_reach", "graph_cuts"))
    [each] = seen["gradient_reach"].unreached
    assert (each.name, each.moved) == ("target", True)
    assert seen.absent("graph_cuts").startswith("not-applicable")


def test_the_discriminators_turn_counts(zygote):
    script = (
        HEAD
        + """
g, d = nn.Linear(6, 6), nn.Linear(6, 1)
og, od = torch.optim.SGD(g.parameters(), 0.01), torch.optim.SGD(d.parameters(), 0.01)
for epoch in range(20):
    for x, y in loader:
        od.zero_grad(set_to_none=True); og.zero_grad(set_to_none=True)
        (d(g(x).detach()).mean() - d(x).mean()).backward()
        od.step()
        og.zero_grad(set_to_none=True)
        (-d(g(x)).mean()).backward()
        og.step()
"""
    )
    seen = zygote.probe(script, steps=8, parts=("gradient_reach",))
    assert seen["gradient_reach"].unreached == ()


FORMULA = """
import torch
torch.manual_seed(0)
data = torch.randn(400) + 3
place = torch.tensor(1.0, requires_grad=True)
width = torch.tensor(0.5, requires_grad=True)
optimizer = torch.optim.Adam([place, width], lr=1e-2)
for step in range(400):
    batch = BATCH
    loss = ((batch - PLACE) * width).square().mean() - width.log()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
DRAWN = "data[torch.randint(0, 400, (32,))]"


@pytest.mark.parametrize(
    ("batch", "place", "cut"),
    [
        (DRAWN, "place.item()", True),
        ("data", "place.item()", True),
        (DRAWN, "place", False),
        ("data[step % 7 * 32 :][:32]", "place.item()", False),  # which batch comes next is not known
        ("data[step % 3 * 32 :][:32]", "place.item()", False),
    ],
)
def test_a_formula_without_a_model_that_is_called(zygote, batch, place, cut):
    script = FORMULA.replace("BATCH", batch).replace("PLACE", place)
    seen = zygote.probe(script, steps=12, experiments=True, parts=("gradient_reach", "graph_cuts"))
    if not cut:
        assert "graph_cuts" not in seen.gathered.parts
        return
    (found,) = seen["graph_cuts"].cuts
    assert (found.operation, found.location.line, found.noise) == ("item", 10, 0.0)
    assert found.change > 0.01


RECURRENCE = """
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.GRUCell(3, 5), nn.Linear(5, 2)
    def forward(self, x):
        h = torch.zeros(len(x), 5)
        for t in range(6):
            h = self.cell(x[:, t], HANDED)
        return self.out(h)
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(5):
    optimizer.zero_grad()
    net(torch.randn(4, 6, 3)).pow(2).mean().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(("handed", "cut"), [("h.detach()", True), ("h.data", True), ("h", False)])
def test_a_recurrence_whose_state_is_cut_off(zygote, handed, cut):
    check_recurrence(zygote, RECURRENCE, handed, cut)
    kept = RECURRENCE.replace("for t", "all = []\n        for t").replace(
        "return self.out(h)", "return self.out(torch.stack(all)[-1])"
    )
    check_recurrence(zygote, kept.replace("HANDED)", "HANDED); all.append(h)"), handed, cut, line=13)


def check_recurrence(zygote, script, handed, cut, line=12):
    found = zygote.probe(script.replace("HANDED", handed), steps=4)["gradient_reach"].recurrences
    assert [(each.name, each.calls, each.cut, each.reached, each.location.line) for each in found] == (
        [("cell", 6, 5, 1, line)] if cut else []
    )
