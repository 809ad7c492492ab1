"""Which held-out samples are training samples too, for every way in which datasets hold their samples."""

from __future__ import annotations

import pytest

SETUP = """
import random
import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset, random_split

torch.manual_seed(0); np.random.seed(0); random.seed(0)
x, y = torch.randn(60, 5), torch.randint(0, 3, (60,))


class Items(Dataset):
    def __init__(self, rows, make):
        self.rows, self.make = list(rows), make

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.make(self.rows[index])


class Jitter:
    def __call__(self, sample):
        return sample + 0.1 * torch.randn_like(sample)


class Augmented(Dataset):
    def __init__(self, rows, transform=None):
        self.rows, self.transform = list(rows), transform

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        return (self.transform(x[row]) if self.transform else x[row]), y[row]


class Inline(Dataset):
    def __init__(self, rows):
        self.inputs, self.labels = x[rows], y[rows]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.inputs[index] + 0.1 * torch.randn(5), self.labels[index]
"""

LOOP = """
train_loader = DataLoader(train, batch_size=10, shuffle=SHUFFLE)
test_loader = DataLoader(test, batch_size=10)
model = torch.nn.Linear(5, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def inputs(batch):
    a = batch["x"] if isinstance(batch, dict) else batch[0]
    return a.float().reshape(len(a), -1)[:, :5], torch.zeros(len(a), dtype=torch.long)

for epoch in range(5):
    for batch in train_loader:
        a, b = inputs(batch)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(a), b).backward()
        optimizer.step()
        note(weight=model.weight.sum().item())
    with torch.no_grad():
        for batch in test_loader:
            model(inputs(batch)[0])
"""


def scan(zygote, splits, shuffle=True, **options):
    script = SETUP + splits + LOOP.replace("SHUFFLE", str(shuffle))
    return zygote.probe(script, steps=40, parts=("leakage",), **options)


OVERLAPS = {
    # splits, shared, by identity, method
    "subsets": (
        "data = TensorDataset(x, y)\ntrain, test = Subset(data, range(50)), Subset(data, range(40, 60))",
        10,
        True,
        "arrays",
    ),
    "nested subsets": (
        "data = TensorDataset(x, y)\ntrain = Subset(Subset(data, range(10, 60)), range(40))\n"
        "test = Subset(Subset(data, range(45, 60)), [0, 2, 4, 14])",
        3,
        True,
        "arrays",
    ),
    "tensor slices": ("train, test = TensorDataset(x[:50], y[:50]), TensorDataset(x[45:], y[45:])", 5, False, "arrays"),
    "stored arrays, random inline": ("train, test = Inline(range(50)), Inline(range(42, 60))", 8, False, "arrays"),
    "random transform": ("train, test = Augmented(range(50), Jitter()), Augmented(range(44, 60))", 6, False, "items"),
    "random transform on both": (
        "train, test = Augmented(range(50), Jitter()), Augmented(range(44, 60), Jitter())",
        6,
        False,
        "items",
    ),
    "tuples": (
        "train, test = (Items(r, lambda i: (x[i], y[i])) for r in (range(50), range(47, 60)))",
        3,
        False,
        "items",
    ),
    "numpy items": (
        "train, test = (Items(r, lambda i: (x[i].numpy().copy(), int(y[i]))) for r in (range(50), range(47, 60)))",
        3,
        False,
        "items",
    ),
    "dicts": (
        "train, test = (Items(r, lambda i: {'x': x[i], 'label': y[i], 'idx': i + len(r)}) "
        "for r in (range(50), range(48, 60)))",
        2,
        False,
        "items",
    ),
    "concatenated": (
        "parts = [TensorDataset(x[i : i + 20], y[i : i + 20]) for i in (0, 20, 40)]\n"
        "train, test = ConcatDataset(parts[:2]), ConcatDataset([parts[1], parts[2]])",
        20,
        False,
        "items",
    ),
    "equal content at other positions": (
        "x[40:] = x[:20]; y[40:] = y[:20]\ndata = TensorDataset(x, y)\n"
        "train, test = Subset(data, range(40)), Subset(data, range(40, 60))",
        20,
        False,
        "arrays",
    ),
    "the same dataset": ("train = test = TensorDataset(x, y)", 60, True, "arrays"),
}


