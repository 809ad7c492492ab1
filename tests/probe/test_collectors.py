"""What the collectors report equals what plain autograd and numpy give for the same loop."""

from __future__ import annotations

import math

import numpy as np
import pytest

approx = pytest.approx
STEPS = 18
LATE = STEPS * 2 // 3

MLP = """
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(1)
spread = torch.tensor([1.0, 5.0, 0.2, 30.0, 1.0])
x = torch.randn(80, 5) * spread + torch.tensor([0.0, 3.0, -1.0, 100.0, 0.5])
y = torch.randint(0, 4, (80,)) % 3


class Pairs(Dataset):
    def __len__(self):
        return len(x)

    def __getitem__(self, index):
        return x[index], y[index]


loader = DataLoader(Pairs(), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)


def norms():
    return {name: parameter.grad.norm().item() for name, parameter in model.named_parameters()}


for epoch in range(10):
    for data, target in loader:
        optimizer.zero_grad()
        logits = model(data)
        loss = nn.functional.cross_entropy(logits, target)
        each = nn.functional.log_softmax(logits.detach().double(), 1)[range(len(target)), target].neg()
        loss.backward()
        raw = norms()
        CLIP
        note(data=data.tolist(), target=target.tolist(), predicted=logits.argmax(1).tolist(), logits=logits.tolist(),
             each=each.tolist(), loss=loss.item(), rate=optimizer.param_groups[0]["lr"], raw=raw, used=norms())
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        optimizer.step()
        note(ratio={name: ((parameter - before[name]).pow(2).mean() / before[name].pow(2).mean()).sqrt().item()
                    for name, parameter in model.named_parameters()})
        scheduler.step()
"""


def whole(norms):
    return math.sqrt(sum(norm**2 for norm in norms.values()))


def layer(norms, name):
    return whole({key: norm for key, norm in norms.items() if key.startswith(f"{name}.")})


@pytest.fixture(scope="module")
def mlp(zygote):
    """(bare, observed)"""
    script = MLP.replace("CLIP", "")
    return zygote.bare(script), zygote.probe(script, steps=STEPS)


@pytest.fixture(scope="module")
def clipped(zygote):
    script = MLP.replace("CLIP", "nn.utils.clip_grad_norm_(model.parameters(), 0.5)")
    return zygote.bare(script), zygote.probe(script, steps=STEPS)


def test_losses(mlp):
    bare, seen = mlp
    assert seen["trajectory"].losses == tuple(bare.noted("loss")[:STEPS])


def test_learning_rates_in_force(mlp):
    bare, seen = mlp
    assert seen["trajectory"].learning_rates == tuple(bare.noted("rate")[:STEPS])


def test_epochs(mlp):
    assert mlp[1]["trajectory"].epoch_starts == (5, 10, 15)


def test_global_gradient_norms(mlp):
    bare, seen = mlp
    assert seen["trajectory"].grad_norms == approx([whole(norms) for norms in bare.noted("raw")[:STEPS]], rel=1e-5)
    assert seen["trajectory"].clipped_norms == ()


def test_clipped_gradient_norms(clipped):
    bare, seen = clipped
    raw, used = bare.noted("raw")[:STEPS], bare.noted("used")[:STEPS]
    assert any(whole(norms) > 0.6 for norms in raw)
    assert seen["trajectory"].grad_norms == approx([whole(norms) for norms in raw], rel=1e-5)
    assert seen["trajectory"].clipped_norms == approx([whole(norms) for norms in used], rel=1e-5)
    [clipping] = seen["program"].clippings
    assert (clipping.kind, clipping.limit, clipping.calls) == ("norm", 0.5, STEPS)


@pytest.mark.parametrize("name", ["0", "2"])
def test_gradient_norms_of_a_layer_are_those_the_optimizer_used(clipped, name):
    bare, seen = clipped
    part = seen["gradients"]
    assert [found.name for found in part.layers] == ["0", "2"]
    assert part.steps == tuple(range(STEPS))
    found = next(found for found in part.layers if found.name == name)
    assert found.norms == approx([layer(norms, name) for norms in bare.noted("used")[:STEPS]], rel=1e-3)


