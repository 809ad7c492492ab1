"""What is known of held-out data: passes, what they decide, groups and near-duplicates; and whether steps repeat."""

from __future__ import annotations

import pytest

SETUP = """
import copy
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, Subset, TensorDataset

torch.manual_seed(0)


class Items(Dataset):
    def __init__(self, n, noise=0.0, generator=None):
        self.x, self.y = torch.randn(n, 5), torch.randint(0, 3, (n,))
        self.noise, self.generator = noise, generator
        self.site = [f"site {i // 10}" for i in range(n)]

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return self.x[index] + self.noise * torch.randn(5, generator=self.generator), self.y[index]


train_loader = DataLoader(Items(60), batch_size=10, shuffle=True)
"""

LOOP = """
model = torch.nn.Linear(5, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
best = 100.0
for epoch in range(4):
    for x, y in train_loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        loss = sum(torch.nn.functional.cross_entropy(model(x), y).item() for x, y in val_loader)
    AFTER
"""


def run(zygote, val, part, after="pass", **options):
    script = SETUP + f"\nval_loader = {val}\n" + LOOP.replace("AFTER", after)
    return zygote.probe(script, steps=20, parts=(part,), **options)


def passes(zygote, val):
    (loader,) = run(zygote, val, "held_out_passes")["held_out_passes"].loaders
    return loader


def test_two_passes_over_fixed_data(zygote):
    loader = passes(zygote, "DataLoader(Items(30), batch_size=10)")
    assert (loader.compared, loader.same, loader.found) == (30, 30, 30)
    assert (loader.reread, loader.changed) == (8, 0)
    assert [(each.step, each.samples, each.complete) for each in loader.passes] == [(6, 30, True), (18, 30, True)]


def test_random_transforms(zygote):
    loader = passes(zygote, "DataLoader(Items(30, noise=0.1), batch_size=10)")
    assert (loader.same, loader.found, loader.reread, loader.changed) == (0, 0, 8, 8)


def test_noise_from_a_generator_of_its_own(zygote):
    loader = passes(zygote, "DataLoader(Items(30, 0.1, torch.Generator().manual_seed(1)), batch_size=10)")
    assert loader.changed == 8


def test_another_order(zygote):
    loader = passes(zygote, "DataLoader(Items(30), batch_size=10, shuffle=True)")
    assert loader.same < 10
    assert (loader.found, loader.changed, loader.shuffled) == (30, 0, True)


def test_a_part_drawn_anew(zygote):
    loader = passes(zygote, "DataLoader(d := Items(300), batch_size=10, sampler=RandomSampler(d, num_samples=30))")
    assert loader.found < 20
    assert loader.changed == 0


@pytest.mark.parametrize(
    ("rebuilt", "compared"), [("pass", 30), ("optimizer = torch.optim.SGD(net.parameters(), lr=0.1)", 0)]
)
def test_the_folds_of_a_cross_validation_are_not_compared(zygote, rebuilt, compared):
    script = f"""
net = torch.nn.Linear(5, 3)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
data = Items(90)
for fold in range(3):
    {rebuilt}
    val_loader = DataLoader(Subset(data, range(30 * fold, 30 * fold + 30)), batch_size=10)
    for x, y in train_loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        print(sum(torch.nn.functional.cross_entropy(net(x), y).item() for x, y in val_loader))
"""
    (loader,) = zygote.probe(SETUP + script, steps=18, parts=("held_out_passes",))["held_out_passes"].loaders
    assert (loader.compared, loader.found) == (compared, 0)


def test_a_held_out_stream(zygote):
    stream = """DataLoader(type("S", (IterableDataset,), {"__iter__": lambda self: iter(data)})(), batch_size=10)"""
    loader = passes(zygote, f"(data := [(torch.randn(5), 1) for _ in range(20)]) and {stream}")
    assert (loader.compared, loader.same, loader.reread) == (20, 20, 0)


