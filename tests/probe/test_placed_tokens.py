"""Whether outputs depend on the order of the tokens, and what replays gain from a code of their places."""

from __future__ import annotations

import pytest
import torch

from auditor.probe.experiments.placed_tokens import sinusoids

LOOP = """
import torch
from torch import nn
torch.manual_seed(0)
B, T, V, D = 16, 10, 12, 16
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.place = nn.Parameter(torch.PLACES(T, D))
        self.mix = MIX
        self.head = nn.Linear(D, 2)
    def forward(self, ids):
        h = self.embed(ids)
        FORWARD
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
generator = torch.Generator().manual_seed(1)
first = torch.arange(B) % 2
def batch():
    ids = torch.randint(2, V, (B, T), generator=generator)
    IDS
    return ids, first
for ids, label in torch.utils.data.DataLoader([batch() for _ in range(60)] * 60, batch_size=None):
    loss = nn.functional.cross_entropy(model(ids).reshape(B, -1, 2)[:, -1], label)
    optimizer.zero_grad()
    loss.backward()
    note(loss=loss.item())
    optimizer.step()
"""
ATTENTION = "nn.TransformerEncoderLayer(D, 2, 32, dropout=0.0, batch_first=True)"
MEAN = "return self.head(self.mix(h).mean(1))"
# Tokens 0 and 1 are in every sample; which of them comes first is its label.
ORDERED = "ids[:, 3], ids[:, 6] = first, 1 - first"


def look(zygote, forward=MEAN, mix=ATTENTION, places="zeros", ids=ORDERED, steps=40):
    script = LOOP.replace("FORWARD", forward).replace("MIX", mix).replace("PLACES", places).replace("IDS", ids)
    return zygote.probe(script, steps=steps, experiments=True, parts=("placed_tokens",))


def test_order_that_is_lost_and_matters(zygote):
    part = look(zygote)["placed_tokens"]
    assert (part.embedding, part.shape) == ("embed", (16, 10))
    assert part.change < 1e-5 < 1e-3 < part.mixing
    assert part.exchanged > 60
    assert len(part.looks) == 2
    for each in part.looks:
        assert each.control[-1] > 0.6
        assert each.treated[-1] < 0.3


def test_order_that_is_lost_and_does_not_matter(zygote):
    counted = "ids[:, 3:6] = torch.where(first[:, None] == 1, torch.arange(3), ids[:, 3:6])"
    part = look(zygote, ids=counted)["placed_tokens"]
    assert part.looks[0].treated[-1] > 0.5 * part.looks[0].control[-1]


@pytest.mark.parametrize(
    ("forward", "mix", "places"),
    [
        ("return self.head(self.mix(h + self.place).mean(1))", ATTENTION, "randn"),
        ("return self.head(self.mix(h + self.place).mean(1))", ATTENTION, "zeros"),  # learned from nothing
        ("return self.head(self.mix(h)[0][:, -1])", "nn.GRU(D, D, batch_first=True)", "zeros"),
        (
            "return self.head(self.mix(h.mT).mean(2))",
            "nn.Sequential(nn.Conv1d(D, D, 3, padding=1), nn.ReLU())",
            "zeros",
        ),
        (
            "return self.head(self.mix(h, nn.Transformer.generate_square_subsequent_mask(T), is_causal=True).mean(1))",
            ATTENTION,
            "zeros",
        ),
        ("return self.head(self.mix(h))[:, -1]", "nn.Linear(D, D)", "zeros"),  # reads one token
    ],
)
def test_models_that_see_the_order(zygote, forward, mix, places):
    assert "not-applicable" in look(zygote, forward, mix, places, steps=10).absent("placed_tokens")


def test_values_of_fields_are_no_tokens(zygote):
    columns = "ids[:] = torch.arange(T) + ids % 2"
    assert "not-applicable" in look(zygote, ids=columns, steps=10).absent("placed_tokens")


def test_outputs_go_with_their_tokens_and_padding_stays_where_it_is(zygote):
    """One output a token comes along when the token does. Each row ends in padding that a mask of the ids, made before
    the embedding, takes out of the attention."""
    padded = "ids[:] = torch.where(torch.arange(T) < 7 + torch.arange(B)[:, None] % 3, ids, 0)"
    masked = "return self.head(self.mix(h, src_key_padding_mask=ids == 0) * (ids != 0)[..., None])"
    part = look(zygote, masked, ids=padded, steps=10)["placed_tokens"]
    assert part.change < 1e-5 < part.mixing


def test_sinusoids():
    code = sinusoids(50, 7)
    assert code.shape == (50, 7)
    assert torch.equal(code[0], torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0], dtype=code.dtype))
    assert torch.cdist(code, code)[~torch.eye(50, dtype=torch.bool)].min() > 0.5
