"""Training loops of every shape: watching changes nothing, and each experiment runs or says why not."""

from __future__ import annotations

import pytest

PRELUDE = """
import copy, math, os, random
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

torch.manual_seed(0); random.seed(0); np.random.seed(0)
x = torch.randn(640, 6)
y = (x[:, 0] + x[:, 1] > 0).long()
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)


def update(a, b, net=None):
    optimizer.zero_grad()
    loss = F.cross_entropy((net or model)(a), b)
    loss.backward()
    optimizer.step()
    return loss


"""

RUNS = "runs"
# name -> (what comes after the prelude, what the overfit experiment says, what the paired replay of the rate says):
# RUNS, or a part of the reason why it does not run
SHAPES = {
    "loader": (
        """
for epoch in range(30):
    for a, b in loader:
        update(a, b)
""",
        RUNS,
        RUNS,
    ),
    "loader subclass with a batch of its own kind": (
        """
from typing import NamedTuple
class Batch(NamedTuple):
    inputs: torch.Tensor
    labels: torch.Tensor
class Loader(DataLoader):
    def __iter__(self):
        for a, b in super().__iter__():
            yield {"batch": Batch(a, b), "ids": ["id"] * len(a)}
for epoch in range(30):
    for item in Loader(TensorDataset(x, y), batch_size=16, shuffle=True):
        update(item["batch"].inputs, item["batch"].labels)
""",
        RUNS,
        RUNS,
    ),
    "random batches drawn by hand": (
        """
for step in range(800):
    rows = torch.randint(0, len(x), (16,))
    update(x[rows], y[rows])
""",
        RUNS,
        RUNS,
    ),
    "batches drawn with numpy": (
        """
for step in range(800):
    rows = np.random.choice(len(x), 16)
    update(x[rows], y[rows])
""",
        RUNS,
        RUNS,
    ),
    "slices of a permutation": (
        """
for epoch in range(30):
    order = torch.randperm(len(x))
    for i in range(0, len(x), 16):
        update(x[order[i:i + 16]], y[order[i:i + 16]])
""",
        RUNS,
        RUNS,
    ),
    "full batch": (
        """
for step in range(800):
    update(x, y)
""",
        RUNS,
        RUNS,
    ),
    "generator": (
        """
def batches():
    while True:
        rows = random.sample(range(len(x)), 16)
        yield x[rows], y[rows]
for step, (a, b) in zip(range(800), batches()):
    update(a, b)
""",
        RUNS,
        RUNS,
    ),
    "iterable dataset": (
        """
class Stream(IterableDataset):
    def __iter__(self):
        for _ in range(20000):
            a = torch.randn(6)
            yield a, (a[0] > 0).long()
for a, b in DataLoader(Stream(), batch_size=16):
    update(a, b)
""",
        RUNS,
        RUNS,
    ),
    "dataset that draws at random": (
        """
class Noisy(Dataset):
    def __len__(self):
        return 100000
    def __getitem__(self, index):
        return x[index % 640] + 0.1 * torch.randn(6), y[index % 640]
for a, b in DataLoader(Noisy(), batch_size=16):
    update(a, b)
""",
        RUNS,
        RUNS,
    ),
    "environment": (
        """
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for episode in range(300):
    state, logs, rewards = torch.zeros(6), [], []
    for t in range(random.randint(3, 8)):
        choice = torch.distributions.Categorical(logits=model(state))
        action = choice.sample()
        logs.append(choice.log_prob(action))
        rewards.append(float(action))
        state = torch.randn(6)
    optimizer.zero_grad()
    (-torch.stack(logs) * sum(rewards)).sum().backward()
    optimizer.step()
""",
        "reinforcement learning",
        "reinforcement learning",
    ),
    "encoder and decoder with an optimizer each": (
        """
encoder, decoder = nn.Linear(6, 16), nn.Linear(16, 2)
first, second = torch.optim.SGD(encoder.parameters(), lr=0.1), torch.optim.Adam(decoder.parameters(), lr=0.01)
for epoch in range(30):
    for a, b in loader:
        first.zero_grad(); second.zero_grad()
        F.cross_entropy(decoder(torch.relu(encoder(a))), b).backward()
        first.step(); second.step()
""",
        RUNS,
        RUNS,
    ),
    "adversaries": (
        """
generator, critic = nn.Linear(4, 6), nn.Linear(6, 1)
one, other = (torch.optim.Adam(net.parameters(), lr=1e-3) for net in (generator, critic))
for epoch in range(30):
    for a, b in loader:
        fake = generator(torch.randn(16, 4))
        other.zero_grad()
        (F.softplus(-critic(a)) + F.softplus(critic(fake.detach()))).mean().backward()
        other.step()
        one.zero_grad()
        F.softplus(-critic(fake)).mean().backward()
        one.step()
""",
        "several optimizers take turns",
        "several optimizers take turns",
    ),
    "closure of LBFGS": (
        """
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
for step in range(300):
    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[:64]), y[:64])
        loss.backward()
        return loss
    optimizer.step(closure)
""",
        RUNS,
        RUNS,
    ),
    "closure by keyword": (
        """
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(30):
    for a, b in loader:
        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(model(a), b)
            loss.backward()
            return loss
        optimizer.step(closure=closure)
""",
        RUNS,
        RUNS,
    ),
    "gradient accumulation": (
        """
for epoch in range(60):
    for i, (a, b) in enumerate(loader):
        (F.cross_entropy(model(a), b) / 4).backward()
        if i % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
""",
        RUNS,
        RUNS,
    ),
    "update by hand": (
        """
for epoch in range(30):
    for a, b in loader:
        model.zero_grad()
        F.cross_entropy(model(a), b).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.1 * p.grad
""",
        RUNS,
        "without a torch optimizer",
    ),
    "gradients from torch.autograd.grad, no optimizer": (
        """
for epoch in range(30):
    for a, b in loader:
        loss = F.cross_entropy(model(a), b)
        with torch.no_grad():
            for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters()))):
                p -= 0.1 * g
""",
        RUNS,
        "without a torch optimizer",
    ),
    "mixed precision with a scaler": (
        """
scaler = torch.amp.GradScaler("cpu")
for epoch in range(30):
    for a, b in loader:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(a), b)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
""",
        RUNS,
        RUNS,
    ),
    "schedulers of three kinds": (
        """
cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=2000)
plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
steps = torch.optim.lr_scheduler.StepLR(optimizer, 10)
for epoch in range(30):
    for a, b in loader:
        loss = update(a, b)
        cycle.step()
    plateau.step(loss)
    steps.step()
""",
        RUNS,
        RUNS,
    ),
    "rate written by hand": (
        """
for step, (a, b) in enumerate(batch for _ in range(30) for batch in loader):
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * min(1.0, (step + 1) / 10)
    update(a, b)
""",
        RUNS,
        RUNS,
    ),
    "moving average of the weights": (
        """
average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
for epoch in range(30):
    for a, b in loader:
        update(a, b)
        average.update_parameters(model)
    with torch.no_grad():
        average(x[:64])
""",
        RUNS,
        RUNS,
    ),
    "gradient checkpointing": (
        """
from torch.utils.checkpoint import checkpoint
class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 2)
        self.body = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.1))
    def forward(self, a):
        return self.last(checkpoint(self.body, torch.relu(self.first(a)), use_reentrant=False))
model = Deep()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(30):
    for a, b in loader:
        update(a, b)
""",
        RUNS,
        RUNS,
    ),
    "torch.compile": (
        """
compiled = torch.compile(model, backend="eager")
for epoch in range(30):
    for a, b in loader:
        update(a, b, compiled)
""",
        RUNS,
        RUNS,
    ),
    "weights pruned, normalized, tied and frozen": (
        """
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm
model = nn.Sequential(weight_norm(nn.Linear(6, 6)), nn.Linear(6, 6), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
model[2].weight = model[1].weight
prune.l1_unstructured(model[4], "weight", 0.3)
model[1].bias.requires_grad_(False)
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
for epoch in range(30):
    for a, b in loader:
        update(a, b)
""",
        RUNS,
        RUNS,
    ),
    "double precision": (
        """
model.double()
for epoch in range(30):
    for a, b in loader:
        update(a.double(), b)
""",
        RUNS,
        RUNS,
    ),
    "forward called by name": (
        """
for epoch in range(30):
    for a, b in loader:
        optimizer.zero_grad()
        F.cross_entropy(model.forward(a), b).backward()
        optimizer.step()
""",
        RUNS,
        RUNS,
    ),
    "forward called by name, batches by hand": (
        """
for step in range(800):
    rows = torch.randint(0, len(x), (16,))
    optimizer.zero_grad()
    F.cross_entropy(model.forward(x[rows]), y[rows]).backward()
    optimizer.step()
""",
        RUNS,
        RUNS,
    ),
    "train() of another kind": (
        """
class Learner(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = model
    def train(self, batches, epochs=1):
        for _ in range(epochs):
            for a, b in batches:
                update(a, b, self.net)
Learner().train(loader, epochs=30)
""",
        RUNS,
        RUNS,
    ),
    "sparse gradients": (
        """
model = nn.Sequential(nn.EmbeddingBag(50, 8, sparse=True), nn.Linear(8, 2))
one = torch.optim.SparseAdam(model[0].parameters(), lr=0.01)
other = torch.optim.Adam(model[1].parameters(), lr=0.01)
words = torch.randint(0, 50, (640, 5))
labels = (words.float().mean(1) > 25).long()
for epoch in range(30):
    for a, b in DataLoader(TensorDataset(words, labels), batch_size=16):
        one.zero_grad(); other.zero_grad()
        F.cross_entropy(model(a), b).backward()
        one.step(); other.step()
""",
        RUNS,
        RUNS,
    ),
    "complex weights": (
        """
weight = nn.Parameter(torch.randn(6, 2, dtype=torch.cfloat))
class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = weight
    def forward(self, a):
        return (a.to(torch.cfloat) @ self.weight).abs()
model = Complex()
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
for epoch in range(30):
    for a, b in loader:
        update(a, b)
""",
        RUNS,
        RUNS,
    ),
    "optimizer swapped half-way": (
        """
for epoch in range(30):
    if epoch == 1:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for a, b in loader:
        update(a, b)
""",
        "another optimizer or another model",
        "another optimizer or another model",
    ),
    "whole model saved and loaded": (
        """
for epoch in range(30):
    for a, b in loader:
        update(a, b)
    torch.save([model, optimizer.state_dict()], "all.pt")
    again, state = torch.load("all.pt", weights_only=False)
    model.load_state_dict(again.state_dict())
    optimizer.load_state_dict(state)
""",
        RUNS,
        RUNS,
    ),
    "two backward calls in a step": (
        """
for epoch in range(30):
    for a, b in loader:
        optimizer.zero_grad()
        out = model(a)
        F.cross_entropy(out, b).backward(retain_graph=True)
        (0.01 * out.pow(2).mean()).backward()
        optimizer.step()
""",
        RUNS,
        RUNS,
    ),
    "gradient penalty": (
        """
for epoch in range(30):
    for a, b in loader:
        a = a.clone().requires_grad_()
        optimizer.zero_grad()
        out = model(a)
        slope, = torch.autograd.grad(out.sum(), a, create_graph=True)
        (F.cross_entropy(out, b) + 0.01 * slope.pow(2).mean()).backward()
        optimizer.step()
""",
        RUNS,
        RUNS,
    ),
    "learning to learn": (
        """
from torch.func import functional_call
for epoch in range(30):
    for a, b in loader:
        weights = dict(model.named_parameters())
        inner = F.cross_entropy(functional_call(model, weights, (a[:8],)), b[:8])
        slopes = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
        fast = {name: p - 0.1 * g for (name, p), g in zip(weights.items(), slopes)}
        optimizer.zero_grad()
        F.cross_entropy(functional_call(model, fast, (a[8:],)), b[8:]).backward()
        optimizer.step()
""",
        RUNS,
        RUNS,
    ),
    "models tried out before the loop": (
        """
cell = nn.LSTM(6, 4)
for row in x[:5]:
    cell(row.view(1, 1, 6))
model = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.2), nn.Linear(16, 2))
print(model(x[:3]).shape)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
print(model(x[:3]).shape)
for epoch in range(30):
    for i in range(0, len(x), 16):
        update(x[i:i + 16], y[i:i + 16])
""",
        RUNS,
        RUNS,
    ),
    "teacher and student": (
        """
teacher = copy.deepcopy(model).eval()
for epoch in range(30):
    for a, b in loader:
        with torch.no_grad():
            soft = teacher(a).softmax(-1)
        optimizer.zero_grad()
        out = model(a)
        (F.cross_entropy(out, b) + F.kl_div(out.log_softmax(-1), soft, reduction="batchmean")).backward()
        optimizer.step()
        with torch.no_grad():
            for p, q in zip(teacher.parameters(), model.parameters()):
                p.lerp_(q, 0.01)
""",
        RUNS,
        RUNS,
    ),
    "evaluation in between, with gradients on": (
        """
held = DataLoader(TensorDataset(x, y), batch_size=64)
for epoch in range(30):
    model.train()
    for i, (a, b) in enumerate(loader):
        update(a, b)
        if i % 10 == 0:
            model.eval()
            print(sum(float(F.cross_entropy(model(c), d)) for c, d in held))
            model.train()
""",
        RUNS,
        RUNS,
    ),
    "names from a configurator": (
        """
exec("batch = 8\\nrate = 0.05\\nsteps = 800")
for group in optimizer.param_groups:
    group["lr"] = rate
a, b = x[:batch], y[:batch]
for step in range(steps):
    logits = model(a)
    loss = F.cross_entropy(logits, b)
    rows = torch.randint(0, len(x), (batch,))
    a, b = x[rows], y[rows]
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
""",
        RUNS,
        RUNS,
    ),
    "workers": (
        """
if __name__ == "__main__":
    for epoch in range(30):
        loader = DataLoader(TensorDataset(x, y), batch_size=16, num_workers=1, persistent_workers=True)
        for a, b in loader:
            update(a, b)
""",
        RUNS,
        RUNS,
    ),
    "step inside the backward": (
        """
steppers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}
def step_now(p):
    steppers[p].step()
    steppers[p].zero_grad()
for p in model.parameters():
    p.register_post_accumulate_grad_hook(step_now)
for epoch in range(30):
    for a, b in loader:
        F.cross_entropy(model(a), b).backward()
""",
        RUNS,
        RUNS,
    ),
}
STEPS = 30


