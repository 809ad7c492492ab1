"""Lists of neighbours, padded with the index of a node: does a model that is given their mask use it?"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from auditor.probe.examination import Examination
from auditor.probe.experiments.padded_indices import declared_lists

LOOP = """
import torch
from torch import nn
torch.manual_seed(0)
N, K, D = 9, 5, 4
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.kinds = nn.Embedding(N, D)
        self.step = nn.Sequential(nn.Linear(D, 16), nn.ReLU())
        self.head = nn.Linear(16, 1)
    def forward(self, x, neighbours, real):
        x = READ
        h = self.step(x)[torch.arange(len(x))[:, None, None], neighbours]
        POOL
        return self.head(h).squeeze(-1)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(20):
    x = torch.rand(6, N, D)
    real = torch.arange(K) < torch.randint(1, K + 1, (6, N))[..., None]
    neighbours = torch.randint(0, N, (6, N, K)) * real
    loss = (model(GIVEN, neighbours, real) - x.mean(-1)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
MASKED = "h = (h * real[..., None]).sum(2) / real.sum(2)[..., None]"


def look(zygote, pool, read="x", given="x"):
    script = LOOP.replace("POOL", pool).replace("READ", read).replace("GIVEN", given)
    return zygote.probe(script, steps=5, experiments=True, parts=("token_influence",))["token_influence"]


@pytest.mark.parametrize(("pool", "changes"), [(MASKED, False), ("h = h.mean(2)", True)])
def test_lists_with_a_mask(zygote, pool, changes):
    found = look(zygote, pool)
    assert (found.mask, found.indices, found.pad, found.embedding) == ("Net", "neighbours", 0, "")
    assert found.padded > 20
    assert found.real_change > 0.01
    assert (found.pad_change > 0.01) == changes


def test_beside_the_kinds_of_nodes(zygote):
    found = look(zygote, "h = h.mean(2)", "self.kinds(x)", "(x[..., 0] * N).long()")
    assert (found.mask, found.indices, found.embedding) == ("Net", "neighbours", "kinds")
    assert found.pad_change > 0.01


class Anything(nn.Module):
    def forward(self, lists, mask):
        return lists + mask


def listed(lists, mask):
    return declared_lists(Examination(Anything(), (torch.tensor(lists), torch.tensor(mask)), {}))


LISTS, MASK = (
    [[3, 0, 2, 1], [1, 2, 0, 0], [2, 3, 0, 0], [3, 0, 0, 0]],
    [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]],
)


def test_what_is_a_padded_list():
    for mask in (MASK, (torch.tensor(MASK) == 0).tolist()):  # either way round
        found = listed(LISTS, mask)
        assert (found.name, found.pad, int(found.run.sum())) == ("lists", 0, 7)


@pytest.mark.parametrize(
    ("lists", "mask"),
    [
        ([[3, 1, 2, 1], *LISTS[1:3], [3, 2, 0, 0]], [*MASK[:3], [1, 1, 0, 0]]),  # an index of its own: a row of zeros
        ([[3, 0, 2, 1], [1, 2, 3, 0], *LISTS[2:]], MASK),  # the padding is not all alike
        (LISTS, [[1, 1, 1, 1], [1, 0, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]),  # it marks no ends
        (LISTS, [[1, 1, 0, 0]] * 4),  # of one length
        (LISTS, [[2, 2, 2, 2], [2, 2, 0, 0], [2, 2, 0, 0], [2, 0, 0, 0]]),  # no mask of yes and no
    ],
)
def test_what_is_none(lists, mask):
    assert listed(lists, mask) is None
