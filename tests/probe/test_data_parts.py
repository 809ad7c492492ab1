"""Parts on the data equal what plain torch gives for the same batches."""

from __future__ import annotations

import pytest

TABLE = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(2)
x = torch.randn(400, 6) * torch.tensor([1.0, 500.0, 0.01, 1.0, 0.0, 1.0])
x[:, 5] = (x[:, 5] > 0).float()
x[:, 4] = 7.0
y = 300.0 + 40.0 * torch.randn(400, 1)
DAMAGE
model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
seen = []
for epoch in range(3):
    for a, b in DataLoader(TensorDataset(x, y), batch_size=40):
        loss = LOSS
        optimizer.zero_grad()
        loss.backward()
        seen.append(b)
        if len(seen) == 12:
            note(mean=torch.cat(seen).double().mean().item(), std=torch.cat(seen).double().std(correction=0).item())
        optimizer.step()
"""


def run(zygote, damage="", loss="nn.functional.mse_loss(model(a), b)", **options):
    return zygote.probe(TABLE.replace("DAMAGE", damage).replace("LOSS", loss), **{"steps": 12, **options})


@pytest.fixture(scope="module")
def table(zygote):
    return run(zygote)


def test_scales_of_the_columns(table):
    inputs = table["inputs"]
    assert (inputs.widest, inputs.narrowest) == (1, 2)
    assert inputs.scale_ratio == pytest.approx(5e4, rel=0.2)


def test_constant_columns_and_rows(table):
    batches = table["batches"]
    assert (batches.constant, batches.constants, batches.features) == ((4,), 1, 6)
    assert (batches.batches, batches.rows) == (12, 480)
    assert not batches.nonfinite


def test_targets_are_those_of_the_loss(table):
    targets = table["targets"]
    assert targets.function == "mse_loss"
    assert targets.values == 480
    assert targets.mean == pytest.approx(table.noted("mean")[0])
    assert targets.std == pytest.approx(table.noted("std")[0])


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("x[93, 2] = float('nan')", ("0", 2, 1, 0, 13, 2, False)),
        ("y[50] = float('inf')", ("1", 1, 0, 1, 10, 0, True)),
        ("x[0, 1] = 1e38; x[1, 1] = 3e38; x[2, 1] = 3e38", None),
    ],
)
def test_values_that_are_no_numbers(zygote, damage, expected):
    found = run(zygote, damage, parts=("batches",))["batches"].nonfinite
    if expected is None:
        assert not found
    else:
        first = found[0]
        assert (
            first.place,
            first.batch,
            first.nan,
            first.infinite,
            first.sample,
            first.feature,
            first.target,
        ) == expected


def test_additive_masks_are_left_out(zygote):
    damage = "x[:] = 0.0; x[3, 2:] = float('-inf')"
    loss = "nn.functional.mse_loss(model(a.clamp(min=-1)), b)"
    assert not run(zygote, damage, loss, parts=("batches",))["batches"].nonfinite


def test_classification_has_no_targets_of_this_kind(zygote):
    loss = "nn.functional.cross_entropy(torch.cat([model(a), -model(a)], 1), (b[:, 0] > 300).long())"
    assert "not-applicable" in run(zygote, loss=loss, parts=("targets",)).absent("targets")


def test_standardized_targets_are_replayed_in_one_unit(zygote):
    script = TABLE.replace("DAMAGE", "x = x / x.std(0).clamp(min=1)").replace(
        "LOSS", "nn.functional.mse_loss(model(a), b)"
    )
    script = script.replace("lr=1e-9", "lr=1e-3").replace("range(3)", "range(60)")
    part = zygote.probe(script, steps=40, experiments=True, parts=("targets", "standardized_targets"))
    found = part["standardized_targets"]
    first = found.looks[0]
    assert found.std == pytest.approx(40, rel=0.1)
    # The raw first loss is about (300^2 + 40^2) / 40^2 in units of the variance, the standardized one about 1.
    assert first.control[0] == pytest.approx(57, rel=0.15)
    assert 0.5 < first.treated[0] < 3


IMAGES = """
import torch
from torch import nn

torch.manual_seed(1)
grey = torch.randint(0, 256, (64, 1, 12, 12)).float()
images = CHANGE
model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(200, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for i in range(6):
    loss = nn.functional.cross_entropy(model(images), torch.arange(64) % 2)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("change", "step"),
    [
        ("grey / 255", 1 / 255),
        ("grey / 255 / 255", 1 / 255**2),
        ("(grey / 255 / 255 - 0.5) / 0.5", 2 / 255**2),
        ("(grey / 255 - 0.13) / 0.3", 1 / 255 / 0.3),
        ("grey", 1.0),
        ("torch.rand(64, 1, 12, 12)", None),
        ("(grey > 100).float()", None),
        ("torch.randn(64, 1, 12, 12) / 65025", None),
    ],
)
def test_the_distance_of_grey_values(zygote, change, step):
    found = zygote.probe(IMAGES.replace("CHANGE", change), steps=5, parts=("inputs",))["inputs"].grey_step
    assert found == (pytest.approx(step, rel=0.02) if step else None)