def written(name: str) -> str:
    prelude = PRELUDE.replace("optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n", "")
    return (prelude if name.endswith("no optimizer") else PRELUDE) + SHAPES[name][0]


@pytest.mark.parametrize("name", SHAPES)
def test_watching_changes_nothing(zygote, name):
    script = written(name)
    bare = zygote.bare(script, record=25)
    seen = zygote.probe(script, record=25)
    assert bare.exit_code == 0, bare.output
    assert len(bare.notes) >= 5
    assert seen.notes == bare.notes


@pytest.mark.parametrize("name", SHAPES)
def test_experiments_run_or_say_why_not(zygote, name):
    _, learns, rate = SHAPES[name]
    seen = zygote.probe(written(name), steps=STEPS, experiments=True, parts=("program", "overfit", "lower_rate"))
    assert seen.exit_code == 0, seen.output
    assert seen.run["steps"] == STEPS, seen.run
    assert not [note for note in seen.run["notes"] if "audit itself" in note]
    for part, expected in (("overfit", learns), ("lower_rate", rate)):
        if expected == RUNS:
            assert part in seen.gathered.parts, (part, seen.gathered.absent.get(part), seen.run["phases"])
        else:
            assert expected in seen.absent(part)


def test_an_evaluation_that_builds_a_graph_is_no_step(zygote):
    script = """
import torch
from torch import nn
torch.manual_seed(0)
x, y = torch.randn(200, 4), torch.randn(200, 1)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(400):
    i = torch.randint(0, 150, (8,))
    loss = nn.functional.mse_loss(model(x[i]), y[i])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 19:
        print((model(x[150:]) - y[150:]).abs().mean().item())
"""
    seen = zygote.probe(script, steps=30, experiments=True, parts=("lower_rate",))
    assert seen["lower_rate"].fidelity < 1e-6
