"""Several yes-or-no labels for each sample are counted one by one."""

from __future__ import annotations

import pytest

SCRIPT = """
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(512, 6)
y = (x[:, :4] > torch.tensor([0.0, 0.5, 1.0, 9.0])).float()
y[::50, 3] = 1.0
PREPARE
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, y.shape[1]))
optimizer = torch.optim.Adam(model.parameters(), 0.02)
criterion = nn.BCEWithLogitsLoss(WEIGHT)
for step in range(60):
    rows = torch.randint(0, 512, (64,))
    loss = criterion(model(x[rows]), y[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def run(zygote, prepare="", weight=""):
    return zygote.probe(SCRIPT.replace("PREPARE", prepare).replace("WEIGHT", weight), steps=30, parts=("tags",))


def test_ones_and_those_that_were_found(zygote):
    part = run(zygote)["tags"]
    assert part.rows == 64 * part.steps
    assert part.tags[0].ones > part.tags[1].ones > part.tags[2].ones > part.tags[3].ones > 0
    assert part.tags[3].hits == 0 < part.tags[3].seen
    assert part.tags[0].hits > 0.8 * part.tags[0].seen
    assert all(tag.hits <= min(tag.seen, tag.answered) for tag in part.tags)
    assert not part.weighted


def test_weights_are_seen(zygote):
    assert run(zygote, weight="pos_weight=torch.ones(4) * 3")["tags"].weighted


@pytest.mark.parametrize(
    "prepare",
    [
        "y = nn.functional.one_hot(y.sum(1).long(), 5).float()",  # one class for each sample
        "y = y * 0.9 + 0.05",
        "y = y[:, :1]",
        "y = (x > 0).float()",  # as large as the input: to be reconstructed
    ],
)
def test_what_is_no_tag(zygote, prepare):
    assert "not-applicable" in run(zygote, prepare).absent("tags")
