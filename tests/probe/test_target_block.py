"""Blocks of rows whose targets belong to other rows."""

from __future__ import annotations

import pytest
import torch

from auditor.probe.blockscan import block_of_noise

ROWS = 1600


def table(seed=0, noise=0.3):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(ROWS, 6, generator=draw)
    y = x[:, 0] - x[:, 1].abs() + 0.5 * x[:, 2] * (x[:, 3] > 0) + noise * torch.randn(ROWS, generator=draw)
    return x, y


def mixed(y, first, last):
    order = torch.randperm(last - first, generator=torch.Generator().manual_seed(1))
    return torch.cat([y[:first], y[first:last][order], y[last:]])


@pytest.mark.parametrize(("first", "last"), [(1000, 1600), (0, 500), (430, 900)])
def test_a_block_with_the_targets_of_other_rows(first, last):
    x, y = table()
    found = block_of_noise([x], mixed(y, first, last))
    assert abs(found.first - first) <= 80
    assert abs(found.last - last) <= 80
    assert max(abs(found.inside), abs(found.own)) < 0.15
    assert found.outside > 0.7
    assert found.apart < 0.12


def test_several_targets_of_a_row_are_looked_at_together():
    x, y = table()
    both = torch.stack([mixed(y, 800, 1600), mixed(2 * x[:, 4] - y, 800, 1600)], dim=1)
    assert block_of_noise([x], both).first == pytest.approx(800, abs=80)


def test_pictures_are_known_by_their_statistics():
    pictures = torch.rand(ROWS, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    brightness = pictures[:, 0, :3].mean((1, 2))
    assert block_of_noise([pictures], brightness) is None
    assert block_of_noise([pictures], mixed(brightness, 0, 640)).last == pytest.approx(640, abs=80)


@pytest.mark.parametrize("seed", range(4))
def test_pairs_that_are_right(seed):
    x, y = table(seed)
    assert block_of_noise([x], y) is None
    assert block_of_noise([x], torch.randn(ROWS, generator=torch.Generator().manual_seed(seed))) is None
    noisy = torch.cat([y[:900], table(seed, 2.0)[1][900:]])
    assert block_of_noise([x], noisy) is None
    drawn = block_of_noise([x], mixed(y, 0, ROWS))
    assert drawn is None


def test_another_relation_is_told_by_the_block_itself():
    x, y = table()
    found = block_of_noise([x], torch.cat([y[:1000], x[1000:, 4]]))
    assert found is None or found.own > 0.6


def test_another_kind_of_rows_is_spread_otherwise():
    x, y = table()
    found = block_of_noise([x], torch.cat([y[:1000], 3 + 0.1 * torch.randn(600)]))
    assert found.apart > 0.5


LOOP = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split
torch.manual_seed(0)
x = torch.randn(1600, 6)
y = x[:, 0] + x[:, 1].abs() + 0.3 * torch.randn(1600)
y = torch.cat([y[:1000], y[1000:][torch.randperm(600)]])
model = nn.Linear(6, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.01)
def step(a, b):
    loss = LOSS
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
LOADER = """
for a, b in DataLoader(random_split(TensorDataset(x, y), [1500, 100])[0], batch_size=20, shuffle=True):
    step(a, b)
"""
WHOLE = "for _ in range(60): step(x, y)"
PARTS = "for i in range(60): step(x[i * 20 : i * 20 + 20], y[i * 20 : i * 20 + 20])"
BY_HAND = "((model(a)[:, 0] - b) ** 2).mean()"


@pytest.mark.parametrize(("loop", "loss"), [(LOADER, BY_HAND), (WHOLE, "nn.functional.mse_loss(model(a)[:, 0], b)")])
def test_tables_in_their_order(zygote, loop, loss):
    seen = zygote.probe(LOOP.replace("LOSS", loss) + loop, steps=4, experiments=True, parts=("target_block",))
    part = seen["target_block"]
    assert part.rows == 1600
    assert part.first == pytest.approx(1000, abs=80)


def test_rows_in_an_order_that_is_not_known(zygote):
    seen = zygote.probe(LOOP.replace("LOSS", BY_HAND) + PARTS, steps=4, experiments=True, parts=("target_block",))
    assert "not-applicable" in seen.absent("target_block")