def test_update_ratios(mlp):
    bare, seen = mlp
    part = seen["updates"]
    assert part.steps == (0, 1, 2, 9)
    assert [found.name for found in part.layers] == ["0.weight", "2.weight"]
    ratios = bare.noted("ratio")
    for found in part.layers:
        assert found.ratios == approx([ratios[step][found.name] for step in part.steps], rel=1e-3)


def test_input_statistics(mlp):
    bare, seen = mlp
    part = seen["inputs"]
    batches = bare.noted("data")[: part.samples // 16]
    values = np.concatenate([np.array(batch, np.float32) for batch in batches]).astype(np.float64)
    assert len(batches) >= 5
    assert (part.kind, part.shape, part.samples) == ("features", (16, 5), len(values))
    assert [channel.mean for channel in part.channels] == approx(values.mean(0), rel=1e-6)
    assert [channel.std for channel in part.channels] == approx(values.std(0), rel=1e-6)
    assert [channel.min for channel in part.channels] == approx(values.min(0))
    assert [channel.max for channel in part.channels] == approx(values.max(0))
    assert (part.mean, part.std, part.min, part.max) == approx(
        (values.mean(), values.std(), values.min(), values.max()), rel=1e-6
    )
    assert part.worst_channel == int(np.argmax(np.abs(values.mean(0)) / values.std(0)))
    assert (part.first_layer, part.first_layer_kind, part.normalized_first) == ("0", "Linear", False)


def test_label_histogram_and_hits(mlp):
    bare, seen = mlp
    targets, predicted = np.array(bare.noted("target")[:STEPS]), np.array(bare.noted("predicted")[:STEPS])
    part = seen["labels"]
    late, guess = targets[LATE:], predicted[LATE:]
    assert part.classes == 4
    assert part.counts == tuple(np.bincount(targets.ravel(), minlength=4))
    assert not part.complete
    assert part.seen == tuple(np.bincount(late.ravel(), minlength=4))
    assert part.hits == tuple(np.bincount(late[late == guess], minlength=4))
    assert part.predicted == tuple(np.bincount(guess.ravel(), minlength=4))


def test_initial_loss(mlp):
    bare, seen = mlp
    each = np.array(bare.noted("each")[0])
    shares = np.bincount(np.concatenate(bare.noted("target")[:10])) / 160
    part = seen["initial_loss"]
    assert part.value == approx(each.mean(), rel=1e-5)
    assert part.standard_error == approx(each.std(ddof=1) / math.sqrt(len(each)), rel=1e-4)
    assert (part.samples, part.classes) == (16, 4)
    assert part.uniform == approx(math.log(4))
    assert part.marginal == approx(-sum(share * math.log(share) for share in shares if share))
    assert part.max_logit == approx(np.abs(bare.noted("logits")[0]).max())
    assert (part.where, part.weighted, part.pretrained) == ("2", False, False)


def test_row_sums_of_logits(mlp):
    bare, seen = mlp
    [part] = seen["loss_inputs"].calls
    rows = np.concatenate([np.array(bare.noted("logits")[step]) for step in (0, 1, 2, 9)])
    assert (part.calls, part.rows, part.classes) == (4, len(rows), 4)
    assert part.row_sum_error == approx(np.abs(rows.sum(1) - 1).max(), rel=1e-5)
    assert (part.min_value, part.max_value) == approx((rows.min(), rows.max()), rel=1e-6)
    assert not part.log_probabilities


def test_the_program(mlp):
    program = mlp[1]["program"]
    [model], [optimizer], [loader], [loss] = program.models, program.optimizers, program.loaders, program.losses
    assert (model.kind, model.parameters, model.trainable) == ("Sequential", 5 * 12 + 12 + 12 * 4 + 4, 124)
    assert [found.name for found in model.layers if found.parameters] == ["0", "2"]
    assert (optimizer.kind, optimizer.learning_rates, optimizer.momentum) == ("SGD", (0.05,), 0.9)
    assert (loader.name, loader.role, loader.batch_size, loader.samples, loader.shuffled) == (
        ("loader", "training", 16, 80, True)
    )
    assert (loss.name, loss.calls) == ("cross_entropy", STEPS)
    assert (program.loop, program.manual_updates, program.backwards_per_step) == ("loader", False, 1.0)


IMAGES = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(32, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for step in range(12):
    image = torch.rand(4, 3, 6, 6) * torch.tensor([1.0, 255.0, 0.0]).view(3, 1, 1)
    note(image=image.tolist())
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(image), torch.tensor([0, 1, 0, 1])).backward()
    optimizer.step()
"""


def test_channels_of_images(zygote):
    bare, seen = zygote.bare(IMAGES), zygote.probe(IMAGES, steps=12)
    part = seen["inputs"]
    values = np.concatenate([np.array(batch, np.float64) for batch in bare.noted("image")[: part.samples // 4]])
    assert (part.kind, len(part.channels), part.samples) == ("image", 3, len(values))
    assert part.samples >= 20
    assert [channel.mean for channel in part.channels] == approx(values.mean((0, 2, 3)), rel=1e-6)
    assert [channel.std for channel in part.channels] == approx(values.std((0, 2, 3)), rel=1e-6)
    assert part.zero_share == approx((values == 0).mean())


LOSS = """
import torch
from torch import nn
torch.manual_seed(3)
model = nn.Linear(4, CLASSES)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(5):
    target = TARGET
    optimizer.zero_grad()
    logits = model(torch.randn(12, 4))
    note(logits=logits.tolist(), target=target.tolist())
    loss = CRITERION(logits, target)
    loss.backward()
    optimizer.step()
"""


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


@pytest.mark.parametrize(
    ("criterion", "weighted", "smoothing"),
    [
        ("nn.CrossEntropyLoss()", False, 0.0),
        ("nn.CrossEntropyLoss(reduction='sum')", False, 0.0),
        ("nn.CrossEntropyLoss(weight=torch.tensor([1., 9., 2.]))", True, 0.0),
        ("nn.CrossEntropyLoss(label_smoothing=0.2)", False, 0.2),
        ("nn.CrossEntropyLoss(ignore_index=2)", False, 0.0),
        ("(lambda a, b: nn.functional.nll_loss(torch.log_softmax(a, 1), b))", False, 0.0),
    ],
)
def test_initial_loss_of_every_kind_of_cross_entropy(zygote, criterion, weighted, smoothing):
    """Per sample, without weights, smoothing or reduction."""
    script = (
        LOSS.replace("CLASSES", "3").replace("TARGET", "torch.randint(0, 3, (12,))").replace("CRITERION", criterion)
    )
    seen = zygote.probe(script, steps=5)
    logits, target = np.array(seen.noted("logits")[0]), np.array(seen.noted("target")[0])
    each = -log_softmax(logits)[range(12), target]
    labels = np.concatenate(seen.noted("target"))
    if "ignore_index" in criterion:
        each, labels = each[target != 2], labels[labels != 2]
    shares = np.bincount(labels) / len(labels)
    part = seen["initial_loss"]
    assert part.value == approx(each.mean(), rel=1e-5)
    assert part.standard_error == approx(each.std(ddof=1) / math.sqrt(len(each)), rel=1e-4)
    assert part.marginal == approx(-sum(share * math.log(share) for share in shares if share))
    assert (part.samples, part.classes, part.weighted, part.label_smoothing) == (len(each), 3, weighted, smoothing)


def test_initial_loss_of_binary_labels(zygote):
    criterion = "nn.BCEWithLogitsLoss(pos_weight=torch.tensor(5.0))"
    target = "torch.randint(0, 2, (12, 1)).float()"
    script = LOSS.replace("CLASSES", "1").replace("TARGET", target).replace("CRITERION", criterion)
    seen = zygote.probe(script, steps=5)
    logits, target = np.array(seen.noted("logits")[0]), np.array(seen.noted("target")[0])
    each = np.log1p(np.exp(logits)) - target * logits
    part = seen["initial_loss"]
    assert part.value == approx(each.mean(), rel=1e-5)
    assert (part.uniform, part.weighted) == (approx(math.log(2)), True)
    assert seen["labels"].counts == tuple(np.bincount(np.concatenate(seen.noted("target")).ravel().astype(int)))


def test_no_class_labels_no_initial_loss(zygote):
    script = LOSS.replace("CLASSES", "1").replace("TARGET", "torch.randn(12, 1)").replace("CRITERION", "nn.MSELoss()")
    seen = zygote.probe(script, steps=5)
    assert seen.absent("initial_loss").startswith("not-applicable")
    assert seen.absent("labels").startswith("not-applicable")
    assert seen.absent("loss_inputs").startswith("not-applicable")


@pytest.mark.parametrize(
    ("made", "operation", "harmless"),
    [
        ("torch.softmax(model(x), 1)", "SoftmaxBackward0", False),
        ("model(x).softmax(-1) * 1.0", "MulBackward0", False),
        ("torch.log_softmax(model(x), 1)", "LogSoftmaxBackward0", True),
    ],
)
def test_rows_that_were_normalised_already(zygote, made, operation, harmless):
    script = f"""
import torch
torch.manual_seed(0)
model = torch.nn.Linear(4, 5)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(6):
    x = torch.randn(8, 4)
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy({made}, torch.randint(0, 5, (8,))).backward()
    optimizer.step()
"""
    [call] = zygote.probe(script, steps=6)["loss_inputs"].calls
    assert (call.row_sum_error < 1e-5) is not harmless
    assert call.log_probabilities is harmless
    assert call.producer == operation
    assert (call.location.line, call.producer_location.line) == (9, 4)


UNITS = """
import torch
from torch import nn
torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)

    def forward(self, x):
        return self.last(RECTIFIED)