PREPARING = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 3) * torch.tensor([1e4, 1.0, 0.1]) + torch.tensor([3e4, 4.0, 0.5])
y = (x[:, 2:] - 0.5) * 10


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", x.mean(0))
        self.register_buffer("std", x.std(0))
        self.a, self.b = nn.Linear(3, 16), nn.Linear(16, 1)

    def forward(self, x):
        x = PREPARED
        return self.b(self.a(x).relu())


net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
for epoch in range(1000):
    for xb, yb in DataLoader(TensorDataset(x, y), batch_size=32):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(xb), yb).backward()
        optimizer.step()
"""


@pytest.mark.parametrize(
    ("prepared", "itself", "ratio"),
    [("x", False, 1e5), ("x - self.mean", True, 1e5), ("(x - self.mean) / self.std", True, 1.0)],
)
def test_features_that_the_model_prepares_are_those_of_its_first_layer(zygote, prepared, itself, ratio):
    script = PREPARING.replace("PREPARED", prepared)
    seen = zygote.probe(script, steps=40, experiments=True, parts=("inputs", "standardized_inputs"))
    inputs, look = seen["inputs"], seen["standardized_inputs"].looks[0]
    assert inputs.prepared is itself
    assert inputs.scale_ratio == pytest.approx(ratio, rel=0.2)
    # Standardized as it is already, nothing changes; else the second arm starts at the loss of standard inputs.
    assert look.treated[0] < 3
    assert (look.control[0] == pytest.approx(look.treated[0], rel=1e-2)) is (ratio == 1.0)


@pytest.mark.parametrize(
    ("loop", "lost", "whole"),
    [
        ("if not torch.isfinite(loss): continue", 4, 0),
        ("if step % 2: continue", 2, 5),
        ("loss = torch.nan_to_num(loss)", 0, 0),
    ],
)
def test_batches_that_are_given_up(zygote, loop, lost, whole):
    script = f"""
import torch
from torch import nn
torch.manual_seed(0)
x, y = torch.randn(96, 4), torch.randn(96)
x[::24, 1] = float("nan")
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(40):
    rows = slice(8 * (step % 12), 8 * (step % 12) + 8)
    loss = (model(x[rows])[:, 0] - y[rows]).square().mean()
    {loop}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
    part = zygote.probe(script, steps=8 if whole or lost else 12, parts=("batches",))["batches"]
    assert (part.loader, part.nonfinite_batches, part.lost, part.lost_whole) == ("", 5 if whole else 4, lost, whole)


BRANCHES = """
import torch
from torch import nn
torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.signal, self.context, self.joint = nn.Linear(4, 8), nn.Linear(3, 8), nn.Linear(7, 8)

    def forward(self, signal, context):
        return RESULT.sum(1)


model, scales = Net(), torch.tensor([5000.0, 0.01, 1.0])
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(400):
    signal, context = torch.randn(32, 4), torch.randn(32, 3) * scales
    loss = nn.functional.mse_loss(model(signal, context), context[:, 1] / 0.01)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("result", "layer"),
    [
        ("torch.relu(self.signal(signal) + self.context(context))", "context"),
        ("torch.relu(self.joint(torch.cat([signal, context], 1)))", "joint"),
    ],
)
def test_a_second_input_out_of_the_ordinary_is_told_of(zygote, result, layer):
    seen = zygote.probe(BRANCHES.replace("RESULT", result), steps=30, parts=("standardized_inputs",), experiments=True)
    inputs = seen["inputs"]
    assert (inputs.further, inputs.shape, inputs.first_layer) == (True, (32, 3), layer)
    assert (inputs.widest, inputs.narrowest) == (0, 1)
    assert inputs.scale_ratio == pytest.approx(5e5, rel=0.2)
    look = seen["standardized_inputs"].looks[0]
    assert look.treated[-1] < 0.01 * look.control[0]


def test_features_of_a_sequence_lie_in_its_last_axis(zygote):
    script = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.GRU(3, 4, batch_first=True)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(6):
    optimizer.zero_grad()
    model(torch.randn(8, 5, 3) * torch.tensor([100.0, 0.1, 1.0]))[0].square().mean().backward()
    optimizer.step()
"""
    inputs = zygote.probe(script, steps=6)["inputs"]
    assert (inputs.kind, len(inputs.channels), inputs.widest, inputs.narrowest) == ("sequence", 3, 0, 1)


def test_an_image_that_the_model_scales_itself_is_seen_as_its_first_layer_does(zygote):
    script = """
import torch
from torch import nn
torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        return self.conv(x / 255.0).mean()


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(6):
    optimizer.zero_grad()
    model(torch.randint(0, 256, (4, 1, 12, 12)).float() / 255).backward()
    optimizer.step()
"""
    inputs = zygote.probe(script, steps=6)["inputs"]
    assert (inputs.prepared, inputs.first_layer, inputs.max < 0.004) == (True, "conv", True)
    assert inputs.grey_step == pytest.approx(1 / 255**2, rel=1e-3)