@pytest.mark.parametrize("name", OVERLAPS)
def test_overlaps(zygote, name):
    splits, shared, identity, method = OVERLAPS[name]
    part = scan(zygote, splits)["leakage"]
    [overlap] = part.overlaps
    assert (overlap.shared, overlap.identity) == (shared, identity)
    assert overlap.held_out_samples == part.splits[1].samples
    assert (overlap.training, overlap.held_out) == ("train_loader", "test_loader")
    assert {split.method for split in part.splits} == {method}
    assert overlap.labels_agree == 1.0
    assert len(overlap.pairs) == min(8, shared)


def test_pairs_point_at_the_very_samples(zygote):
    splits = "train, test = TensorDataset(x[:50], y[:50]), TensorDataset(x[48:].flip(0), y[48:].flip(0))"
    [overlap] = scan(zygote, splits)["leakage"].overlaps
    assert [(pair.training_index, pair.held_out_index) for pair in overlap.pairs] == [(49, 10), (48, 11)]
    assert all(pair.row == pair.held_out_row and pair.row is not None for pair in overlap.pairs)
    assert overlap.pairs[0].row != overlap.pairs[1].row


CLEAN = {
    "halves": "train, test = TensorDataset(x[:40], y[:40]), TensorDataset(x[40:], y[40:])",
    "subsets": "data = TensorDataset(x, y)\ntrain, test = Subset(data, range(40)), Subset(data, range(40, 60))",
    "one split": "train, test = random_split(TensorDataset(x, y), [40, 20])",
    "transform": "train, test = Augmented(range(40), Jitter()), Augmented(range(40, 60))",
    "inline": "train, test = Inline(range(40)), Inline(range(40, 60))",
    "dicts": "train, test = (Items(r, lambda i: {'x': x[i], 'label': y[i]}) for r in (range(40), range(40, 60)))",
}


@pytest.mark.parametrize("name", CLEAN)
def test_clean_splits(zygote, name):
    part = scan(zygote, CLEAN[name])["leakage"]
    assert part.overlaps == ()
    assert all(split.complete for split in part.splits)


def test_two_random_splits_with_different_seeds_overlap_as_their_indices_do(zygote):
    splits = """
data = TensorDataset(x, y)
train, _ = random_split(data, [40, 20], torch.Generator().manual_seed(1))
_, test = random_split(data, [40, 20], torch.Generator().manual_seed(2))
note(shared=len(set(train.indices) & set(test.indices)))
"""
    seen = scan(zygote, splits)
    [overlap] = seen["leakage"].overlaps
    assert (overlap.shared, overlap.identity) == (seen.noted("shared")[0], True)


def test_labels_that_differ_are_counted(zygote):
    splits = "train, test = TensorDataset(x[:50], y[:50]), TensorDataset(x[46:], (y[46:] + torch.arange(14) % 2) % 3)"
    [overlap] = scan(zygote, splits)["leakage"].overlaps
    assert (overlap.shared, overlap.labels_agree) == (4, 0.5)


def test_files(zygote):
    """As ImageFolder keeps them: a list of (path, label); the files' bytes are compared, whatever their names."""
    splits = """
from PIL import Image
from pathlib import Path

class Folder(Dataset):
    def __init__(self, name, rows):
        Path(name).mkdir()
        self.samples = []
        for row in rows:
            path = f"{name}/{name}{row}.png"
            Image.fromarray(np.random.default_rng(row).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
            self.samples.append((path, row % 3))

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        path, label = self.samples[index]
        picture = torch.from_numpy(np.array(Image.open(path)))
        return (picture.flip(0) if torch.rand(()) < 0.5 else picture), label

train, test = Folder("train", range(40)), Folder("test", range(38, 50))
"""
    part = scan(zygote, splits)["leakage"]
    [overlap] = part.overlaps
    assert (overlap.shared, overlap.labels_agree) == (2, 1.0)
    assert {split.method for split in part.splits} == {"files"}
    assert overlap.pairs[0].thumbnail.startswith("data:image/png;base64,")


def test_constant_samples_are_no_leak(zygote):
    splits = "x[::4] = 0.0\ntrain, test = TensorDataset(x[:40], y[:40]), TensorDataset(x[40:], y[40:])"
    part = scan(zygote, splits)["leakage"]
    assert part.overlaps == ()
    assert part.trivial_samples == 15
    assert all(split.complete for split in part.splits)


