"""Cross entropies by hand: along which axis the table of log-probabilities is normalised."""

from __future__ import annotations

import pytest
import torch

from auditor.probe.pickedclass import picked_class

LABELS = torch.tensor([0, 1, 2, 0, 1])
ROWS = torch.arange(5)


def by_hand(z, axis):
    z = z - z.max(dim=axis, keepdim=True).values
    return z - z.exp().sum(dim=axis, keepdim=True).log()


NORMALISED = {
    "by hand": by_hand,
    "logsumexp": lambda z, axis: z - torch.logsumexp(z, axis, keepdim=True),
    "log_softmax": lambda z, axis: z.log_softmax(axis),
    "softmax": lambda z, axis: (z.softmax(axis) + 1e-8).log(),
    "divided": lambda z, axis: (z.exp() / z.exp().sum(axis, keepdim=True)).clamp(min=1e-9).log(),
}


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", NORMALISED)
def test_the_axis_of_the_sum(name, axis):
    table = NORMALISED[name](torch.randn(5, 3, requires_grad=True), axis)
    for loss in (-table[ROWS, LABELS].mean(), -table.gather(1, LABELS[:, None]).squeeze(1).sum() / 5):
        found = picked_class(loss.grad_fn)
        assert (found.shape, found.normalised, found.classes) == ((5, 3), axis, 1)


def test_classes_in_front():
    table = torch.randn(3, 5, requires_grad=True).log_softmax(0)
    found = picked_class((-table[LABELS, ROWS].mean()).grad_fn)
    assert (found.normalised, found.classes) == (0, 0)


@pytest.mark.parametrize(
    "loss",
    [
        lambda z: z[ROWS, LABELS].mean(),  # nothing is normalised
        lambda z: z.log_softmax(0)[LABELS].mean(),  # whole rows
        lambda z: z.log_softmax(0).mean(),
        lambda z: (z - z.sum(0)).pow(2)[ROWS, LABELS].mean(),
    ],
)
def test_other_losses(loss):
    assert picked_class(loss(torch.randn(5, 3, requires_grad=True)).grad_fn) is None