def test_reading_again_draws_no_random_numbers(zygote):
    script = SETUP + "\nval_loader = DataLoader(Items(30, 0.1), batch_size=10)\n" + LOOP
    script = script.replace("AFTER", "note(loss=loss, drawn=torch.rand(()).item())")
    bare, seen = zygote.bare(script), zygote.probe(script, steps=20, parts=("held_out_passes",))
    count = len(seen.noted("drawn"))
    assert count >= 3
    assert seen.noted("drawn") == bare.noted("drawn")[:count]


def test_there_is_no_held_out_loader(zygote):
    assert "no held-out loader" in run(zygote, "[]", "held_out_passes").absent("held_out_passes")


# ---------------------------------------------------------------------------------------------------------- selection

TEST = "DataLoader(Items(30), batch_size=10)"


@pytest.mark.parametrize(
    ("after", "what", "metric"),
    [
        (
            "if loss < best:\n        best = loss\n        kept = copy.deepcopy(model.state_dict())",
            "checkpoint",
            "loss",
        ),
        ("if loss < best:\n        best = loss\n        torch.save(model.state_dict(), 'm.pt')", "checkpoint", "loss"),
        ("is_best = loss < best\n    best = min(loss, best)\n    if is_best: model.state_dict()", "checkpoint", "loss"),
        ("scheduler.step(loss)", "schedule", "ReduceLROnPlateau"),
    ],
)
def test_what_an_evaluation_decides(zygote, after, what, metric):
    part = run(zygote, TEST, "selection", after)["selection"]
    assert [(choice.what, choice.metric) for choice in part.choices] == [(what, metric)]
    assert part.evaluated == "val_loader"
    assert part.names == ("val_loader", "Items(30)")
    assert part.evaluations == 3


@pytest.mark.parametrize("after", ["pass", "model.state_dict()", "if epoch > 1:\n        kept = model.state_dict()"])
def test_what_is_no_decision(zygote, after):
    assert run(zygote, TEST, "selection", after)["selection"].choices == ()


def test_a_helper_that_keeps_the_best(zygote):
    helper = """
class Stopper:
    def __init__(self):
        self.best = None

    def __call__(self, score, model):
        if self.best is None:
            self.best = score
        elif score < self.best:
            self.best = score
            self.save(model)

    def save(self, model):
        torch.save(model.state_dict(), "best.pt")

stopper = Stopper()
"""
    part = run(zygote, f"{TEST}\n{helper}", "selection", "stopper(-epoch, model)")["selection"]
    assert [(choice.what, choice.metric) for choice in part.choices] == [("checkpoint", "score")]


@pytest.mark.parametrize(
    ("answer", "metric"),
    [
        ("return self.best is None or outcome.test > self.best.test", "epoch.real.test"),
        ("return self.best.test < outcome.test", "epoch.real.test"),
        ("return outcome.test > self.least", None),
    ],
)
def test_a_function_of_its_own_that_is_asked(zygote, answer, metric):
    answer = answer.replace("self.best is None", "self.best is None and outcome.real is None")
    helper = f"""
class Sweep:
    best, least = torch.nn.Identity(), 0
    best.test = -1

    def better(self, outcome):
        outcome = type("Outcome", (), {{"test": 1, "real": 1}})
        {answer}

sweep = Sweep()
"""
    after = "if sweep.better(epoch.real):\n        kept = model.state_dict()"
    part = run(zygote, f"{TEST}\n{helper}", "selection", after)["selection"]
    assert [choice.metric for choice in part.choices] == ([metric] if metric else [])


FED = """
import copy, torch
x, y = torch.randn(80, 4), torch.randn(80, 1)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
train, test, val = range(40), range(40, 60), range(60, 80)
best = 1e9
@torch.no_grad()
def error(net, a, b):
    return (net(a) - b).square().mean().item()
for epoch in range(9):
    optimizer.zero_grad()
    (model(x[train]) - y[train]).square().mean().backward()
    optimizer.step()
    SCORE
    if score < best:
        best, kept = score, copy.deepcopy(model.state_dict())
"""


