"""How long a loop waits for its data, and which graphs outlive their step."""

from __future__ import annotations

import pytest

approx = pytest.approx
LOADING = """
import time
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
torch.manual_seed(0)


class Slow(Dataset):
    def __len__(self):
        return 96
    def __getitem__(self, index):
        SLEEP and time.sleep(SLEEP)
        return torch.ones(4), torch.ones(1)


class Thinking(nn.Linear):
    def forward(self, x):
        time.sleep(THINK)
        return super().forward(x)


EPOCHS = 7
model = Thinking(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
loader = DataLoader(Slow(), batch_size=8OPTIONS)
for epoch in range(1, EPOCHS + 1):
    for x, y in loader:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
"""


def loading(zygote, sleep=0.002, think=0.004, options="", **more):
    script = LOADING.replace("SLEEP", str(sleep)).replace("THINK", str(think)).replace("OPTIONS", options)
    return zygote.probe(script, steps=30, parts=("data_wait", "fed_from_memory"), **more)


def middle(values):
    return sorted(values)[len(values) // 2]


def test_a_loop_that_waits(zygote):
    seen = loading(zygote, experiments=True)
    part = seen["data_wait"]
    assert (part.loader, part.workers, part.batches, part.epochs) == ("loader", 0, 12, 7)
    assert len(part.waits) == len(part.seconds) == 29
    assert middle(part.waits) >= 8 * 0.002
    assert middle(part.seconds) >= 8 * 0.002 + 0.004
    assert 0.3 < middle(part.waits) / middle(part.seconds) < 1
    fed = seen["fed_from_memory"]
    assert fed.observed == approx(middle(part.seconds), rel=1e-3)
    assert middle(fed.seconds) < 0.7 * fed.observed


SPLIT = """
import time
import torch
from torch.utils.data import DataLoader

class Slow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        time.sleep(0.03)
        return grad

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, x):
        time.sleep(0.02)
        return Slow.apply(self.layer(x))

class Descent(torch.optim.SGD):
    def step(self, closure=None):
        time.sleep(0.01)
        return super().step(closure)

model = Net()
optimizer = Descent(model.parameters(), 0.01)
for epoch in range(4):
    for x in DataLoader(torch.randn(64, 4), batch_size=8):
        time.sleep(0.015)
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


def test_the_time_of_a_step_is_split(zygote):
    part = zygote.probe(SPLIT, steps=20, parts=("data_wait", "gradients", "updates", "activations"))["data_wait"]
    assert len(part.forward) == len(part.backward) == len(part.update) == len(part.seconds) == 19
    for values, asleep in ((part.forward, 0.02), (part.backward, 0.03), (part.update, 0.01)):
        assert asleep <= middle(values) < 3 * asleep
    whole = zip(part.waits, part.forward, part.backward, part.update, part.seconds, strict=True)
    assert all(sum(shares) <= seconds + 1e-4 for *shares, seconds in whole)
    rest = [seconds - sum(shares) for *shares, seconds in zip(
        part.waits, part.forward, part.backward, part.update, part.seconds, strict=True)]  # fmt: skip
    assert min(rest) >= 0.0149  # the sleep in the loop itself


def test_a_loop_that_does_not_wait(zygote):
    seen = loading(zygote, sleep=0.0, think=0.04, experiments=True)
    part = seen["data_wait"]
    assert middle(part.waits) < 0.2 * middle(part.seconds)
    assert "not-applicable: the loop hardly waits" in seen.absent("fed_from_memory")


def test_workers_hide_the_loading(zygote):
    part = loading(zygote, sleep=0.0005, think=0.03, options=", num_workers=2")["data_wait"]
    assert part.workers == 2
    assert middle(part.waits) < 0.3 * middle(part.seconds)


def test_the_time_of_an_evaluation_is_not_the_loaders(zygote):
    script = LOADING.replace("SLEEP", "0.0").replace("THINK", "0.01").replace("OPTIONS", "")
    script += """
    with torch.no_grad():
        for x, y in DataLoader(Slow(), batch_size=48):
            time.sleep(0.2)
            model(x)
"""
    part = zygote.probe(script, steps=30, parts=("data_wait",))["data_wait"]
    assert max(part.waits) < 0.1


@pytest.mark.parametrize(
    ("loop", "epochs"),
    [
        ("for epoch in range(50):\n    for x in loader:\n        step(x)", 50),
        ("for epoch in range(args.epochs):\n    for x in loader:\n        step(x)", 12),
        ("for epoch in range(start, start + 5):\n    for x in loader:\n        step(x)", 5),
        ("for epoch in list(range(9)):\n    for x in loader:\n        step(x)", 9),
        ("def epoch():\n    for x in loader:\n        step(x)\nfor _ in range(6):\n    epoch()", 6),
        ("while True:\n    for x in loader:\n        step(x)", None),
        ("for x in loader:\n    step(x)", None),
        (
            "for epoch in range(int('8')):\n    for x in loader:\n        step(x)",
            None,
        ),  # nothing of the user's is called
    ],
)
def test_planned_epochs(zygote, loop, epochs):
    script = f"""
import argparse
import torch
args, start = argparse.Namespace(epochs=12), 3
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
loader = torch.utils.data.DataLoader(torch.ones(64, 4), batch_size=4)

def step(x):
    optimizer.zero_grad()
    model(x).sum().backward()
    optimizer.step()

{loop}
"""
    assert zygote.probe(script, steps=20, parts=("data_wait",))["data_wait"].epochs == epochs


def test_a_loop_without_a_loader(zygote):
    script = """
import torch
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(10):
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
"""
    assert "not-applicable" in zygote.probe(script, steps=8, parts=("data_wait",)).absent("data_wait")


# -------------------------------------------------------------------------------------------------------------- graphs

KEEPING = """
import collections
import torch
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
losses, total, kept = [], 0.0, collections.deque(maxlen=5)


class Meter:
    def __init__(self):
        self.values = {"loss": []}

    def update(self, value):
        self.values["loss"].append(value)


def train():
    global total
    meter = Meter()
    for step in range(40):
        optimizer.zero_grad()
        output = model(torch.randn(8, 4))
        loss = output.pow(2).mean()
        loss.backward()
        optimizer.step()
        KEEP


train()
"""


def keeping(zygote, keep):
    script = KEEPING.replace("KEEP", "\n        ".join(keep.splitlines()))
    return zygote.probe(script, steps=30, parts=("retained_graphs",))["retained_graphs"]


@pytest.mark.parametrize(
    ("keep", "holder", "kind", "line"),
    [
        ("losses.append(loss)", "losses", "collection", 27),
        ("losses.append((step, loss))", "losses", "collection", 27),
        ("losses.append({'loss': loss})", "losses", "collection", 27),
        ("total += loss", "total", "tensor", 27),
        ("meter.update(loss)", "meter.values", "collection", None),
        ("losses.append(output)", "losses", "collection", 27),
    ],
)
def test_what_keeps_graphs(zygote, keep, holder, kind, line):
    part = keeping(zygote, keep)
    # What is kept after step n is the graphs of the steps up to n - 2: the last ones do not count.
    assert part.alive == (0, 0, *range(1, 29))
    assert (part.holder, part.holder_kind) == (holder, kind)
    assert line is None or part.location.line == line
    assert part.nodes == 6  # mean, pow, addmm, t, and AccumulateGrad twice
    assert len(part.memory) == 30


@pytest.mark.parametrize(
    "keep",
    [
        "losses.append(loss.item())",
        "losses.append(loss.detach())",
        "total += loss.item()",
        "meter.update(float(loss))",
        "last = loss",
        "losses[:] = [loss]",
    ],
)
def test_what_keeps_none(zygote, keep):
    part = keeping(zygote, keep)
    assert max(part.alive) == 0
    assert part.holder == ""


def test_a_bounded_collection(zygote):
    part = keeping(zygote, "kept.append(loss)")
    assert max(part.alive) == 4


def test_a_sum_that_begins_anew(zygote):
    part = keeping(zygote, "total = total + loss if step % 10 else 0.0")
    assert max(part.alive) < 10
    assert 0 in part.alive[11:]


def test_evaluation_with_gradients_that_is_kept(zygote):
    keep = "if step % 3 == 0:\n    losses.append(model(torch.randn(64, 4)).mean())"
    assert max(keeping(zygote, keep).alive) >= 8


def test_watching_changes_nothing(zygote):
    script = KEEPING.replace("KEEP", "losses.append(loss)")
    assert zygote.probe(script, record=30).notes == zygote.bare(script, record=30).notes
