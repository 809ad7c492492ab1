"""Which targets know left from right, and stay as they were while their images are mirrored."""

from __future__ import annotations

import pytest
import torch

from auditor.probe.mirrored import Mirrors

SIDE = 16


def spot(seed, size=False):
    """An image, and where its spot is; or how large the spot is, which mirroring leaves alone."""
    generator = torch.Generator().manual_seed(seed)
    across, down, radius = torch.rand(3, generator=generator).tolist()
    ys, xs = torch.meshgrid(torch.linspace(0, 1, SIDE), torch.linspace(0, 1, SIDE), indexing="ij")
    width = 0.005 * (1 + 9 * radius**3) if size else 0.01
    image = torch.exp(-((xs - across) ** 2 + (ys - down) ** 2) / width)
    image = image + 0.02 * torch.randn(SIDE, SIDE, generator=generator)
    return image[None], torch.tensor([radius**3] if size else [across, down])


def scan(sample, draw):
    """`draw` gives a sample's item as the dataset does, mirrored or not."""
    mirrors = Mirrors()
    for seed in range(6):
        mirrors.add([draw(*sample(seed), mirror) for mirror in (False, True)])
    return mirrors.axes(), mirrors.unmirrored([draw(*sample(seed), seed % 2 == 0) for seed in range(160)])


def left_alone(image, target, mirror, axis=-1):
    return (1.3 * image.flip(axis) + 0.1 if mirror else image), {"box": target, "kind": 3}


@pytest.mark.parametrize(("axis", "value", "direction"), [(-1, 0, "left to right"), (-2, 1, "upside down")])
def test_coordinates_that_are_left_alone(axis, value, direction):
    axes, found = scan(spot, lambda image, target, mirror: left_alone(image, target, mirror, axis))
    assert axes == [axis]
    assert (found.value, found.direction) == (value, direction)
    assert found.pairs >= 5  # of six samples: one may look the same both ways
    assert found.correlation > 0.7
    assert found.samples >= 80


def test_arrays_and_plain_numbers():
    def draw(image, target, mirror):
        return left_alone(image, target, mirror)[0].numpy(), float(target[0])

    assert scan(spot, draw)[1].correlation > 0.7


def test_coordinates_that_are_mirrored_too():
    def draw(image, target, mirror):
        return left_alone(image, target, mirror)[0], torch.tensor([1 - target[0], target[1]]) if mirror else target

    assert scan(spot, draw) == ([], None)


def test_a_flag_that_tells_the_loop():
    assert scan(spot, lambda image, target, mirror: (*left_alone(image, target, mirror), mirror)) == ([], None)


def test_a_size_goes_with_asymmetry_in_one_direction():
    axes, found = scan(lambda seed: spot(seed, size=True), left_alone)
    assert axes == [-1]
    assert found.correlation < 0.3


def portrait(seed):
    """Hair is lighter with age, which its contrast vanishes with in the middle; light comes from one side, and lines
    that lie evenly fill the rest."""
    generator = torch.Generator().manual_seed(seed)
    age = float(torch.rand((), generator=generator))
    image = 0.6 + 0.05 * torch.randn(SIDE, SIDE, generator=generator)
    image[:3] = 0.2 + 0.7 * age + 0.1 * torch.randn((), generator=generator)
    image[4 : 4 + 2 * int(6 * age) : 2, 4:12] -= 0.25
    return (image + 0.2 * torch.linspace(-1, 1, SIDE))[None], torch.tensor([age])


def test_a_contrast_that_vanishes_in_the_middle_knows_no_sides():
    axes, found = scan(portrait, left_alone)
    assert axes == [-1]
    assert found.correlation < 0.3


def test_classes_and_unlike_samples_are_not_judged():
    assert scan(spot, lambda image, target, mirror: (left_alone(image, target, mirror)[0], 3))[1] is None
    assert (
        scan(spot, lambda image, target, mirror: (left_alone(image, target, mirror)[0], (4 * target).round()))[1]
        is None
    )


@pytest.mark.parametrize(
    "change", [lambda image: image + 0.5, lambda image: image.rot90(1, (-2, -1)), torch.zeros_like]
)
def test_what_is_no_mirroring(change):
    draw = lambda image, target, mirror: (change(image) if mirror else image, target)  # noqa: E731
    assert scan(spot, draw) == ([], None)


SCRIPT = """
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
torch.manual_seed(0)
class Spots(Dataset):
    def __init__(self):
        self.at = torch.rand(192, 2)
    def __len__(self):
        return 192
    def __getitem__(self, i):
        grid = torch.linspace(0, 1, 12)
        image = torch.exp(-((grid - self.at[i, 0]) ** 2 + (grid[:, None] - self.at[i, 1]) ** 2) / 0.01)[None]
        at = self.at[i].clone()
        if torch.rand(()) < 0.5:
            image = image.flip(-1)
            MOVE
        return image, at
model = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for epoch in range(4):
    for x, y in DataLoader(Spots(), batch_size=16, shuffle=True):
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


@pytest.mark.parametrize(("move", "told"), [("pass", True), ("at[0] = 1 - at[0]", False)])
def test_the_loader_of_a_loop(zygote, move, told):
    script = SCRIPT.replace("MOVE", move)
    part = zygote.probe(script, steps=12, experiments=True, parts=("augmentation",))["augmentation"]
    assert (part.unmirrored is not None) is told