@pytest.mark.parametrize(
    ("score", "by"),
    [
        ("score = error(model, x[test], y[test])", ("test",)),
        ("seen = error(model, x[train], y[train]); score = error(model, x[test], y[test])", ("test",)),
        ("score = error(model, x[val], y[val]); later = error(model, x[test], y[test])", ("val", "test")),
    ],
)
def test_data_that_no_loader_hands_out(zygote, score, by):
    part = zygote.probe(FED.replace("SCORE", score), steps=9, parts=("selection",))["selection"]
    (choice,) = part.choices
    assert (choice.by, part.names, part.loaders) == (by, by, ())
    assert part.evaluations > 3


def test_data_of_no_name_decide_nothing_that_is_known(zygote):
    script = FED.replace("SCORE", "score = error(model, x[60:], y[60:])")
    assert "no held-out loader" in zygote.probe(script, steps=9, parts=("selection",)).absent("selection")


def test_the_data_set_says_that_it_is_a_test_split(zygote):
    part = run(zygote, f"{TEST}; val_loader.dataset.train = False", "selection")["selection"]
    assert part.official


# ------------------------------------------------------------------------------------------------------------- groups


@pytest.mark.parametrize(
    "data",
    [
        "d",
        "type('T', (Items,), {'site': None})(100); d.table = {'site': [f'site {i // 10}' for i in range(100)]}",
        "[({'x': 1, 'site': i // 10}) for i in range(100)]",
    ],
)
def test_groups_on_both_sides(zygote, data):
    collate = "lambda rows: (torch.randn(len(rows), 5), torch.zeros(len(rows), dtype=torch.long))"
    val = f"0; d = Items(100); d = {data}\n"
    val += f"train_loader = DataLoader(Subset(d, range(75)), batch_size=10, collate_fn={collate})\n"
    val += f"val_loader = DataLoader(Subset(d, range(75, 100)), batch_size=10, collate_fn={collate})"
    part = run(zygote, val, "groups", group_key="site")["groups"]
    (overlap,) = part.overlaps
    assert (overlap.shared, overlap.held_out_groups, overlap.samples, overlap.held_out_samples) == (1, 3, 5, 25)
    assert part.complete


def test_groups_apart(zygote):
    val = "0; d = Items(100)\ntrain_loader = DataLoader(Subset(d, range(70)), batch_size=10)\n"
    val += "val_loader = DataLoader(Subset(d, range(70, 100)), batch_size=10)"
    part = run(zygote, val, "groups", group_key="site")["groups"]
    assert part.overlaps == ()
    assert [split.groups for split in part.splits] == [7, 3]


@pytest.mark.parametrize("labels", ["d.speaker % 2", "d.y"])
def test_a_key_that_is_not_declared_but_tells_the_label(zygote, labels):
    val = f"0; d = Items(100); d.speaker = torch.arange(100) % 20; d.y = {labels}\n"
    val += "train_loader = DataLoader(Subset(d, range(70)), batch_size=10)\n"
    val += "val_loader = DataLoader(Subset(d, range(70, 100)), batch_size=10)"
    recorded = run(zygote, val, "groups")
    if labels == "d.y":
        assert "no group key is declared" in recorded.absent("groups")
        return
    (overlap,) = recorded["groups"].overlaps
    assert (recorded["groups"].key, recorded["groups"].declared) == ("speaker", False)
    assert (overlap.shared, overlap.samples) == (20, 30)


def test_no_key_and_an_unknown_key(zygote):
    assert "group-key" in run(zygote, TEST, "groups").absent("groups")
    assert run(zygote, TEST, "groups", group_key="nobody").absent("groups").startswith("inconclusive: Items has no")


# ----------------------------------------------------------------------------------------------------- near-duplicates


def near(zygote, code):
    val = f"0\n{code}\n"
    val += "train_loader = DataLoader(TensorDataset(a.flatten(1), torch.zeros(len(a)).long()), batch_size=20)\n"
    val += "val_loader = DataLoader(TensorDataset(b.flatten(1), torch.zeros(len(b)).long()), batch_size=50)"
    script = (SETUP + f"\nval_loader = {val}\n" + LOOP.replace("AFTER", "pass")).replace(
        "Linear(5, 3)", "LazyLinear(3)"
    )
    return zygote.probe(script, steps=20, parts=("near_duplicates",))


