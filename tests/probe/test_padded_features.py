"""Sequences of features padded with zeros: what more padding does to a model that knows their lengths."""

from __future__ import annotations

import pytest

LOOP = """
import torch
from torch import nn
torch.manual_seed(0)
B, T, D = 6, 12, 5
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.step = nn.Sequential(nn.Linear(D, 16, bias=BIAS), nn.ReLU())
        self.mix = nn.Conv1d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 1)
    def forward(self, x, lengths):
        real = (torch.arange(x.shape[1]) < lengths[:, None])[..., None]
        h = self.step(x)
        POOL
        return self.head(h)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
generator = torch.Generator().manual_seed(1)
def batch(step):
    longest = T - step % VARIETY
    lengths = longest - torch.arange(B) % 5
    x = torch.randn(B, longest, D, generator=generator)
    return x * (torch.arange(longest) < lengths[:, None])[..., None], lengths
for x, lengths in torch.utils.data.DataLoader([batch(step) for step in range(60)], batch_size=None):
    loss = (model(x, GIVEN) - x.sum((1, 2))[:, None]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    note(loss=loss.item())
    optimizer.step()
"""
MASKED = "h = (h * real).sum(1) / lengths[:, None]"


def look(zygote, pool, bias=True, variety=3, given="lengths"):
    script = LOOP.replace("POOL", pool).replace("BIAS", str(bias))
    script = script.replace("VARIETY", str(variety)).replace("GIVEN", given)
    return zygote.probe(script, steps=10, experiments=True, parts=("token_influence",))


@pytest.mark.parametrize(
    ("pool", "bias", "changes"),
    [
        (MASKED, True, False),
        ("h = h.mean(1)", True, True),
        ("h = h.sum(1) / lengths[:, None]", True, True),
        ("h = h.sum(1) / lengths[:, None]", False, False),  # of zeros it makes zeros, and they add nothing
        ("h = h.masked_fill(~real, -1e9).amax(1)", True, False),
    ],
)
def test_more_padding(zygote, pool, bias, changes):
    found = look(zygote, pool, bias)["token_influence"]
    assert (found.mask, found.padded, found.appended, found.local_layer) == ("Net", 10, 3, "")
    assert (found.pad_change > 0.01) == changes
    assert found.pad_change == 0.0 or changes
    assert found.real_change > 0.05


def test_convolutions_see_it_by_their_nature(zygote):
    found = look(zygote, "h = self.mix(h.transpose(1, 2)).transpose(1, 2)\n        " + MASKED)["token_influence"]
    assert (found.local_layer, found.pad_change) == ("conv1d", None)


@pytest.mark.parametrize(
    ("pool", "changes"),
    [(MASKED, {"variety": 1}), ("h = h.mean(1)", {"given": "lengths.clamp(max=9)"})],
    ids=["all batches of one length", "not the lengths"],
)
def test_where_it_is_not_judged(zygote, pool, changes):
    assert look(zygote, pool, **changes).absent("token_influence").startswith("not-applicable")


LEFT = LOOP.replace("return x * (torch.arange(longest) < lengths[:, None])[..., None], lengths", "return x, lengths")


@pytest.mark.parametrize(
    ("pool", "changes"),
    [
        (MASKED.replace("lengths[:, None]", "lengths.sum(1)[:, None]"), False),
        ("h = h.mean(1)", True),
        ("h.masked_fill(~real, 0); h = h.sum(1)", True),  # the result is thrown away
    ],
)
def test_what_is_left_in_the_padding(zygote, pool, changes):
    script = LEFT.replace(
        "real = (torch.arange(x.shape[1]) < lengths[:, None])[..., None]", "real = lengths[..., None]"
    )
    script = script.replace("POOL", pool).replace("BIAS", "True").replace("VARIETY", "1")
    script = script.replace("GIVEN", "torch.arange(x.shape[1]) < lengths[:, None]")
    found = zygote.probe(script, steps=10, experiments=True, parts=("token_influence",))["token_influence"]
    assert (found.mask, found.padded, found.appended, found.pad) == ("Net", 10, 0, None)
    assert (found.pad_change > 0.01) == changes


RECURRENT = """self.step, self.mix = nn.Identity(), nn.GRU(D, 16, batch_first=True, bidirectional=BOTH)
        self.head = nn.Linear(32 if BOTH else 16, 1)"""
OWN_LAST = "h = h[torch.arange(B), lengths - 1]"


@pytest.mark.parametrize(("pool", "changes"), [(OWN_LAST, False), ("h = h[:, -1]", True), (MASKED, False)])
def test_a_recurrent_layer_that_reads_forward_does_not_see_what_is_behind(zygote, pool, changes):
    found = recurrent(zygote, pool, both=False)
    assert (found.recurrent, found.local_layer) == (True, "")
    assert (found.pad_change > 0.01) == changes


def test_one_that_reads_both_ways_does(zygote):
    found = recurrent(zygote, OWN_LAST, both=True)
    assert (found.recurrent, found.local_layer, found.pad_change) == (True, "GRU", None)


def recurrent(zygote, pool, both):
    start, end = LOOP.index("self.step = "), LOOP.index("    def forward")
    script = LOOP[:start] + RECURRENT.replace("BOTH", str(both)) + "\n" + LOOP[end:]
    script = script.replace("POOL", f"h = self.mix(x)[0]\n        {pool}").replace("VARIETY", "3")
    script = script.replace("GIVEN", "lengths")
    return zygote.probe(script, steps=10, experiments=True, parts=("token_influence",))["token_influence"]


@pytest.mark.parametrize(("pool", "unused"), [("h = h[:, -1]", True), (MASKED, False)])
def test_lengths_that_are_told_and_not_used(zygote, pool, unused):
    seen = look(zygote, pool, variety=1)
    if unused:
        assert seen["token_influence"].told_unused
    else:
        assert "padded to the same length" in seen.absent("token_influence")
    assert look(zygote, pool)["token_influence"].told_unused == unused