def test_duplicates_in_the_training_data_are_counted(zygote):
    splits = "x[30:40] = x[:10]\ntrain, test = TensorDataset(x[:40], y[:40]), TensorDataset(x[40:], y[40:])"
    assert scan(zygote, splits)["leakage"].duplicates_in_training == 10


def test_an_iterable_dataset_cannot_be_compared(zygote):
    splits = """
class Stream(IterableDataset):
    def __iter__(self):
        return iter([(x[i], y[i]) for i in range(40)])

train, test = Stream(), TensorDataset(x[40:], y[40:])
"""
    assert scan(zygote, splits, shuffle=False).absent("leakage").startswith("inconclusive: Stream is an iterable")


def test_randomness_that_cannot_be_switched_off(zygote):
    splits = "train, test = (Items(r, lambda i: (x[i] + torch.randn(5), y[i])) for r in (range(40), range(40, 60)))"
    assert "a different sample each time" in scan(zygote, splits).absent("leakage")


def test_a_dataset_that_raises(zygote):
    """It does so only when nobody is evaluating, so the script itself runs well."""
    splits = """
def make(i):
    if i == 55 and torch.is_grad_enabled():
        raise KeyError("no such row")
    return x[i], y[i]

train, test = Items(range(40), lambda i: (x[i], y[i])), Items(range(40, 60), make)
"""
    seen = scan(zygote, splits)
    assert seen.exit_code == 0
    assert "KeyError" in seen.absent("leakage")


def test_nothing_to_compare(zygote):
    splits = "train, test = TensorDataset(x, y), [(x[:10], y[:10])]"
    script = SETUP + splits + LOOP.replace("SHUFFLE", "True").replace("DataLoader(test, batch_size=10)", "test")
    seen = zygote.probe(script, steps=20, parts=("leakage",))
    assert seen.absent("leakage").startswith("not-applicable: no held-out dataset")


def test_the_scan_draws_no_random_number_and_puts_transforms_back(zygote):
    """The experiments that follow go on as if nothing had happened."""
    splits = "train, test = Augmented(range(50), Jitter()), Augmented(range(44, 60), Jitter())"
    script = (
        SETUP
        + splits
        + LOOP.replace("SHUFFLE", "True")
        .replace("range(5)", "range(10**6)")
        .replace(
            "a, b = inputs(batch)",
            "a, b = inputs(batch); note(kept=train.transform is not None, state=torch.get_rng_state()[:9].tolist())",
        )
    )
    with_scan = zygote.probe(script, steps=12, experiments=True, parts=("leakage", "lower_rate"))
    without = zygote.probe(script, steps=12, experiments=True, parts=("lower_rate",))
    assert with_scan["leakage"].overlaps
    assert with_scan["lower_rate"].looks[0].control[:12] == with_scan["trajectory"].losses
    assert all(with_scan.noted("kept"))
    length = min(len(with_scan.notes), len(without.notes))
    assert length > 60
    assert with_scan.notes[:length] == without.notes[:length]


PASSES = """
def run(loader, optimizer=None):
    for a, b in loader:
        loss = torch.nn.functional.cross_entropy(model(a), b)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            note(weight=model.weight.sum().item())

model = torch.nn.Linear(5, 3)
optimizer, other = (torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2))
train_loader = DataLoader(TensorDataset(x[:50].float(), y[:50] % 3), batch_size=10)
test_loader = DataLoader(TensorDataset(x[50:].float(), y[50:] % 3), batch_size=5)
for epoch in range(6):
    run(train_loader, optimizer)
    run(test_loader, SECOND)
"""


@pytest.mark.parametrize(("second", "trained"), [("optimizer", True), ("other", False), ("None", False)])
def test_a_held_out_loader_that_is_trained_on(zygote, second, trained):
    seen = zygote.probe(SETUP + PASSES.replace("SECOND", second), steps=30, parts=("leakage",))
    part = seen.gathered.parts.get("leakage")
    found = part.trained if part is not None else ()
    assert [(each.name, each.training) for each in found] == ([("test_loader", "train_loader")] if trained else [])