model = Net()
with torch.no_grad():
    model.first.weight[:3] = 0.0
    model.first.bias[:3] = -1.0
    model.first.bias[3:] = 1.0
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
for step in range(18):
    if step == 9:
        model.first.bias.data[5] = -1000.0
    x = torch.randn(32, 4)
    note(active=(x @ model.first.weight.T + model.first.bias > 0).float().mean(0).tolist())
    optimizer.zero_grad()
    model(x).pow(2).mean().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    "rectified",
    [
        "self.act(self.first(x))",
        "nn.functional.relu(self.first(x))",
        "torch.relu(self.first(x))",
        "self.first(x).relu_()",
        "self.first(x).clamp(min=0)",
        "nn.functional.relu6(self.first(x) / 100)",
    ],
)
def test_dead_units(zygote, rectified):
    seen = zygote.probe(UNITS.replace("RECTIFIED", rectified), steps=18)
    [found] = seen["activations"].layers
    table = np.array(seen.noted("active"))[list(seen["activations"].steps)]
    assert (found.name, found.units, found.batches) == ("first", 8, len(table))
    assert found.dead == (table == 0).all(0).sum() == 3
    assert found.dead_start == (table[0] == 0).sum() == 3
    assert found.dead_end == (table[-len(table) // 3 :] == 0).all(0).sum() == 4
    assert found.samples == 32 * len(table)
    assert found.active_share == approx(table.mean(), abs=1e-6)


def test_dead_channels_of_maps(zygote):
    script = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 1))
