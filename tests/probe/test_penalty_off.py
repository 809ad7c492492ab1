"""Weight penalties are told from the data, and a replay without them is a training without them."""

from __future__ import annotations

import pytest

approx = pytest.approx

LOOP = """
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x = torch.randn(96, 5)
y = torch.randint(0, 3, (96,))
net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
loader = DataLoader(TensorDataset(x, y), batch_size=8)
optimizer = OPTIMIZER
weights = [p for p in net.parameters() if p.dim() > 1]
for epoch in range(60):
    for xb, yb in loader:
        data = F.cross_entropy(net(xb), yb)
        loss = LOSS
        if not epoch:
            own = torch.autograd.grad(data, list(net.parameters()), retain_graph=True)
            whole = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
            note(data=data.item(), own=torch.cat([g.flatten() for g in own]).norm().item(),
                 penalty=torch.cat([(a - b).flatten() for a, b in zip(whole, own)]).norm().item(),
                 weights=torch.cat([p.flatten() for p in net.parameters()]).norm().item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
SGD = "torch.optim.SGD(net.parameters(), lr=0.05)"


def probe(zygote, loss, optimizer=SGD):
    script = LOOP.replace("OPTIMIZER", optimizer).replace("LOSS", loss)
    return zygote.probe(script, steps=12, experiments=True, parts=("penalty_off",))


@pytest.mark.parametrize(
    ("loss", "terms"),
    [
        ("data + 0.1 * sum(p.pow(2).sum() for p in weights)", 2),
        ("data + 0.1 * sum(p.abs().sum() for p in net.parameters())", 4),
        ("(data + 0.02 * torch.cat([p.flatten() for p in weights]).norm(1)) / 2", 1),
        ("data + 0.05 * sum((p * p).mean() for p in weights) + 0.01 * weights[0].norm()", 3),
    ],
)
def test_penalties_in_the_loss(zygote, loss, terms):
    seen = probe(zygote, loss)
    found = seen["penalty_off"]
    assert (found.terms, found.weight_decay) == (terms, 0.0)
    own, penalty = seen.noted("own")[0], seen.noted("penalty")[0]
    if "/ 2" in loss:  # the whole gradient is halved
        return
    assert found.ratio == approx(penalty / own, rel=1e-4)


@pytest.mark.parametrize(
    "loss",
    [
        "data",
        "data + (torch.arange(8.0) * net(xb).mean(1)).sum()",
        "data + F.mse_loss(net(xb), torch.zeros(8, 3))",
    ],
)
def test_terms_that_depend_on_the_data_are_left_on(zygote, loss):
    assert probe(zygote, loss).absent("penalty_off").startswith("not-applicable")


@pytest.mark.parametrize(
    "loss",
    [
        "data + 0.1 * net(xb).pow(2).mean()",
        "data + 0.1 * (net[0](xb).abs().sum())",
        "(data - 0.5 * (1 + net(xb) - net(xb).exp()).sum(1).mean()) / 2",
    ],
)
def test_terms_beside_the_loss_function_are_told_from_those_of_weights(zygote, loss):
    found = probe(zygote, loss)["penalty_off"]
    assert (found.terms, found.auxiliary, found.looks) == (0, 1, ())


def test_a_term_that_outweighs_the_loss_function_is_taken_away(zygote):
    found = probe(zygote, "data + 300 * net(xb).pow(2).sum()", "torch.optim.Adam(net.parameters(), lr=0.02)")
    look, *_ = found["penalty_off"].auxiliary_looks
    assert look.control[0] == look.treated[0]
    assert look.treated[-1] < 0.9 * look.control[-1]


def test_weight_decay_that_is_added_to_the_gradient(zygote):
    seen = probe(zygote, "data", "torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=2.0)")
    found = seen["penalty_off"]
    assert (found.terms, found.weight_decay, found.optimizer) == (0, 2.0, "Adam")
    assert found.ratio == approx(2 * seen.noted("weights")[0] / seen.noted("own")[0], rel=1e-4)
    assert len(found.looks) >= 1
    control, treated = found.looks[0].control, found.looks[0].treated
    assert control[0] == treated[0] == approx(seen.noted("data")[0], rel=1e-5)
    assert control[-1] > treated[-1]


def test_decoupled_decay_is_no_penalty_of_the_gradient(zygote):
    seen = probe(zygote, "data", "torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=2.0)")
    assert seen.absent("penalty_off").startswith("not-applicable")


def test_what_is_compared_is_the_loss_of_the_data(zygote):
    seen = probe(zygote, "data + 3.0 * sum(p.pow(2).sum() for p in weights)")
    (look, *_) = seen["penalty_off"].looks
    assert look.control[0] == look.treated[0] == approx(seen.noted("data")[0], rel=1e-5)
    assert look.treated[-1] < look.control[-1]


def test_a_weak_penalty_needs_no_look(zygote):
    found = probe(zygote, "data + 1e-5 * sum(p.pow(2).sum() for p in weights)")["penalty_off"]
    assert found.ratio < 0.01
    assert found.looks == ()


def test_a_loss_made_of_elementary_operations_is_no_penalty(zygote):
    script = """
import torch
torch.manual_seed(0)
w, b = torch.zeros(4, requires_grad=True), torch.zeros(1, requires_grad=True)
optimizer = torch.optim.SGD([w, b], lr=0.01)
for step in range(300):
    x = torch.randn(8, 4)
    loss = ((x * w).sum(1) + b - x[:, 0]).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
    seen = zygote.probe(script, steps=12, experiments=True, parts=("penalty_off",))
    assert "penalty_off" not in seen.gathered.parts


@pytest.mark.parametrize(("decay", "looked_at"), [(20.0, True), (0.01, False)])
def test_a_decoupled_decay_is_held_against_the_step_of_adam(zygote, decay, looked_at):
    optimizer = f"torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay={decay})"
    seen = probe(zygote, "data", optimizer)
    if not looked_at:
        assert "no weight penalty" in seen.absent("penalty_off")
        return
    part = seen["penalty_off"]
    sizes = list(seen.noted("weights"))
    assert part.weight_decay == decay
    assert part.ratio == approx(decay * sizes[0] / 57**0.5, rel=0.01)  # of 57 weights
    assert part.looks


@pytest.mark.parametrize(("rows", "steps", "share"), [(240, 30, 1.0), (96, 60, 0.2)])
def test_a_decay_that_is_divided_is_compared_on_new_samples(zygote, rows, steps, share):
    script = LOOP.replace("96", str(rows)).replace("LOSS", "data")
    script = script.replace("OPTIMIZER", "torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=2.0)")
    part = zygote.probe(script, steps=60, experiments=True, parts=("penalty_off",))["penalty_off"]
    assert part.adaptive
    assert len(part.looks[0].control) == len(part.looks[0].treated) == steps
    assert part.fresh == approx(share)
