"""A last training on everything, the test data included."""

from __future__ import annotations

import ast

import pytest

from auditor.static.refits import refits

FUNCTIONS = """
def step(model, x, y, opt):
    loss(model(x), y).backward()
    opt.step()
def fit(model, data):
    for x, y in data:
        step(model, x, y, opt)
def inner(model, *data):
    for x, y in zip(*data):
        model(x).backward()
        opt.step()
def error(model, *data):
    return model(data).mean()
"""

MAIN = """
train, valid, test = parts
fit(model, train)
JOIN
TRAIN
EVALUATE
"""


def found(join="full = ConcatDataset([train, valid, test])", train="inner(model, full)", evaluate="error(model, test)"):
    main = MAIN.replace("JOIN", join).replace("TRAIN", train).replace("EVALUATE", evaluate)
    return list(refits("train.py", ast.parse(FUNCTIONS + main)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"join": "full = DataLoader(train + valid + test)"},
        {"train": "net = inner(fresh(), full)", "evaluate": "print(f'{error(net, test)}')"},
        {"train": "for e in range(9):\n    for x, y in full:\n        net(x).backward()\n        opt.step()"}
        | {"evaluate": "score = error(net, test)"},
        {"train": "trainer.inner(full)", "evaluate": "trainer.score(test)"},
        {"join": "x, y = torch.cat([x_train, x_test]), torch.cat([y_train, y_test])"}
        | {"train": "inner(model, x, y)", "evaluate": "error(model, x_test, y_test)"},
        {"evaluate": "with torch.no_grad():\n    print(model(test))"},
    ],
)
def test_what_was_joined_is_evaluated(changes):
    (seen,) = found(**changes)
    assert seen.joined.line <= seen.location.line < seen.evaluated.line
    assert seen.data in ("test", "x_test")


@pytest.mark.parametrize(
    "changes",
    [
        {"join": "full = ConcatDataset([train, valid])"},
        {"evaluate": "model.save('m.pt')"},  # for use, and no score is given
        {"evaluate": "error(model, valid)"},
        {"evaluate": "error(other, test)"},
        {"evaluate": "inner(model, train)\nerror(model, test)"},  # trained once more
        {"evaluate": "probe(model, train, test)"},
        {"evaluate": "test = fresh()\nerror(model, test)"},
        {"evaluate": "len(test)"},
        {"train": "vocabulary(full)"},
        {"train": "inner(model, full, test)"},
        {"train": "full = train\ninner(model, full)"},
        {"join": "full = torch.cat([train, test])"},  # without targets
        {"join": "full = ConcatDataset([train, train_test])"},
        {"join": "full = ConcatDataset([*parts])"},
    ],
)
def test_what_is_no_such_training(changes):
    assert not found(**changes)
