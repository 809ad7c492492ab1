"""In which order samples come, what labels do in it, and whether random samples repeat themselves."""

from __future__ import annotations

import pytest

approx = pytest.approx
LOOP = """
import random
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, DistributedSampler
torch.manual_seed(0)
x, y = torch.randn(400, 6), torch.arange(400) // 100
PREPARE
model = nn.Linear(6, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(20):
    EPOCH
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
"""


def run(zygote, prepare, epoch="pass", part="sample_order", steps=40, **options):
    script = LOOP.replace("PREPARE", prepare.strip()).replace("EPOCH", "\n    ".join(epoch.strip().splitlines()))
    return zygote.probe(script, steps=steps, parts=(part,), **options)


def order(zygote, prepare, epoch="pass", **options):
    return run(zygote, prepare, epoch, **options)["sample_order"]


def test_a_sorted_dataset_in_its_order(zygote):
    part = order(zygote, "loader = DataLoader(TensorDataset(x, y), batch_size=16)")
    assert (part.loader, part.sampler, part.sequential, part.shuffles) == ("loader", "SequentialSampler", True, False)
    assert (part.passes, part.compared, part.repeated) == (2, 240, True)  # 40 steps: a pass of 25 and 15 of the next
    assert part.labels == (100, 100, 100, 100)
    assert part.neighbours_equal == 400 - 1 - 3
    assert part.batch_classes == approx((25 + 3) / 25)
    assert 0.8 < part.alikeness < 1.25
    assert part.alikeness_pairs == 396
    assert part.location.line == 9


def test_neighbours_that_resemble_each_other(zygote):
    walk = "x = torch.randn(400, 6).cumsum(0)\nloader = DataLoader(TensorDataset(x, y), batch_size=16)"
    assert order(zygote, walk).alikeness < 0.3


def test_a_shuffled_loader(zygote):
    part = order(zygote, "loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)")
    assert (part.sequential, part.shuffles, part.repeated, part.labels) == (False, True, False, ())
    assert part.compared == 240


def test_workers_draw_ahead(zygote):
    part = order(zygote, "loader = DataLoader(TensorDataset(x, y), batch_size=16, num_workers=2)")
    assert (part.passes, part.repeated, part.neighbours_equal) == (2, True, 396)
    assert part.compared >= 240


def test_persistent_workers(zygote):
    prepare = (
        "loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True, num_workers=1, persistent_workers=True)"
    )
    part = order(zygote, prepare)
    assert (part.passes, part.repeated) == (2, False)


@pytest.mark.parametrize(("epoch", "repeated"), [("pass", True), ("loader.sampler.set_epoch(epoch)", False)])
def test_a_distributed_sampler(zygote, epoch, repeated):
    prepare = (
        "data = TensorDataset(x, y)\n"
        "loader = DataLoader(data, batch_size=16, sampler=DistributedSampler(data, num_replicas=1, rank=0))"
    )
    part = order(zygote, prepare, epoch)
    assert (part.distributed, part.shuffles, part.repeated) == (True, True, repeated)


def test_an_order_of_the_scripts_own(zygote):
    part = order(
        zygote, "loader = DataLoader(TensorDataset(x, y), batch_sampler=[list(range(i, i + 8)) for i in range(50)])"
    )
    assert (part.sequential, part.shuffles, part.own, part.labels) == (False, False, True, (320,))


STREAM = """
class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(zip(x, y))
loader = DataLoader(Stream(), batch_size=8)
"""


def test_a_sorted_stream_and_what_its_order_does(zygote):
    seen = run(zygote, "x = 3 * x\n" + STREAM, part="order_control", steps=48, experiments=True)
    control = seen["order_control"]
    assert (len(control.natural), len(control.mixed), control.steps) == (16, 16, 48)
    assert control.natural != control.mixed
    part = order(zygote, STREAM, steps=48)
    assert (part.feed, part.sequential, part.batches, part.labels) == ("stream", False, 48, (100, 100, 100, 84))
    assert part.purity > 0.9
    assert (part.pass_drift, part.pass_samples) == (approx(1.0), 400)


