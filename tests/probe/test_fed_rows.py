"""Loops without loaders: which rows of an evaluation the model had been trained on before."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from auditor.probe.heldoutnames import words
from auditor.probe.rowprints import RUN, agreement, repeats_by_chance, row_bits, row_prints, run_prints

TABLE = """
import torch
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(400, 8), torch.randint(0, 3, (400,))
x_train, y_train = x[:{trained}], y[:{trained}]
x_test, y_test = x[300:], y[300:]
model = nn.Linear(8, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

def accuracy(inputs, labels):
    with torch.{mode}():
        return (model(inputs).argmax(1) == labels).float().mean()

for step in range(200):
    rows = torch.randint(0, len(x_train), (64,))
    if step % 20 == 19:
        print({evaluation})
    loss = nn.functional.cross_entropy(model(x_train[rows]), y_train[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

TEXT = """
import torch
from torch import nn

torch.manual_seed(0)
data = torch.randint(0, 50, (1200,))
train, val = data[:{trained}], data[1000:]
model = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 50))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

def get_batch(split):
    source = val if split == "val" else train
    at = torch.randint(0, len(source) - 41, (8,)).tolist()
    return torch.stack([source[i:i + 40] for i in at]), torch.stack([source[i + 1:i + 41] for i in at])

@torch.no_grad()
def estimate(split):
    x, y = get_batch(split)
    return nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

for step in range(200):
    x, y = get_batch("train")
    loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 25 == 24:
        print(estimate("train"), estimate("val"))
"""


def table(zygote: Any, evaluation: str = "accuracy(x_test, y_test)", trained: int = 300, mode: str = "no_grad") -> Any:
    return zygote.probe(TABLE.format(evaluation=evaluation, trained=trained, mode=mode), parts=("leakage",))


def test_rows_of_a_test_set_inside_the_training_set(zygote: Any) -> None:
    fed = table(zygote, trained=400)["leakage"].fed
    assert (fed.name, fed.text, fed.step, fed.compared) == ("x_test", False, 59, 100)
    assert fed.found > 80


@pytest.mark.parametrize("mode", ["no_grad", "enable_grad"])
def test_disjoint_rows_have_nothing_in_common(zygote: Any, mode: str) -> None:
    """Also where an evaluation keeps its graph: what no backward goes through was not trained on."""
    seen = table(zygote, mode=mode)
    if mode == "no_grad":
        assert seen["leakage"].fed.found == 0
    else:
        assert "no evaluation" in seen.absent("leakage") or "DataLoader" in seen.absent("leakage")


def test_an_accuracy_on_the_training_set_is_none_of_its_business(zygote: Any) -> None:
    table(zygote, "accuracy(x_train, y_train)").absent("leakage")


@pytest.mark.parametrize(("trained", "least", "most"), [(1200, 0.5, 1.0), (1000, 0.0, 0.0)])
def test_windows_of_text_are_compared_wherever_they_were_cut(
    zygote: Any, trained: int, least: float, most: float
) -> None:
    fed = zygote.probe(TEXT.format(trained=trained), parts=("leakage",))["leakage"].fed
    assert (fed.text, fed.name) == (True, "val")
    assert least <= fed.found / fed.compared <= most
    assert fed.repeated > 0.5 > 0.4 > fed.chance


def test_prints_tell_rows_apart() -> None:
    x = torch.randn(50, 30)
    x[3] = x[40]
    x[7] = 1.0
    prints = row_prints(x)
    assert prints is not None
    assert prints[3] == prints[40]
    assert prints[7] == 0
    assert len(prints.unique()) == 49
    assert row_prints(x[:, :2]) is None  # two numbers say too little
    assert row_prints(torch.randint(0, 9, (50, 5))) is None
    assert repeats_by_chance(torch.randint(0, 9, (50, 30)).float())
    assert not repeats_by_chance(x)


def test_runs_are_found_at_any_place() -> None:
    tokens = torch.randint(0, 100, (RUN * 3,))
    whole = run_prints(tokens[None])
    assert len(whole) == RUN * 2 + 1
    assert torch.isin(run_prints(tokens[None, 11 : 11 + RUN]), whole).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x_test", {"x", "test"}),
        ("XTest", {"x", "test"}),
        ("latest", {"latest"}),
        ("held_out_x", {"heldout", "x"}),
        ("Xte", {"xte", "te"}),
        ("X_te", {"x", "te"}),
        ("Xtest", {"xtest", "test"}),
        ("ytr", {"ytr", "tr"}),
        ("yeast", {"yeast"}),
    ],
)
def test_words_of_a_name(name: str, expected: set[str]) -> None:
    assert words(name) == expected


PAIRS = """
import torch
from torch import nn

torch.manual_seed(0)
x, code, y = torch.randn(400, 5), torch.randint(0, 6, (400,)), torch.randint(0, 3, (400,))
ENTITIES


class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(6, 4), nn.Linear(9, 3)

    def forward(self, given, code, labels=None):
        scores = self.out(torch.cat([given, self.table(code)], 1))
        return scores if labels is None else nn.functional.cross_entropy(scores, labels)


model = Joined()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
train, test = torch.arange({trained}), torch.arange(300, 400)
for step in range(120):
    rows = train[torch.randint(0, len(train), (64,))]
    if step % 20 == 19:
        with torch.no_grad():
            model(x[test], code[test])
    loss = {loss}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
BESIDE = "nn.functional.cross_entropy(model(x[rows], code[rows]), y[rows])"
INSIDE = "model(x[rows], code[rows], y[rows])"


@pytest.mark.parametrize("loss", [BESIDE, INSIDE])
@pytest.mark.parametrize(
    ("trained", "entities", "found"),
    [
        (400, "", True),
        (300, "", False),
        (300, "x[300:] = x[:100]; code[300:] = (code[:100] + 1) % 6", False),  # another pair with the same half
    ],
)
def test_a_row_is_all_that_the_model_is_given_for_it(zygote: Any, loss: str, trained: int, entities, found) -> None:
    script = PAIRS.replace("ENTITIES", entities).format(trained=trained, loss=loss)
    fed = zygote.probe(script, steps=80, parts=("leakage",))["leakage"].fed
    assert (fed.name, fed.inputs, fed.compared) == ("test", 2, 100)
    assert (fed.found > 80) == found
    assert found or not fed.found


def test_states_that_a_model_is_given_are_no_rows(zygote: Any) -> None:
    stateful = BESIDE.replace("x[rows]", "x[rows] + model.out.bias.sum()")
    script = PAIRS.replace("ENTITIES", "").format(trained=400, loss=stateful)
    zygote.probe(script, steps=80, parts=("leakage",)).absent("leakage")


def test_how_often_different_rows_agree() -> None:
    torch.manual_seed(0)
    measured = torch.randn(300, 4)
    copied = torch.cat([measured, measured[:200]])
    prints = row_prints(copied)
    assert prints is not None
    assert agreement(row_bits([copied]), prints) == pytest.approx(3 / (300 * 299 / 2))
    codes = torch.randint(0, 5, (300, 4)) / 7
    prints = row_prints(codes)
    assert prints is not None
    assert agreement(row_bits([codes]), prints) > 0.9


WINDOWS = """
import torch
from torch import nn

torch.manual_seed(0)
series = SERIES
x = series.unfold(0, 24, HOP)SHAPE
y = x.flatten(1).mean(1)
SPLIT
x_test, y_test = x[test], y[test]
model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(200):
    rows = train[torch.randint(0, len(train), (32,))]
    loss = nn.functional.mse_loss(model(x[rows])[:, 0], y[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 19:
        with torch.no_grad():
            model(x_test)
"""
SHUFFLED = "order = torch.randperm(len(x)); train, test = order[len(x) // 5:], order[: len(x) // 5]"
IN_TIME = "order = torch.arange(len(x)); train, test = order[: 4 * len(x) // 5], order[4 * len(x) // 5:]"
WALK = "torch.randn(1200, 3).cumsum(0)"


@pytest.mark.parametrize(
    ("series", "hop", "shape", "split", "overlap"),
    [
        (WALK, 8, "", SHUFFLED, True),
        (WALK, 8, ".transpose(1, 2).contiguous()", SHUFFLED, True),
        (WALK.replace("1200, 3", "1200"), 6, "", SHUFFLED, True),
        (WALK, 24, "", SHUFFLED, False),
        (WALK, 2, "", IN_TIME, False),
        ("torch.randint(0, 3, (1200, 3)).float()", 6, "", SHUFFLED, False),  # counts come again by chance
    ],
)
def test_windows_that_overlap(zygote, series, hop, shape, split, overlap):
    script = WINDOWS.replace("SERIES", series).replace("HOP", str(hop)).replace("SHAPE", shape).replace("SPLIT", split)
    found = zygote.probe(script, steps=120, parts=("leakage",))["leakage"].fed
    assert found.name in ("x_test", "test")
    assert (found.overlapping > 0.5 * found.rows) == overlap
    assert overlap or found.overlapping <= 0.05 * found.rows
