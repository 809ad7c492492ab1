"""Whether an embedding and the output layer of its shape are one parameter."""

from __future__ import annotations

import pytest

LOOP = """
import copy
from types import SimpleNamespace
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 8)
        self.body = nn.Linear(8, 8)
        self.head = nn.Linear(8, 30, bias=False)
        BUILD
    def forward(self, ids):
        return self.head(torch.tanh(self.body(self.embed(ids))))
model = Net()
AFTER
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(5):
    ids = torch.randint(0, 30, (6, 7))
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).backward()
    optimizer.step()
"""


def pair(zygote, build="pass", after=""):
    seen = zygote.probe(LOOP.replace("BUILD", build).replace("AFTER", after), steps=4, parts=("tied_weights",))
    (found,) = seen["tied_weights"].pairs
    return found


@pytest.mark.parametrize(
    "build", ["self.head.weight = self.embed.weight", "self.head.weight.data = self.embed.weight.data"]
)
def test_one_parameter_or_one_memory(zygote, build):
    found = pair(zygote, build)
    assert (found.embedding, found.head, found.shape) == ("embed", "head", (30, 8))
    assert (found.tied, found.equal_start, found.equal_end) == (True, True, True)


def test_separate_weights(zygote):
    found = pair(zygote)
    assert (found.tied, found.declared, found.equal_start, found.equal_end) == (False, "", False, False)
    assert found.location.line == 12


def test_a_copy(zygote):
    found = pair(zygote, "self.head.weight.data.copy_(self.embed.weight.data)")
    assert (found.tied, found.equal_start, found.equal_end) == (False, True, False)


@pytest.mark.parametrize(
    ("build", "declared"),
    [
        ("self.config = SimpleNamespace(tie_word_embeddings=True)", "config.tie_word_embeddings"),
        ("self.config = {'tie_weights': True}", "config.tie_weights"),
        ("self.tied = True", "tied"),
        ("self.config = SimpleNamespace(tie_word_embeddings=False)", ""),
        ("self.tie_weights = lambda: True", ""),
    ],
)
def test_declarations(zygote, build, declared):
    assert pair(zygote, build).declared == declared


def test_a_tie_that_an_assignment_broke(zygote):
    build = "self.tied = True; self.head.weight = self.embed.weight"
    found = pair(zygote, build, "model.embed.weight = nn.Parameter(torch.randn(30, 8))")
    assert (found.tied, found.declared) == (False, "tied")


def test_models_without_such_a_pair(zygote):
    script = (
        LOOP.replace("BUILD", "pass").replace("AFTER", "").replace("nn.Linear(8, 30, bias=False)", "nn.Linear(8, 31)")
    )
    assert zygote.probe(script, steps=4, parts=("tied_weights",)).absent("tied_weights").startswith("not-applicable")


@pytest.mark.parametrize(
    "after",
    [
        "for m in (model.embed, model.head): m.weight = nn.Parameter(torch.randn(30, 8))",
        "model.embed = nn.Embedding.from_pretrained(torch.randn(30, 8), freeze=False)",
    ],
)
def test_a_tie_that_was_undone(zygote, after):
    found = pair(zygote, "self.head.weight = self.embed.weight", after)
    assert (found.tied, found.was_tied, found.equal_start, found.tie_location.line) == (False, True, False, 13)


def test_a_tie_that_was_parted_by_a_copy(zygote):
    after = "model.head.weight = nn.Parameter(model.embed.weight.detach().clone())"
    found = pair(zygote, "self.head.weight = self.embed.weight", after)
    assert (found.tied, found.was_tied, found.equal_start) == (False, True, True)