def test_a_mixed_stream_is_left_alone(zygote):
    part = order(zygote, "places = torch.randperm(400)\nx, y = x[places], y[places]\n" + STREAM, steps=48)
    assert abs(part.purity) < 0.04
    assert part.pass_drift is None


KEPT = """
class Kept(torch.utils.data.Sampler):
    def __iter__(self):
        batches = torch.arange(400).split(16)
        batches = [batches[place] for place in torch.randperm(25)] if MIXED else batches
        return iter([batch.tolist() for batch in batches])
    def __len__(self):
        return 25
x = 3 * x
loader = DataLoader(TensorDataset(x, y), batch_sampler=Kept())
"""


def test_batches_that_a_sampler_keeps_in_one_order(zygote):
    seen = run(zygote, KEPT.replace("MIXED", "False"), part="order_control", steps=45, experiments=True)
    control = seen["order_control"]
    assert (control.whole, control.steps) == (True, 25)  # of one pass, not of both
    assert control.natural != control.mixed
    part = order(zygote, KEPT.replace("MIXED", "False"), steps=45)
    assert (part.own, part.sampler, part.repeated, part.labels) == (True, "Kept", True, (100, 100, 100, 100))


def test_batches_that_a_sampler_mixes_anew(zygote):
    seen = run(zygote, KEPT.replace("MIXED", "True"), part="order_control", steps=45, experiments=True)
    assert seen.absent("order_control").startswith("not-applicable")


def test_an_evaluation_with_gradients_is_no_part_of_the_loop(zygote):
    """Nor of the order: batches are what most calls of one loss receive."""
    hand = "x = 3 * x\nloader = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 400, 16)]"
    evaluate = "if epoch: nn.functional.cross_entropy(model(x), y)"
    seen = run(zygote, hand, evaluate, part="order_control", steps=48, experiments=True)
    assert seen["order_control"].fidelity < 1e-3
    part = order(zygote, hand, evaluate, steps=48)
    assert (part.feed, sum(part.labels), part.batches) == ("loop", 48 * 16, 48)


def test_loops_without_an_order_to_judge(zygote):
    two = "a = DataLoader(TensorDataset(x, y), batch_size=16); b = DataLoader(TensorDataset(x, y), batch_size=16)"
    seen = run(zygote, two + "\nloader = [*a, *b]", steps=8)
    assert "not-applicable" in seen.absent("sample_order")
    part = order(zygote, "loader = [(x, y)] * 20", steps=40)  # the whole data in each step
    assert (part.feed, part.purity, part.drift) == ("loop", approx(0.0, abs=0.01), 0.0)


# -------------------------------------------------------------------------------------------------------- augmentation

NOISY = """
class Noisy(Dataset):
    def __init__(self):
        self.rng, self.own = np.random.default_rng(0), random.Random(0)
    def __len__(self):
        return 400
    def __getitem__(self, index):
        NOISE
        return x[index] + noise, y[index]


def seed_by_worker(worker):
    torch.manual_seed(worker)


def seed_all(worker):
    torch.manual_seed(0)


loader = DataLoader(Noisy(), batch_size=16, OPTIONS)
"""
GLOBAL = "noise = torch.randn(6)"
NUMPY = "noise = torch.from_numpy(np.random.randn(6)).float()"
STORED = "noise = torch.from_numpy(self.rng.normal(size=6)).float()"


def augmentation(zygote, noise, options, epoch="pass", **more):
    prepare = NOISY.replace("NOISE", noise).replace("OPTIONS", options)
    return run(zygote, prepare, epoch, part="augmentation", experiments=True, **more)


