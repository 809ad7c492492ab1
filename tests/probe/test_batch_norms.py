"""Batch norms: samples, noise and drift, and what dropout does to their inputs."""

from __future__ import annotations

import pytest

SCRIPT = """
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
data = TensorDataset(torch.randn(400, 6) + 3, torch.randint(0, 3, (400,)))
loader = DataLoader(data, batch_size=SIZE, shuffle=True)
net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
FREEZE
optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.05)
for epoch in range(100):
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        note(mean=net[1].running_mean.tolist(), var=net[1].running_var.tolist())
"""


def norms(zygote, size=16, freeze="", steps=20):
    seen = zygote.probe(
        SCRIPT.replace("SIZE", str(size)).replace("FREEZE", freeze), steps=steps, parts=("batch_norms",)
    )
    return seen, {layer.name: layer for layer in seen["batch_norms"].layers}


def test_samples_of_a_batch(zygote):
    _, layers = norms(zygote)
    first = layers["1"]
    assert set(layers) == {"1", "4"}
    assert (first.calls, first.rows, first.values, first.tracked, first.frozen) == (5, 16, 16, True, False)
    assert first.noise is None


def test_means_of_two_samples_are_half_noise(zygote):
    _, layers = norms(zygote, size=2, steps=60)
    assert layers["1"].rows == 2
    assert 0.2 < layers["1"].noise < 1.2  # 1/2 for independent values


def test_drift_of_a_frozen_norm(zygote):
    freeze = "[p.requires_grad_(False) for p in net[:2].parameters()]\nwith torch.no_grad(): "
    freeze += "net(data.tensors[0]); net(data.tensors[0])"
    seen, layers = norms(zygote, freeze=freeze + "\nnet[1].running_mean.add_(1)", steps=22)
    first = layers["1"]
    assert (first.frozen, first.filled, first.upstream_trained) == (True, True, False)
    notes = seen.notes
    before, after = notes[0], notes[19]  # after the first watched step and after the last one
    shifts = [(a - b) / v**0.5 for a, b, v in zip(after["mean"], before["mean"], before["var"], strict=True)]
    assert first.mean_shift == pytest.approx((sum(s * s for s in shifts) / 8) ** 0.5, rel=1e-3)
    assert first.variance_ratio >= 1


def test_fresh_statistics_had_nothing_to_lose(zygote):
    _, layers = norms(zygote, freeze="[p.requires_grad_(False) for p in net[:2].parameters()]")
    assert (layers["1"].frozen, layers["1"].filled) == (True, False)


def test_norms_in_evaluation_mode_are_left_out(zygote):
    _, layers = norms(zygote, freeze="net[1].eval()")
    assert set(layers) == {"4"}


def test_a_backbone_that_is_called_by_itself(zygote):
    script = SCRIPT.replace("SIZE", "16").replace("net(x)", "net[5](net[:5](x))")
    freeze = "[p.requires_grad_(False) for p in net[:5].parameters()]"
    seen = zygote.probe(script.replace("FREEZE", freeze), steps=12, parts=("batch_norms",))
    assert [layer.frozen for layer in seen["batch_norms"].layers] == [True, True]


def test_networks_without_norm(zygote):
    script = SCRIPT.replace("SIZE", "16").replace("FREEZE", "").replace("nn.BatchNorm1d(8)", "nn.Tanh()")
    script = "\n".join(line for line in script.splitlines() if "note(" not in line)
    seen = zygote.probe(script, steps=5, experiments=True, parts=("batch_norms", "dropout_shifts"))
    assert seen.absent("batch_norms").startswith("not-applicable")
    assert seen.absent("dropout_shifts").startswith("not-applicable")


# ----------------------------------------------------------------------------------------------------------- dropout

DROPOUT = """
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(640, 200), torch.randint(0, 3, (640,))), batch_size=64)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.BatchNorm1d(200)
        self.fc, self.norm, self.head = nn.Linear(200, 30, bias=False), nn.BatchNorm1d(30), nn.Linear(30, 3)
        self.drop = nn.Dropout(0.5)
    def forward(self, x):
        return self.head(self.norm(self.fc(DROP)))

net = Net()
optimizer = torch.optim.SGD(net.parameters(), 1e-3)
for epoch in range(40):
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
"""


@pytest.mark.parametrize(
    ("drop", "ratio"),
    [
        ("self.drop(self.first(x))", 2.0),  # zero-mean inputs: the variance grows by 1 / (1 - p)
        ("F.dropout(self.first(x), 0.2, self.training)", 1.25),
        ("F.dropout(self.first(x), 0.05, self.training)", 1.053),
    ],
)
def test_variance_with_dropout_and_without(zygote, drop, ratio):
    seen = zygote.probe(DROPOUT.replace("DROP", drop), steps=6, experiments=True, parts=("dropout_shifts",))
    part = seen["dropout_shifts"]
    assert (part.samples, part.norms, part.dropouts) == (64, 2, 1)
    [layer] = part.layers  # the first norm comes before any dropout
    assert layer.norm == "norm"
    assert layer.ratio == pytest.approx(ratio, rel=0.08)
    assert "self.head" in DROPOUT.splitlines()[layer.dropout_location.line - 1]


def test_without_an_active_dropout(zygote):
    seen = zygote.probe(DROPOUT.replace("DROP", "x"), steps=6, experiments=True, parts=("dropout_shifts",))
    assert seen.absent("dropout_shifts").startswith("not-applicable")
