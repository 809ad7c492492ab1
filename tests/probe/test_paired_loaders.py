"""Two loaders in one loop: which gives the inputs, which the targets, and do they draw the same samples together?"""

from __future__ import annotations

import pytest

SCRIPT = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader
torch.manual_seed(0)
x = torch.randn(96, 6)
y = x @ torch.randn(6, 3)
labels = y.argmax(1)
def loader(data, shuffle=True, seed=None):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return DataLoader(data, batch_size=16, shuffle=shuffle, generator=generator)
model = nn.Linear(6, 3)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for a, b in zip(LOADERS):
    loss = LOSS
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def probed(zygote, loaders, loss):
    script = SCRIPT.replace("LOADERS", loaders).replace("LOSS", loss)
    return zygote.probe(script, steps=6, parts=("paired_loaders",))


@pytest.mark.parametrize(
    ("loaders", "loss", "function", "together"),
    [
        ("loader(x), loader(y)", "mse_loss(model(a), b)", "mse_loss", False),
        ("loader(x), loader(y, False)", "((model(a) - b) ** 2).mean()", "pow()", False),
        ("loader(x), loader(labels)", "cross_entropy(model(a), b)", "cross_entropy", False),
        ("loader(x, seed=3), loader(y, seed=3)", "(model(a) - b).abs().mean()", "abs()", True),
        ("loader(x, False), loader(y, False)", "mse_loss(model(a), b)", "mse_loss", True),
    ],
)
def test_inputs_of_one_and_targets_of_the_other(zygote, loaders, loss, function, together):
    part = probed(zygote, loaders, loss)["paired_loaders"]
    assert (part.function, part.compared, part.steps) == (function, 96, 6)
    assert (part.apart == 0) if together else (part.apart > 80)


@pytest.mark.parametrize(
    ("loaders", "loss"),
    [
        ("loader(list(zip(x, y))), loader(x)", "mse_loss(model(a[0]), a[1]) + model(b).square().mean()"),  # two domains
        ("loader(list(zip(x, y))), loader(y)", "mse_loss(model(a[0]), a[1])"),
        ("loader(x), loader(y)", "mse_loss(model(a).mean(0), b.mean(0))"),  # moments of unpaired samples
        ("loader(x), loader(y[:48].repeat(4, 1))", "mse_loss(model(a), b)"),
    ],
)
def test_what_is_not_paired_so(zygote, loaders, loss):
    assert probed(zygote, loaders, loss).absent("paired_loaders").startswith("not-applicable")
