"""What metric code compares: shapes, and whose values they are."""

from __future__ import annotations

import pytest

SCRIPT = """
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(60, 4)
labels = (x[:, 0] > 0).float()
loader = DataLoader(TensorDataset(x, labels.unsqueeze(1)), batch_size=12)
val_loader = DataLoader(TensorDataset(x + 0.1, labels.unsqueeze(1)), batch_size=12)
model = torch.nn.Linear(4, OUT)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(4):
    for a, b in loader:
        optimizer.zero_grad()
        LOSS.backward()
        optimizer.step()
    with torch.no_grad():
        for a, b in val_loader:
            METRIC
"""
BINARY = "F.binary_cross_entropy_with_logits(model(a), b)"


def run(zygote, metric, out=1, loss=BINARY):
    script = SCRIPT.replace("OUT", str(out)).replace("LOSS", loss).replace("METRIC", metric)
    return zygote.probe(script, steps=12, parts=("comparisons",))


@pytest.mark.parametrize(
    "metric",
    [
        "((model(a) > 0).float().squeeze(1) == b).sum()",
        "torch.eq((model(a) > 0).float().view(-1), b).sum()",
        "(torch.sigmoid(model(a)).round().flatten()).eq(b).sum()",
        "(b == (model(a) > 0).float().squeeze(1)).float().mean()",
    ],
)
def test_a_vector_against_a_column(zygote, metric):
    part = run(zygote, metric)["comparisons"]
    (site,) = part.broadcast
    assert {site.left, site.right} == {(12,), (12, 1)}
    assert (site.calls, site.evaluation, site.known) == (10, True, "both")
    assert 0 <= site.paired <= 1 < site.reported
    assert len(site.errors) == 10
    assert site.errors[0] == pytest.approx(site.reported - site.paired)
    assert site.location.line == 20


@pytest.mark.parametrize(
    "metric",
    [
        "((model(a) > 0).float() == b).sum()",
        "(b == b.view(-1)).float().mean()",  # which samples belong together
        "(b.clone() == b.view(-1)).float().mean()",
        "model(a); (torch.arange(12) == torch.arange(12)[:, None].roll(1)).sum()",  # nothing of the batch
        "(model(a).squeeze(1) == 0).sum(); b == b",
        "(torch.arange(7) == b).sum()",
    ],
)
def test_other_comparisons(zygote, metric):
    assert run(zygote, metric)["comparisons"].broadcast == ()


REGRESSION = "F.mse_loss(model(a), b)"
CONTINUOUS = SCRIPT.replace("(x[:, 0] > 0).float()", "x[:, 0] * 2 + 1")


@pytest.mark.parametrize(
    "metric",
    [
        "((b.squeeze(1) - model(a)) ** 2).mean()",
        "torch.sub(model(a), b.view(-1)).abs().mean()",
        "(model(a).squeeze(1) - b).square().mean()",
        "((model(a) * 3 + 2) - (b.view(-1) * 3 + 2)).square().mean()",  # in other units
    ],
)
def test_a_column_subtracted_from_a_vector(zygote, metric):
    script = CONTINUOUS.replace("OUT", "1").replace("LOSS", REGRESSION).replace("METRIC", metric)
    (site,) = zygote.probe(script, steps=12, parts=("comparisons",))["comparisons"].broadcast
    assert {site.left, site.right} == {(12,), (12, 1)}
    assert (site.function, site.known) == ("-", "both")
    assert site.paired < site.reported


@pytest.mark.parametrize(
    "metric",
    [
        "((b - model(a)) ** 2).mean()",
        "(b.squeeze(1) - model(a).mean()) ** 2",
        "model(a).squeeze(1)[:, None] - b.squeeze(1)",
        "c = b.squeeze(1).clone(); (c[:, None] - model(a).squeeze(1)).abs()",  # all pairs of labels with predictions
        "b - b.view(-1)",  # a kernel over the labels
        "model(a); torch.arange(12)[:, None] - torch.arange(12)",
    ],
)
def test_other_differences(zygote, metric):
    part = run(zygote, f"b == b; {metric}", loss=REGRESSION)["comparisons"]
    assert part.broadcast == ()


@pytest.mark.parametrize(
    ("metric", "found"),
    [
        ("(model(x + 1) - known).abs().mean()", 1),  # known to nobody, but a number for each sample
        ("(model(x + 1).exp() - known).abs().mean()", 1),
        ("(model(x + 1) - known[:, None]).abs().mean()", 0),
        ("(model(x + 1)[:, :, None] - known).abs().mean()", 0),
        ("(model(x + 1).mean(1)[:, None] - known).abs().mean()", 0),  # the axis was written in
    ],
)
def test_beside_what_no_loader_has_handed_out(zygote, metric, found):
    script = CONTINUOUS.replace("OUT", "1").replace("LOSS", REGRESSION).replace("METRIC", "b == b; " + metric)
    script = script.replace("labels =", "known = torch.randn(60)\nlabels =")
    part = zygote.probe(script, steps=12, parts=("comparisons",))["comparisons"]
    assert [site.known for site in part.broadcast] == ["predictions"] * found


