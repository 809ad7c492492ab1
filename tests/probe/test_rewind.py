"""After a rewind the loop repeats itself bit for bit, and an intervention changes what it says and nothing else."""

from __future__ import annotations

import pytest

STEPS = 24
SETUP = """
import math, random
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0); np.random.seed(0); random.seed(0)
x, y = torch.randn(96, 6), torch.randint(0, 3, (96,))
data = TensorDataset(x, y)
cross_entropy = nn.functional.cross_entropy
net = lambda *extra: nn.Sequential(nn.Linear(6, 16), *extra, nn.ReLU(), nn.Linear(16, 3))

def log(loss):
    note(loss=loss.item())
    return loss
"""

LOADER = """
model = MODEL
optimizer = OPTIMIZER
scheduler = SCHEDULER
loader = DataLoader(data, batch_size=16, shuffle=True)
for epoch in range(10**6):
    for a, b in loader:
        optimizer.zero_grad()
        log(cross_entropy(model(a), b)).backward()
        optimizer.step()
        scheduler.step()
"""


def loader_loop(model="net()", optimizer="SGD(model.parameters(), lr=0.1)", scheduler=None):
    schedule = (
        f"torch.optim.lr_scheduler.{scheduler}" if scheduler else "torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)"
    )
    return (
        LOADER.replace("MODEL", model).replace("OPTIMIZER", f"torch.optim.{optimizer}").replace("SCHEDULER", schedule)
    )


