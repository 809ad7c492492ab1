"""Masks and class weights as labels, longer looks at lower rates, sequences whose axes the model swaps."""

from __future__ import annotations

import pytest

MASKS = """
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
masks = (torch.rand(640, 1, 6, 6) < 0.03).float()
scans = torch.randn(640, 1, 6, 6) + 2 * masks
net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))
nn.init.constant_(net[2].bias, -2.0)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
for epoch in range(60):
    for scan, mask in DataLoader(TensorDataset(scans, masks), batch_size=16):
        loss = F.binary_cross_entropy_with_logits(net(scan), TARGET)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


def test_masks_are_dense_labels_and_class_weights_find_what_is_rare(zygote):
    seen = zygote.probe(MASKS.replace("TARGET", "mask"), steps=40, experiments=True, parts=("labels", "class_weighted"))
    labels, arms = seen["labels"], seen["class_weighted"]
    assert (labels.classes, labels.per_position, sum(labels.counts)) == (2, True, 40 * 16 * 36)
    assert arms.classes == 2
    assert sum(arms.control[-40:]) < 0.9 * sum(arms.weighted[-40:])


@pytest.mark.parametrize("target", ["mask * 0.9", "scan"])
def test_shares_and_reconstructions_are_no_labels(zygote, target):
    seen = zygote.probe(MASKS.replace("TARGET", target), steps=12, parts=("labels",))
    assert seen.absent("labels").startswith("not-applicable")


TABLE = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x = torch.randn(400, SHAPE)
y = (torch.rand(400) < 0.1).long()
MODEL
weight = torch.tensor([1.8, 0.2])
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(4):
    for a, b in DataLoader(TensorDataset(x, y), batch_size=20):
        loss = LOSS
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
LINEAR = "model = nn.Linear(3, 2)"


@pytest.mark.parametrize(
    ("model", "loss", "weights"),
    [
        (LINEAR, "nn.functional.cross_entropy(model(a), b, weight=weight)", [1.8, 0.2]),
        (LINEAR, "nn.functional.cross_entropy(model(a), b)", []),
        (
            "model = nn.Linear(3, 1)",
            "nn.functional.binary_cross_entropy_with_logits(model(a)[:, 0], b.float(), pos_weight=torch.tensor(9.0))",
            [1.0, 9.0],
        ),
    ],
)
def test_class_weights_as_the_loss_gets_them(zygote, model, loss, weights):
    script = TABLE.replace("SHAPE", "3").replace("MODEL", model).replace("LOSS", loss)
    assert list(zygote.probe(script, steps=12)["labels"].class_weights) == pytest.approx(weights)


def test_the_features_of_a_sequence_whose_axes_the_model_swaps(zygote):
    model = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(5, 2, 3)
    def forward(self, x):
        return self.conv(x.transpose(1, 2)).mean(2)
model = Net()
x[:, :, 1] *= 1000"""
    script = TABLE.replace("SHAPE", "9, 5").replace("MODEL", model)
    inputs = zygote.probe(script.replace("LOSS", "nn.functional.cross_entropy(model(a), b)"), steps=12)["inputs"]
    assert len(inputs.channels) == 5
    assert (inputs.widest, inputs.scale_ratio) == (1, pytest.approx(1000, rel=0.2))


NOISY = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x = torch.randn(960, 8)
y = torch.tanh(x @ torch.randn(8, 1))
net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.RMSprop(net.parameters(), lr=RATE)
for epoch in range(60):
    for a, b in DataLoader(TensorDataset(x, y), batch_size=16):
        loss = nn.functional.mse_loss(net(a), b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


@pytest.mark.parametrize(("rate", "looks"), [("0.1", 2), ("0.002", 0)])
def test_longer_looks_follow_where_the_nearer_ones_favour_the_lower_rate(zygote, rate, looks):
    seen = zygote.probe(NOISY.replace("RATE", rate), steps=60, experiments=True, parts=("lower_rate",))
    far = seen["lower_rate"].far_looks
    assert len(far) == looks
    assert all(len(look.control) == len(look.treated) == 240 for look in far)