with torch.no_grad():
    model[0].bias[2] = -50.0
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
for step in range(6):
    optimizer.zero_grad()
    model(torch.randn(8, 1, 6, 6)).pow(2).mean().backward()
    optimizer.step()
"""
    [found] = zygote.probe(script, steps=6)["activations"].layers
    assert (found.units, found.dead, found.samples // found.batches) == (4, 1, 8 * 16)


ACCUMULATION = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
SCALER = None
for micro in range(24):
    x = torch.randn(4, 3)
    loss = model(x).pow(2).mean() / 4
    BACKWARD
    note(loss=loss.item())
    if micro % 4 == 3:
        STEP
        optimizer.zero_grad()
"""


def test_accumulated_losses_add_up(zygote):
    script = ACCUMULATION.replace("BACKWARD", "loss.backward()").replace("STEP", "optimizer.step()")
    seen = zygote.probe(script, steps=6)
    expected = np.array(seen.noted("loss")).reshape(6, 4).sum(1)
    assert seen["trajectory"].losses == approx(expected, rel=1e-6)
    assert seen["program"].backwards_per_step == 4.0


def test_the_loss_scale_is_taken_off(zygote):
    plain = ACCUMULATION.replace("BACKWARD", "loss.backward()").replace("STEP", "optimizer.step()")
    scaled = ACCUMULATION.replace("SCALER = None", "scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)")
    scaled = scaled.replace("BACKWARD", "scaler.scale(loss).backward()").replace(
        "STEP", "scaler.step(optimizer); scaler.update()"
    )
    one, other = zygote.probe(plain, steps=6), zygote.probe(scaled, steps=6)
    assert other["trajectory"].losses == approx(one["trajectory"].losses, rel=1e-5)
    assert other["trajectory"].grad_norms == approx(one["trajectory"].grad_norms, rel=1e-5)
    assert (one["program"].scaler, other["program"].scaler) == (False, True)