LOADER_WITH = """
model = net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
loader = DataLoader(data, batch_size=16, shuffle=True, OPTIONS)
for epoch in range(10**6):
    for a, b in loader:
        optimizer.zero_grad()
        log(cross_entropy(model(a), b)).backward()
        optimizer.step()
"""
ONE_CYCLE = "OneCycleLR(optimizer, 0.01, total_steps=10**6)"
LOOPS = {
    "momentum": loader_loop(optimizer="SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)"),
    "adam": loader_loop(optimizer="Adam(model.parameters(), lr=0.01)"),
    "adamw_one_cycle": loader_loop(optimizer="AdamW(model.parameters(), lr=0.01)", scheduler=ONE_CYCLE),
    "rmsprop_exponential": loader_loop(
        optimizer="RMSprop(model.parameters(), lr=0.01)", scheduler="ExponentialLR(optimizer, 0.9)"
    ),
    "groups": loader_loop(
        optimizer="SGD([{'params': model[0].parameters(), 'lr': 0.3}, {'params': model[2].parameters()}], lr=0.1)"
    ),
    "batch_norm": loader_loop(model="net(nn.BatchNorm1d(16))"),
    "dropout": loader_loop(model="net(nn.Dropout(0.5))"),
    "accumulation": """
model = net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
loader = DataLoader(data, batch_size=8, shuffle=True)
for epoch in range(10**6):
    for i, (a, b) in enumerate(loader):
        (log(cross_entropy(model(a), b)) / 3).backward()
        if i % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()
""",
    "noise": """
model = net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
loader = DataLoader(data, batch_size=16, shuffle=True)
for epoch in range(10**6):
    for a, b in loader:
        a = a + 0.3 * torch.randn_like(a) + 0.1 * float(np.random.randn()) + 0.1 * random.random()
        optimizer.zero_grad()
        log(cross_entropy(model(a), b)).backward()
        optimizer.step()
""",
    "zipped": """
model = net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
one, two = DataLoader(data, batch_size=16, shuffle=True), DataLoader(data, batch_size=8, shuffle=True)
for epoch in range(10**6):
    for (a, b), (c, d) in zip(one, two):
        optimizer.zero_grad()
        log(cross_entropy(model(a), b) + 0.5 * cross_entropy(model(c), d)).backward()
        optimizer.step()
""",
    "next_iter": """
model = net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
loader = DataLoader(data, batch_size=16, shuffle=True)
batches = iter(loader)
for step in range(10**6):
    try:
        a, b = next(batches)
    except StopIteration:
        batches = iter(loader)
        a, b = next(batches)
    optimizer.zero_grad()
    log(cross_entropy(model(a), b)).backward()
    optimizer.step()
""",
    "full_batch": """
model = net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for epoch in range(10**6):
    optimizer.zero_grad()
    log(cross_entropy(model(x), y)).backward()
    optimizer.step()
""",
    "slices": """
model = net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(10**6):
    order = torch.randperm(96)
    for i in range(0, 96, 16):
        a, b = x[order[i : i + 16]], y[order[i : i + 16]]
        optimizer.zero_grad()
        log(cross_entropy(model(a), b)).backward()
        optimizer.step()
""",
    "get_batch": """
model = net(nn.Dropout(0.2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(10**6):
    rows = torch.randint(96, (16,))
    optimizer.zero_grad()
    log(cross_entropy(model(x[rows]), y[rows])).backward()
    optimizer.step()
""",
    "closure": """
model = net()
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3, history_size=5)
loader = DataLoader(data, batch_size=32, shuffle=True)
for epoch in range(10**6):
    for a, b in loader:
        def closure():
            optimizer.zero_grad()
            loss = log(cross_entropy(model(a), b))
            loss.backward()
            return loss
        optimizer.step(closure)
""",
    "zipped_twins": """
def make():
    return DataLoader(data, batch_size=16, shuffle=True)

model = net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
one, two = make(), make()
for epoch in range(10**6):
    for (a, b), (c, d) in zip(one, two):
        optimizer.zero_grad()
        log(cross_entropy(model(a), b) + 0.5 * cross_entropy(model(c), d)).backward()
        optimizer.step()
""",
    "workers": LOADER_WITH.replace("OPTIONS", "num_workers=1"),
    "persistent_workers": LOADER_WITH.replace("OPTIONS", "num_workers=1, persistent_workers=True"),
    "stream": """
class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        for row in torch.randperm(96).tolist():
            yield {"x": x[row], "y": y[row]}

model = net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
loader = DataLoader(Stream(), batch_size=16)
for epoch in range(10**6):
    for batch in loader:
        optimizer.zero_grad()
        log(cross_entropy(model(batch["x"]), batch["y"])).backward()
        optimizer.step()
""",
    "validated": """
model = net(nn.BatchNorm1d(16), nn.Dropout(0.3))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
loader, val = DataLoader(data, batch_size=16, shuffle=True), DataLoader(data, batch_size=32, shuffle=True)
for epoch in range(10**6):
    model.train()
    for a, b in loader:
        optimizer.zero_grad()
        log(cross_entropy(model(a), b)).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for a, b in val:
            cross_entropy(model(a), b)
""",
    "fetched_ahead": """
model = net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
loader = DataLoader(data, batch_size=16, shuffle=True)

def forever():
    while True:
        yield from loader

batches = forever()
following = next(batches)
while True:
    a, b = following
    optimizer.zero_grad()
    loss = log(cross_entropy(model(a), b))
    following = next(batches)
    loss.backward()
    optimizer.step()
""",
    "siamese": """
model = net(nn.Dropout(0.2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
loader = DataLoader(data, batch_size=16, shuffle=True)
for epoch in range(10**6):
    for a, b in loader:
        optimizer.zero_grad()
        one, two = model(a), model(a + 0.1 * torch.randn_like(a))
        log(cross_entropy(one, b) + (one - two).pow(2).mean()).backward()
        optimizer.step()
""",
    "autocast": """
model = net()
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=5)
loader = DataLoader(data, batch_size=16, shuffle=True)
for epoch in range(10**6):
    for a, b in loader:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = log(cross_entropy(model(a), b))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
""",
    "clipped_and_ema_buffer": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = net()
        self.register_buffer("mean", torch.zeros(6))
    def forward(self, a):
        self.mean.mul_(0.9).add_(0.1 * a.mean(0))
        return self.inner(a - self.mean)

model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
loader = DataLoader(data, batch_size=16, shuffle=True)
for epoch in range(10**6):
    for a, b in loader:
        optimizer.zero_grad()
        log(cross_entropy(model(a), b)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
""",
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_replay_repeats_the_observed_losses_bit_for_bit(zygote, name):
    """The control of `lower_rate` starts from the initial weights with the batches as they came."""
    script = SETUP + LOOPS[name]
    bare = zygote.bare(script, record=20)
    seen = zygote.probe(script, steps=STEPS, experiments=True, parts=("lower_rate",))
    observed = seen["trajectory"].losses
    assert len(observed) == STEPS
    control = seen["lower_rate"].looks[0].control
    assert control[:STEPS] == observed
    assert seen["lower_rate"].fidelity == 0.0
    # The script itself reports the same numbers, in the observation and after the rewind.
    losses, plain = seen.noted("loss"), bare.noted("loss")
    assert len(plain) == 20
    assert losses[:16] == plain[:16]


DRAWN = """
model = net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(10**6):
    rows = DRAW
    optimizer.zero_grad()
    note(rows=[int(row) for row in rows])
    loss = (model(x[rows]) - y[rows].unsqueeze(1)).abs().mean()
    log(loss).backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    "draw",
    ["torch.randint(96, (16,))", "np.random.randint(0, 96, 16)", "torch.tensor(random.sample(range(96), 16))"],
)
def test_a_loop_that_draws_its_batches_draws_them_again(zygote, draw):
    """Without a loss function of torch there is nothing to substitute: the generators are put back instead. The state
    before the first draw is unknown, so replays begin with the second batch."""
    seen = zygote.probe(SETUP + DRAWN.replace("DRAW", draw), steps=STEPS, experiments=True, parts=("lower_rate",))
    rows, losses = seen.noted("rows"), seen.noted("loss")
    assert rows[STEPS : STEPS + 3] == rows[1:4]
    assert rows[STEPS + 3 : STEPS + 6] == rows[1:4]
    assert losses[STEPS : STEPS + 3] == losses[STEPS + 3 : STEPS + 6]
    control = seen["lower_rate"].looks[0].control
    start = STEPS + 6
    assert rows[start : start + STEPS - 1] == rows[1:STEPS]
    assert list(control) == losses[start : start + len(control)]


TAKEN = """
weights = torch.rand(96)
model = nn.Linear(6, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
def own_loss(logit, t, w):
    p = torch.sigmoid(logit).clamp(1e-6, 1 - 1e-6)
    return -(w * (t * p.log() + (1 - t) * (1 - p).log())).mean()
for epoch in range(20):
    for rows in torch.randperm(96).split(16):
        note(rows=rows.tolist())
        optimizer.zero_grad()
        loss = own_loss(model(x[rows])[:, 0], (y[rows] > 0).float(), weights[rows])
        log(loss).backward()
        optimizer.step()
"""


def test_rows_that_a_loss_by_hand_takes_by_an_index_are_given_again(zygote):
    """The order is drawn once an epoch, and torch's loss functions see nothing: the rows themselves are put back."""
    seen = zygote.probe(SETUP + TAKEN, steps=STEPS, experiments=True, parts=("lower_rate",))
    losses = seen.noted("loss")
    assert list(seen["lower_rate"].looks[0].control)[:3] == losses[:3]


def test_a_loop_with_state_out_of_reach_is_not_judged(zygote):
    """A counter in the script changes the loss: the rewind check notices, and no experiment rests on it."""
    script = SETUP + LOOPS["full_batch"].replace("(model(x), y)", "(model(x), y) * (1 + 0.1 * epoch)")
    seen = zygote.probe(script, steps=STEPS, experiments=True, parts=("lower_rate", "overfit"))
    assert "did not repeat" in seen.absent("lower_rate")
    assert "did not repeat" in seen.absent("overfit")


# ---------------------------------------------------------------------------------------------------- interventions

SPY = """
class Spy(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(6, 32), nn.Dropout(0.5), nn.Linear(32, 3)
    def forward(self, a):
        hidden = self.first(a)
        dropped = self.drop(torch.ones_like(hidden))
        distinct = len({tuple(row) for row in a.tolist()})
        note(rows=len(a), distinct=distinct, kept=(dropped == 1).float().mean().item(), training=self.training)
        return self.last(torch.relu(hidden * dropped))

model = Spy()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=0.5)
optimizer.register_step_pre_hook(lambda o, *_: note(decay=o.param_groups[0]["weight_decay"]))
loader = DataLoader(data, batch_size=BATCH, shuffle=True)
for epoch in range(10**6):
    for a, b in loader:
        optimizer.zero_grad()
        log(cross_entropy(model(a), b)).backward()
        optimizer.step()
        note(after=[optimizer.param_groups[0]["weight_decay"], optimizer.param_groups[0]["lr"]])
"""


@pytest.mark.parametrize(("batch", "samples"), [(48, 16), (32, 16), (24, 8), (16, 8), (12, 12), (4, 4)])
def test_the_pinned_batch_is_tiled_to_its_size(zygote, batch, samples):
    script = SETUP + SPY.replace("BATCH", str(batch))
    seen = zygote.probe(script, steps=STEPS, experiments=True, parts=("overfit",))
    part = seen["overfit"]
    assert (part.samples, part.batch_size, part.tiled) == (samples, batch, samples < batch)
    pinned = seen.notes_after("loss", STEPS + 3)
    assert {note["rows"] for note in pinned if "rows" in note} == {batch}
    assert {note["distinct"] for note in pinned if "rows" in note} == {samples}


def test_every_micro_batch_is_the_pinned_one(zygote):
    script = SETUP + LOOPS["accumulation"].replace(
        "(log(", "note(rows=[hash(tuple(row)) for row in a.tolist()]); (log("
    )
    seen = zygote.probe(script, steps=STEPS, experiments=True, parts=("overfit",))
    part = seen["overfit"]
    pinned = seen.notes_after("loss", 3 * (STEPS + 3))
    assert part.samples == part.batch_size == 8
    assert len({row for note in pinned for row in note.get("rows", ())}) == part.samples


def test_dropout_and_weight_decay_are_off_while_pinned_and_back_afterwards(zygote):
    script = SETUP + SPY.replace("BATCH", "32")
    seen = zygote.probe(script, steps=STEPS, experiments=True, parts=("overfit", "lower_rate"))
    check = STEPS + 3
    arms = sum(len(arm.losses) for arm in seen["overfit"].arms)
    kept, decay, training = seen.noted("kept"), seen.noted("decay"), seen.noted("training")
    assert all(share < 1 for share in kept[:check])
    assert set(kept[check : check + arms]) == {1.0}
    assert all(share < 1 for share in kept[check + arms :])
    assert len(kept) > check + arms
    assert all(training)
    assert set(decay[:check]) == set(decay[check + arms :]) == {0.5}
    assert set(decay[check : check + arms]) == {0.0}
    assert all(after == [0.5, 0.05] for after in seen.noted("after"))


def test_the_rate_is_what_the_arm_says(zygote):
    script = SETUP + LOOPS["momentum"].replace(
        "optimizer.step()",
        "before = model[0].weight.detach().clone(); size = model[0].weight.grad.norm(); optimizer.step(); "
        "note(moved=((model[0].weight - before).norm() / size).item())",
    ).replace(", momentum=0.9, nesterov=True", "")
    seen = zygote.probe(script, steps=STEPS, experiments=True, parts=("lower_rate",))
    part = seen["lower_rate"]
    moved = seen.noted("moved")
    control, treated = len(part.looks[0].control), len(part.looks[0].treated)
    place = 0
    for length, rate in ((STEPS, 0.1), (3, 0.1), (control, 0.1), (treated, 0.025)):
        # After the last step of each, the weights are rewound before the script can look at them.
        assert moved[place : place + length - 1] == pytest.approx([rate] * (length - 1), rel=1e-3)
        place += length
    assert (part.factor, part.learning_rate) == (0.25, 0.1)
    assert part.looks[0].treated[0] == part.looks[0].control[0]


def test_a_schedule_is_replayed_as_recorded(zygote):
    script = SETUP + LOOPS["adamw_one_cycle"].replace("total_steps=10**6", "total_steps=10**6, pct_start=2e-5")
    script = script.replace("optimizer.step()", "note(lr=optimizer.param_groups[0]['lr']); optimizer.step()")
    seen = zygote.probe(script, steps=STEPS, experiments=True, parts=("lower_rate",))
    rates = seen["trajectory"].learning_rates
    assert len(set(rates)) > STEPS // 2
    assert list(rates) == seen.noted("lr")[:STEPS]


def test_the_sweep_covers_six_decades_around_the_rate(zygote):
    seen = zygote.probe(SETUP + loader_loop(), steps=STEPS, experiments=True, parts=("rate_sweep",))
    part = seen["rate_sweep"]
    assert part.user_rate == 0.1
    assert part.rates[0] == pytest.approx(1e-4)
    assert part.losses[0] == seen["trajectory"].losses[0]
    ratios = [after / before for before, after in zip(part.rates, part.rates[1:], strict=False)]
    assert ratios == pytest.approx([1e6 ** (1 / 99)] * len(ratios))
    assert part.diverged_at is None or part.diverged_at > 0.1


def test_standardized_inputs_are_standard(zygote):
    script = SETUP.replace("torch.randn(96, 6)", "torch.randn(96, 6) * torch.arange(1.0, 7) + 50")
    script += LOOPS["momentum"].replace(
        "model = net()",
        "model = net(); model[0].register_forward_hook(lambda m, i, o: note(mean=i[0].mean(0).tolist()))",
    )
    seen = zygote.probe(script, steps=STEPS, experiments=True, parts=("standardized_inputs",))
    look = seen["standardized_inputs"].looks[0]
    means = seen.noted("mean")
    start = STEPS + 3 + len(look.control)
    treated = means[start : start + len(look.treated)]
    assert all(abs(mean - 50) < 10 for batch in means[:start] for mean in batch)
    assert all(abs(mean) < 2 for batch in treated for mean in batch)
    assert look.control[:STEPS] == seen["trajectory"].losses
    assert look.treated[0] != look.control[0]


def test_the_script_may_look_at_its_gradients_after_the_step(zygote):
    script = SETUP + LOOPS["momentum"].replace(
        "optimizer.step()", "optimizer.step(); note(norm=sum(p.grad.norm().item() for p in model.parameters()))"
    )
    seen = zygote.probe(script, steps=STEPS, experiments=True, parts=("lower_rate",))
    assert seen["lower_rate"].looks[0].control[:STEPS] == seen["trajectory"].losses


def test_a_loader_that_is_built_anew_every_epoch(zygote):
    script = SETUP + loader_loop().replace("in loader:", "in DataLoader(data, batch_size=16, shuffle=True):")
    seen = zygote.probe(script, steps=STEPS, experiments=True, parts=("lower_rate",))
    assert seen["lower_rate"].looks[0].control[:STEPS] == seen["trajectory"].losses


# ----------------------------------------------------------------------------------------------------- time lapse

EPOCHS = """
model = net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader, val = DataLoader(data, batch_size=2, shuffle=True), DataLoader(data, batch_size=1)

def train():
    batches = 0
    for a, b in loader:
        optimizer.zero_grad()
        log(cross_entropy(model(a), b)).backward()
        optimizer.step()
        batches += 1
    note(batches=batches)

def validate():
    with torch.no_grad():
        note(validated=sum(1 for a, b in val if model(a) is not None))
        count = 0
        for a, b in val:
            model(a)
            count += 1
        note(looped=count)

LOOP
"""
ONCE = "train()\nvalidate()\nnote(done=True)"
MANY = "for epoch in range(1000):\n    train()\n    validate()"


def lapse(zygote, loop, steps, **options):
    return zygote.probe(SETUP + EPOCHS.replace("LOOP", loop), steps=steps, parts=("program",), **options)


def test_the_first_epoch_is_cut_short_so_that_a_second_one_is_seen(zygote):
    seen = lapse(zygote, MANY, 30, experiments=True)
    assert seen.noted("batches")[0] == 20
    assert seen["trajectory"].epoch_starts == (20,)
    assert seen["program"].loaders[1].role == "held-out"


def test_without_a_loop_around_it_the_only_epoch_is_not_cut(zygote):
    seen = lapse(zygote, ONCE, 60, experiments=True)
    assert seen.noted("batches") == [48]
    assert seen.noted("done") == [True]
    assert seen.run["steps"] == 48


def test_observation_alone_cuts_nothing(zygote):
    seen = lapse(zygote, MANY, 60)
    assert seen.noted("batches") == [48]
    assert seen.noted("looped") == [96]


def test_a_long_evaluation_is_cut_short(zygote):
    seen = lapse(zygote, MANY, 30, experiments=True)
    assert seen.noted("looped")[0] == 50


def test_a_short_epoch_is_left_alone(zygote):
    script = MANY.replace("train()", "train()")
    seen = zygote.probe(
        SETUP + EPOCHS.replace("LOOP", script).replace("batch_size=2", "batch_size=16"),
        steps=30,
        parts=("program",),
        experiments=True,
    )
    assert set(seen.noted("batches")[:4]) == {6}


def test_an_explicit_next_never_sees_an_end_that_is_not_there(zygote):
    script = """
model = net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = DataLoader(data, batch_size=1, shuffle=True)
for epoch in range(1000):
    batches = iter(loader)
    for step in range(len(loader)):
        a, b = next(batches)
        optimizer.zero_grad()
        log(cross_entropy(model(a), b)).backward()
        optimizer.step()
    note(finished=epoch)
"""
    seen = zygote.probe(SETUP + script, steps=110, experiments=True, parts=("lower_rate",))
    assert seen.noted("finished")[0] == 0
    assert seen["trajectory"].epoch_starts == (96,)
    assert "crash" not in seen.run
    assert seen["lower_rate"].looks[0].control[0] == seen["trajectory"].losses[0]


def test_a_held_out_pass_is_short_in_experiments_and_a_training_pass_does_not_end(zygote):
    seen = zygote.probe(
        SETUP + EPOCHS.replace("LOOP", MANY).replace("batch_size=2", "batch_size=16"),
        steps=12,
        experiments=True,
        parts=("lower_rate",),
    )
    look = seen["lower_rate"].looks[0]
    assert len(look.control) >= 20
    assert set(seen.noted("looped")[2:]) <= {1}