@pytest.mark.parametrize(
    ("noise", "options", "between_workers", "between_epochs"),
    [
        (GLOBAL, "num_workers=2", 0, 0),
        (NUMPY, "num_workers=2", 0, 0),
        (STORED, "num_workers=2", 24, 24),
        (STORED, "num_workers=2, persistent_workers=True", 24, 0),
        ("noise = self.own.random()", "num_workers=3", 24, 24),
        (GLOBAL, "num_workers=2, worker_init_fn=seed_by_worker", 0, 24),
        (GLOBAL, "num_workers=2, worker_init_fn=seed_all", 24, 24),
    ],
    ids=["global", "numpy", "stored", "persistent", "random", "by-worker", "constant"],
)
def test_what_workers_draw(zygote, noise, options, between_workers, between_epochs):
    part = augmentation(zygote, noise, options, steps=12)["augmentation"]
    assert (part.items, part.random, part.chance) == (24, 24, 0.0)
    assert (part.worker_items, part.worker_equal) == (24, between_workers)
    assert (part.epoch_items, part.epoch_equal) == (24, between_epochs)


def test_one_worker(zygote):
    part = augmentation(zygote, STORED, "num_workers=1", steps=12)["augmentation"]
    assert (part.worker_items, part.epoch_items, part.epoch_equal) == (0, 24, 24)


@pytest.mark.parametrize(("epoch", "equal"), [("pass", 0), ("torch.manual_seed(7)", 64)])
def test_what_the_loop_gets_in_two_passes(zygote, epoch, equal):
    part = augmentation(zygote, GLOBAL, "shuffle=True", epoch)["augmentation"]
    assert part.delivered_items >= 30
    assert part.delivered_equal == min(equal, part.delivered_items)
    assert (part.worker_items, part.epoch_items) == (0, 0)


def test_a_fixed_function_of_the_index_is_not_random(zygote):
    fixed = "noise = torch.randn(6, generator=torch.Generator().manual_seed(index))"
    part = augmentation(zygote, fixed, "num_workers=2", steps=12)["augmentation"]
    assert (part.random, part.worker_items) == (0, 0)


def test_a_coin_is_equal_by_chance(zygote):
    part = augmentation(zygote, "noise = float(torch.rand(()) < 0.5)", "num_workers=2", steps=12)["augmentation"]
    assert 10 < part.random <= 24
    assert 0.2 < part.chance < 0.6
    assert 0 < part.worker_equal < part.worker_items


def test_samples_that_cannot_be_drawn_again(zygote):
    fails = """
class Once(Dataset):
    seen = set()
    def __len__(self):
        return 400
    def __getitem__(self, index):
        assert index not in self.seen, "once is enough"
        self.seen.add(index)
        return x[index], y[index]
loader = DataLoader(Once(), batch_size=16)
"""
    seen = run(zygote, fails, part="augmentation", steps=12, experiments=True)
    assert "inconclusive" in seen.absent("augmentation")
    assert "once is enough" in seen.absent("augmentation")


SEEDED = """
class Seeded(Dataset):
    def __init__(self, augment=True):
        self.x, self.y, self.augment, self.EXTRA = x, y, augment, 0
    def __len__(self):
        return len(self.x)
    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        noise = torch.from_numpy(rng.normal(size=6)).float() if self.augment is not False else 0
        return LABELLED
loader = DataLoader(Seeded(AUGMENT), batch_size=16)
"""


@pytest.mark.parametrize(
    ("labelled", "augment", "extra", "seeded"),
    [
        ("self.x[index] + noise, self.y[index]", "True", "rate", 24),
        ("self.x[index] + noise, self.y[index]", "True", "epoch", 24),  # which no seed depends on
        ("self.x[index] + noise, self.y[index]", "None", "epoch", 24),
        ("self.x[index] + noise * (1 + self.epoch), self.y[index]", "True", "epoch", 0),
        ("self.x[index] + noise, self.y[index]", "False", "rate", 0),
        ("noise, int(noise.sum() > 0)", "True", "rate", 12),  # made up whole, where the label changes too
    ],
)
def test_a_dataset_that_seeds_every_sample(zygote, labelled, augment, extra, seeded):
    prepare = SEEDED.replace("LABELLED", labelled).replace("AUGMENT", augment).replace("EXTRA", extra)
    part = run(zygote, prepare, "pass", part="augmentation", steps=12, experiments=True)["augmentation"]
    assert part.random == 0
    assert abs(part.seeded - seeded) <= (6 if seeded == 12 else 0)
