"""Which collate functions take inputs and labels in different orders."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import default_collate

from auditor.probe.mispaired import mispaired

LENGTHS = (3, 7, 5, 2, 9, 4, 8, 6)
ITEMS = [(torch.arange(1, length + 1) * (place + 2), place % 3) for place, length in enumerate(LENGTHS)]


def collated(sort_inputs=True, sort_labels=True, negatives=False, noise=False):
    def collate(items):
        order = sorted(range(len(items)), key=lambda place: -len(items[place][0]))
        plain = list(range(len(items)))
        inputs = [items[place][0] for place in (order if sort_inputs else plain)]
        labels = torch.tensor([items[place][1] for place in (order if sort_labels else plain)])
        found = {"x": pad_sequence(inputs, batch_first=True), "y": labels, "n": torch.tensor([*map(len, inputs)])}
        if negatives:
            found["other"] = labels.roll(1)
        if noise:
            found["x"] = found["x"] + torch.randint(100, 200, (1,))
        return found

    return collate


@pytest.mark.parametrize("one", [{"sort_labels": False}, {"sort_inputs": False}])
def test_one_sorted_alone(one):
    rows, apart = mispaired(ITEMS, collated(**one))
    assert rows == 8
    assert 3 <= apart <= 8


@pytest.mark.parametrize(
    "collate",
    [
        collated(),
        collated(sort_inputs=False, sort_labels=False),
        collated(negatives=True),  # nobody can tell which of the labels are meant to be the samples' own
        collated(sort_labels=False, noise=True),  # rows that are no sample's
        lambda items: {"x": torch.stack([item[0][:2] for item in items]), "order": torch.randperm(len(items))},
    ],
)
def test_what_is_in_order_or_cannot_be_told(collate):
    assert mispaired(ITEMS, collate)[1] == 0


def test_torch_collates_in_order():
    items = [(torch.randn(4), place % 2) for place in range(6)]
    assert mispaired(items, default_collate) == (6, 0)
    alike = [(torch.ones(4), place % 2) for place in range(6)]
    assert mispaired(alike, lambda given: (torch.ones(len(given), 4), torch.ones(len(given)))) == (0, 0)


SCRIPT = """
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
torch.manual_seed(0)
words = [(torch.randint(1, 9, (int(torch.randint(2, 9, ())),)), place % 3) for place in range(64)]

def collate(items):
    order = sorted(range(len(items)), key=lambda place: -len(items[place][0]))
    x = pad_sequence([items[place][0] for place in order], batch_first=True)
    return x, torch.tensor([items[place][1] for place in LABELS])

model = nn.Sequential(nn.EmbeddingBag(9, 8, padding_idx=0), nn.Linear(8, 3))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for epoch in range(6):
    for x, y in DataLoader(words, batch_size=16, shuffle=True, collate_fn=collate):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


@pytest.mark.parametrize(("labels", "found"), [("range(len(items))", True), ("order", False)])
def test_the_loader_of_a_loop(zygote, labels, found):
    script = SCRIPT.replace("LABELS", labels)
    part = zygote.probe(script, steps=12, experiments=True, parts=("augmentation",))["augmentation"]
    assert part.collated == 0 or part.collated == part.items
    assert (part.mispaired >= 3) is found