def test_steps_that_a_scaler_skips(zygote):
    script = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
scaler = torch.amp.GradScaler('cpu', init_scale=2.0)
for step in range(6):
    optimizer.zero_grad()
    loss = model(torch.randn(4, 3)).pow(2).mean() * (1e38 if step == 2 else 1.0) * (1e10 if step == 2 else 1.0)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
"""
    seen = zygote.probe(script, steps=6)
    assert seen["trajectory"].skipped_steps == (2,)
    assert seen["nonfinite"].scaler_skipped == 1
    assert seen["nonfinite"].first_step is None


def test_evaluations(zygote):
    script = """
import torch
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
data = TensorDataset(torch.randn(40, 3), torch.randn(40, 1))
train, val = DataLoader(data, batch_size=8), DataLoader(data, batch_size=20)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(3):
    model.train()
    for x, y in train:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        note(loss=sum(torch.nn.functional.mse_loss(model(x), y).item() for x, y in val) / 2)
"""
    seen = zygote.probe(script)
    assert [step for step, _ in seen["trajectory"].held_out] == [5, 10, 15]
    assert [loss for _, loss in seen["trajectory"].held_out] == approx(seen.noted("loss"), rel=1e-6)
    assert [loader.role for loader in seen["program"].loaders] == ["training", "held-out"]
    switches = [(switch.training, switch.step) for switch in seen["program"].mode_switches]
    assert switches == [(True, 0), (False, 5), (True, 5), (False, 10), (True, 10), (False, 15)]


def test_several_losses_make_several_series(zygote):
    script = """
import torch
torch.manual_seed(0)
one, two = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)
first, second = torch.optim.SGD(one.parameters(), lr=0.1), torch.optim.SGD(two.parameters(), lr=0.1)
for step in range(6):
    x = torch.randn(4, 3)
    a, b = one(x).pow(2).mean(), (two(x) - 1).pow(2).mean()
    note(a=a.item(), b=b.item())
    first.zero_grad()
    a.backward()
    first.step()
    second.zero_grad()
    b.backward()
    second.step()
"""
    seen = zygote.probe(script)
    first, second = seen["trajectory"].series
    # That a second optimizer belongs to the step is learnt in the second one.
    assert seen["trajectory"].losses[2:] == approx([a + b for a, b in zip(*map(seen.noted, "ab"), strict=True)][2:])
    assert (first.location.line, second.location.line) == (11, 14)
    assert first.values == approx(seen.noted("a"), rel=1e-6)
    assert second.values == approx(seen.noted("b"), rel=1e-6)