FOLDS = """
data, parts = TensorDataset(x, y), torch.arange(60).chunk(4)

def evaluate(model, rows):
    with torch.no_grad():
        for a, b in DataLoader(Subset(data, rows), batch_size=10):
            model(a)

BUILT_ONCE
for fold in range(4):
    BUILT_ANEW
    rest = [int(row) for part in range(4) if part != fold for row in parts[part]]
    loader = DataLoader(Subset(data, rest), batch_size=5, shuffle=True)
    for epoch in range(2):
        for a, b in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(a), b).backward()
            optimizer.step()
    evaluate(model, parts[fold].tolist())
"""
BUILT = "model = torch.nn.Linear(5, 3); optimizer = torch.optim.SGD(model.parameters(), lr=0.1)"


@pytest.mark.parametrize("anew", [True, False])
def test_loaders_of_another_fold_have_fed_another_model(zygote, anew):
    """Those of all folds are built at the same two lines. The probe ends amid the third fold."""
    script = FOLDS.replace("BUILT_ANEW" if anew else "BUILT_ONCE", BUILT)
    script = script.replace("BUILT_ONCE" if anew else "BUILT_ANEW", "pass")
    found = zygote.probe(SETUP + script, steps=40, parts=("leakage",))["leakage"]
    assert bool(found.overlaps) is not anew


WINDOWS = """
import torch
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
series = SERIES
x = series.unfold(0, 24, HOP)
y = x.mean(1)
order = ORDER
train, test = order[len(x) // 5:], order[: len(x) // 5]
train_loader = DataLoader(TensorDataset(x[train], y[train]), batch_size=16, shuffle=True)
test_loader = DataLoader(TensorDataset(x[test], y[test]), batch_size=50)
model = torch.nn.Linear(24, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
for epoch in range(8):
    for a, b in train_loader:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(a)[:, 0], b).backward()
        optimizer.step()
    with torch.no_grad():
        for a, b in test_loader:
            model(a)
"""
SHUFFLED = "torch.randperm(len(x))"


@pytest.mark.parametrize(
    ("series", "hop", "order", "overlaps"),
    [
        ("torch.randn(1200).cumsum(0)", 6, SHUFFLED, True),
        ("torch.randn(1200).cumsum(0)", 24, SHUFFLED, False),
        ("torch.randn(1200).cumsum(0)", 6, "torch.arange(len(x))", False),
        ("torch.arange(12.0).repeat(100)", 6, SHUFFLED, False),  # what is periodic comes again wherever it is cut
    ],
)
def test_windows_of_loaders_that_overlap(zygote, series, hop, order, overlaps):
    script = WINDOWS.replace("SERIES", series).replace("HOP", str(hop)).replace("ORDER", order)
    part = zygote.probe(script, steps=40, parts=("leakage",))["leakage"]
    assert bool(part.windows) == overlaps
    for each in part.windows:
        assert (each.training, each.held_out) == ("train_loader", "test_loader")
        assert each.overlapping > 0.5 * each.windows


AT_THE_END = (
    LOOP[: LOOP.index("test_loader")] + LOOP[LOOP.index("model =") : LOOP.index("    with torch.no_grad")]
).replace("SHUFFLE", "True")


@pytest.mark.parametrize(("first", "shared"), [(40, 10), (50, 0)])
@pytest.mark.parametrize("name", ["test", "held_out_part"])
def test_a_test_set_that_waits_for_the_end_is_known_by_its_name(zygote, name, first, shared):
    splits = f"data = TensorDataset(x, y)\ntrain, {name} = Subset(data, range(50)), Subset(data, range({first}, 60))"
    part = zygote.probe(SETUP + splits + AT_THE_END, steps=20, parts=("leakage",))["leakage"]
    assert [(split.name, split.role) for split in part.splits] == [("train_loader", "training"), (name, "held-out")]
    assert sum(overlap.shared for overlap in part.overlaps) == shared


@pytest.mark.parametrize("name", ["rest", "train_val"])
def test_other_names_say_nothing_of_a_data_set(zygote, name):
    splits = f"data = TensorDataset(x, y)\ntrain, {name} = Subset(data, range(50)), Subset(data, range(40, 60))"
    seen = zygote.probe(SETUP + splits + AT_THE_END, steps=20, parts=("leakage",))
    assert "no held-out dataset" in seen.absent("leakage")


def test_what_training_takes_a_part_of_is_not_held_out(zygote):
    splits = "valid = TensorDataset(x, y)\ntrain = Subset(valid, range(50))"
    seen = zygote.probe(SETUP + splits + AT_THE_END, steps=20, parts=("leakage",))
    assert "no held-out dataset" in seen.absent("leakage")
