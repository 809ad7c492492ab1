"""Columns whose gaps were filled by means of the target."""

from __future__ import annotations

import pytest
import torch

from auditor.probe.classfills import ClassFills

SCRIPT = """
import torch
torch.manual_seed(0)
y = torch.arange(320) % 4
x = torch.randn(320, 8) + y[:, None]
gaps = torch.rand(320) < 0.4
for c in range(4):
    x[gaps & (y == c), 5] = x[~gaps & (y == c), 5].mean()
model = torch.nn.Linear(8, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for rows in torch.randperm(320).split(16):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
    optimizer.step()
"""


def table(classes=3, rows=300):
    torch.manual_seed(0)
    kinds = torch.arange(rows) % classes
    return torch.randn(rows, 4) + 0.5 * kinds[:, None], kinds, torch.rand(rows) < 0.4


def found(x, kinds):
    fills = ClassFills()
    for rows in torch.arange(len(x)).split(50):
        fills.note(x[rows], kinds[rows, None])
    return fills.found()


@pytest.mark.parametrize("classes", [2, 5])
def test_a_mean_of_each_class(classes):
    x, kinds, gaps = table(classes)
    for kind in range(classes):
        x[gaps & (kinds == kind), 2] = x[~gaps & (kinds == kind), 2].mean()
    (fill,) = found(x.round(decimals=5), kinds.float())
    assert (fill.column, fill.classes, fill.filled) == (2, classes, int(gaps.sum()))


def by_all(x, _kinds, gaps):
    x[gaps, 2] = x[~gaps, 2].mean()


def clipped(x, kinds, _gaps):  # the ends of a sensor that tells the classes well
    x[:, 2] = (x[:, 2] + 20 * kinds).clamp(0, 20)


def by_patient(x, _kinds, _gaps):  # one value for each of 60 patients, who are of one class each
    x[:, 2] = torch.randn(60)[torch.arange(300) % 60]


def whole_numbers(x, _kinds, _gaps):
    x[:, 2] = (4 * x[:, 2]).round()


def of_one_class(x, kinds, gaps):
    x[gaps & (kinds == 0), 2] = x[kinds == 0, 2].mean()


@pytest.mark.parametrize("change", [by_all, clipped, by_patient, whole_numbers, of_one_class])
def test_columns_that_say_nothing_of_the_target(change):
    x, kinds, gaps = table(2)
    change(x, kinds, gaps)
    assert found(x, kinds) == ()


def test_rows_that_come_again_count_once():
    x, kinds, _ = table(2)
    rows = torch.randint(0, 4, (300,))
    assert found(x[rows], kinds[rows]) == ()


@pytest.mark.parametrize("target", [lambda kinds: kinds + 0.5, lambda kinds: kinds * 0])
def test_targets_that_are_no_classes(target):
    x, kinds, gaps = table(2)
    for kind in range(2):
        x[gaps & (kinds == kind), 2] = float(kind)
    assert found(x, kinds)
    assert found(x, target(kinds)) == ()


def test_what_a_loop_feeds_is_looked_at(zygote):
    part = zygote.probe(SCRIPT, steps=20, parts=("copied_targets",))["copied_targets"]
    (fill,) = part.fills
    assert (fill.column, fill.classes, fill.rows) == (5, 4, 80)
    assert fill.location.line == 13
