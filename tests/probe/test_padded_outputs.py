"""Which positions of a batch are padding, and whether the loss had a gradient at them."""

from __future__ import annotations

import pytest
import torch

from auditor.probe.paddings import Table, named_padding, paddings

LOOP = """
import torch
from torch import nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(6):
    lengths = torch.randint(2, 9, (6,))
    lengths[0] = 9 + step % 2
    rows = [torch.randn(int(n), 3) for n in lengths]
    x = pad_sequence(rows, batch_first=True)
    y = pad_sequence([row.sum(1) for row in rows], batch_first=True)
    mask = torch.arange(x.shape[1]) < lengths[:, None]
    LOSS
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def site(zygote, loss, **changes):
    script = LOOP.replace("LOSS", loss)
    for old, new in changes.items():
        script = script.replace(old, new)
    (found,) = zygote.probe(script, steps=5, parts=("padded_outputs",))["padded_outputs"].sites
    return found


@pytest.mark.parametrize(
    "loss",
    [
        "loss = ((net(x).squeeze(2) - y) ** 2).mean()",
        "loss = F.smooth_l1_loss(net(x)[..., 0], y)",
        "loss = F.binary_cross_entropy_with_logits(net(x)[..., 0], (y > 0).float())",
    ],
)
def test_padding_that_counts(zygote, loss):
    found = site(zygote, loss)
    assert found.padded_counted == found.padded > 20
    assert (found.reason, found.told) == ("pad_sequence", True)
    assert found.strength > 0.1


@pytest.mark.parametrize(
    "loss",
    [
        "loss = ((net(x).squeeze(2) - y) ** 2)[mask].mean()",
        "loss = (F.l1_loss(net(x)[..., 0], y, reduction='none') * mask).sum() / mask.sum()",
    ],
)
def test_padding_that_is_left_out(zygote, loss):
    found = site(zygote, loss)
    assert found.padded_counted == 0 < found.padded


def test_outputs_that_are_pooled_first_are_not_judged(zygote):
    script = LOOP.replace("LOSS", "loss = ((net(x).squeeze(2).sum(1) - y.sum(1)) ** 2).mean()")
    seen = zygote.probe(script, steps=5, parts=("padded_outputs",))
    assert seen.absent("padded_outputs").startswith("not-applicable")


def table():
    rows = torch.randn(4, 6, 2)
    lengths = torch.tensor([6, 3, 4, 2])
    rows[torch.arange(6) >= lengths[:, None]] = 0.0
    return rows, lengths


def test_lengths_and_masks_tell():
    rows, lengths = table()
    run = torch.arange(6) >= lengths[:, None]
    for told in (lengths, lengths.tolist(), run.float()):
        found = next(each for each in paddings([rows, told], (), {}) if each.run.shape == run.shape)
        assert found.sure
        assert torch.equal(found.run, run)
    assert not paddings([rows], (), {})[0].sure
    assert paddings([rows], [Table(rows, lengths.tolist())], {})[0].reason == "pad_sequence"
    assert not paddings([torch.randn(4, 6, 2)], (), {})


def test_tokens_by_their_name():
    ids = torch.randint(1, 9, (4, 6))
    ids[1, 3:] = ids[2, 4:] = 0
    assert paddings([ids], (), {0: "PAD"})[0].sure
    assert not paddings([ids], (), {})[0].sure
    ids[3, 1] = 0  # a token like any other
    assert not paddings([ids], (), {0: "PAD"})


def test_names_of_padding():
    places = {"PAD_ID": 3, "padding": 1, "pads": 2, "vocab": {"<pad>": 5}, "pad": True}
    assert named_padding(places) == {3: "PAD_ID", 5: "<pad>"}