def test_copies_with_noise(zygote):
    part = near(
        zygote, "a = torch.randn(400, 40)\nb = torch.cat([a[:60] + 0.05 * torch.randn(60, 40), torch.randn(40, 40)])"
    )
    found = part["near_duplicates"]
    assert (found.compared, found.twins) == (100, 60)
    assert {(pair.training_index, pair.held_out_index) for pair in found.pairs} <= {(i, i) for i in range(60)}
    assert found.chance < 1e-6


def test_independent_samples(zygote):
    found = near(zygote, "a, b = torch.randn(400, 40), torch.randn(100, 40)")["near_duplicates"]
    assert found.twins == 0
    assert 15 < found.dimension < 60


def test_samples_on_a_curve_are_near_by_chance(zygote):
    code = "t = torch.rand(500, 1)\nx = torch.cat([torch.sin(t * k) for k in range(1, 21)], 1)\na, b = x[:400], x[400:]"
    found = near(zygote, code)["near_duplicates"]
    assert found.dimension < 2
    assert found.chance > 0.9


def test_equal_samples_are_left_out(zygote):
    found = near(zygote, "a = torch.randn(400, 40)\nb = torch.cat([a[:60], torch.randn(40, 40)])")["near_duplicates"]
    assert (found.compared, found.twins) == (40, 0)


def test_a_walk_is_ordered(zygote):
    code = "x = torch.randn(500, 40).cumsum(0)\na, b = x[:400], x[400:]"
    assert near(zygote, code)["near_duplicates"].ordered


@pytest.mark.parametrize(("name", "noise", "twins"), [("x_test", 0.05, 60), ("x_test", 3.0, 0), ("extra", 0.05, None)])
def test_rows_that_no_loader_hands_out(zygote, name, noise, twins):
    setup = f"a, y = torch.randn(400, 40), torch.zeros(400).long()\n{name} = a[:60] + {noise} * torch.randn(60, 40)\n"
    setup += "train_loader = DataLoader(TensorDataset(a, y), batch_size=20)"
    loop = LOOP.replace("Linear(5, 3)", "Linear(40, 3)").replace("AFTER", "pass")
    before, _, _ = loop.partition("        loss = ")
    script = f"{SETUP}\n{setup}\n{before}        loss = model({name}[:30]).sum() + model({name}[30:]).sum()\n"
    recorded = zygote.probe(script, steps=45, parts=("near_duplicates",))
    if twins is None:
        assert "no training and held-out loaders" in recorded.absent("near_duplicates")
        return
    found = recorded["near_duplicates"]
    assert (found.held_out, found.compared, found.twins) == (name, 60, twins)


@pytest.mark.parametrize(
    "code",
    [
        "a, b = torch.randn(400, 5), torch.randn(100, 5)",
        "a, b = torch.randint(0, 2, (400, 40)).float(), torch.randint(0, 2, (100, 40)).float()",
    ],
)
def test_samples_whose_distances_say_nothing(zygote, code):
    assert near(zygote, code).absent("near_duplicates").startswith("not-applicable")


# ------------------------------------------------------------------------------------------------------- step repeats


def test_steps_that_repeat(zygote):
    part = run(zygote, TEST, "step_repeats", experiments=True)["step_repeats"]
    assert part.losses[0] == part.losses[1]
    assert part.gradient_prints[0] == part.gradient_prints[1]
    assert part.location is not None


def test_steps_that_do_not(zygote):
    script = (SETUP + f"\nval_loader = {TEST}\n" + LOOP.replace("AFTER", "pass")).replace(
        "model(x), y).backward()", "model(x), y).mul(1 + 1e-6 * torch.rand((), generator=own)).backward()"
    )
    seen = zygote.probe(
        "\nimport torch\nown = torch.Generator()" + script, steps=20, parts=("step_repeats",), experiments=True
    )
    part = seen["step_repeats"]
    assert part.losses[0] != part.losses[1]
    assert part.gradient_prints[0] != part.gradient_prints[1]