def test_unequal_ones_are_counted(zygote):
    (site,) = run(zygote, "((model(a) > 0).float().squeeze(1) != b).sum()")["comparisons"].broadcast
    assert (site.function, site.known) == ("!=", "both")
    assert site.paired <= 1 < site.reported


def test_gathered_over_an_epoch(zygote):
    metric = """found = globals().setdefault("found", [])
            found.append((model(a), b))
        p, t = (torch.cat(parts) for parts in zip(*found)); found.clear()
        (p.squeeze(1) > 0).float() == t"""
    (site,) = run(zygote, metric)["comparisons"].broadcast
    assert {site.left, site.right} == {(60,), (60, 1)}


def test_the_argmax_of_one_logit(zygote):
    part = run(zygote, "(model(a).argmax(1) == b.view(-1)).sum()")["comparisons"]
    (single,) = part.single
    assert (single.function, single.shape) == ("argmax", (12, 1))
    assert single.compared_location.line == 20
    assert part.broadcast == ()


def test_the_indices_of_max(zygote):
    (single,) = run(zygote, "_, p = torch.max(model(a), 1); p.eq(b.view(-1))")["comparisons"].single
    assert single.function == "max"


@pytest.mark.parametrize(
    ("metric", "out"),
    [
        ("(model(a).argmax(1) == b.view(-1)).sum()", 3),
        ("torch.max(model(a), 1).values; b == b", 1),
        ("torch.max(input=a[:, :1], dim=1); b == b", 1),
        ("torch.max(a, b); torch.max(a); b == b", 1),
    ],
)
def test_other_uses_of_the_largest(zygote, metric, out):
    loss = BINARY if out == 1 else "F.cross_entropy(model(a), b.view(-1).long())"
    assert run(zygote, metric, out, loss)["comparisons"].single == ()


def test_calls_by_keyword_and_scripted_functions_still_work(zygote):
    script = """
import pickle
import torch

class Own(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        handled = {torch.max: 1, torch.Tensor.max: 2, torch.Tensor.__eq__: 3}
        return handled.get(func) or super().__torch_function__(func, types, args, kwargs or {})

@torch.jit.script
def hits(a, b):
    best = torch.max(a, 1)[1]
    return torch.eq(best, b).sum() + (a.argmax(1) == b).sum()

model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(5):
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    note(hits=int(hits(torch.eye(4), torch.arange(4))))
    note(same=[bool(torch.eq(input=torch.tensor(1), other=torch.tensor(1))), torch.tensor(1) == None])
    note(pickled=pickle.loads(pickle.dumps(torch.max)) is torch.max)
    note(handled=(Own(torch.ones(2)).max(), Own(torch.ones(2)) == 1, torch.max(Own(torch.ones(2)))))
"""
    seen = zygote.probe(script, steps=4, parts=("comparisons",))
    assert seen.exit_code == 0, seen.output
    assert seen.noted("hits")[0] == 8
    assert seen.noted("same")[0] == [True, False]
    assert seen.noted("pickled")[0] is True
    assert seen.noted("handled")[0] == [2, 3, 1]


MASKS = """
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(60, 1, 6, 6)
loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).float()), batch_size=12)
model = torch.nn.Conv2d(1, 1, 3, padding=1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(4):
    for a, b in loader:
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(a).squeeze(1), b).backward()
        optimizer.step()
    with torch.no_grad():
        for a, b in loader:
            out = model(a)
            METRIC
"""


def masks(zygote, metric):
    return zygote.probe(MASKS.replace("METRIC", metric), steps=12, parts=("comparisons",))["comparisons"]


@pytest.mark.parametrize(
    ("metric", "functions"),
    [
        ("both = ((out > 0) & b.bool()).sum()", {"&"}),
        ("either = torch.logical_or(b.bool(), out > 0).sum()", {"|"}),
        ("dice = 2 * (torch.sigmoid(out) * b).sum() / b.sum()", {"*"}),
        ("accuracy = ((out > 0).float() == b).float().mean()", {"=="}),
        ("error = ((b - out.sigmoid()) ** 2).mean()", {"-"}),
    ],
)
def test_masks_with_an_axis_of_channels(zygote, metric, functions):
    found = masks(zygote, metric).broadcast
    assert {site.function for site in found} == functions
    assert all({site.left, site.right} == {(12, 1, 6, 6), (12, 6, 6)} and site.known == "both" for site in found)


def test_masks_of_one_shape_and_overlaps_of_all_pairs(zygote):
    metric = """(out > 0).squeeze(1) & b.bool(); (out.squeeze(1) > 0)[:, None] & b.bool(); out * torch.ones(6, 6)
            b[:, None] * b; (b == (out > 0).squeeze(1)).sum()"""
    assert not masks(zygote, metric).broadcast
