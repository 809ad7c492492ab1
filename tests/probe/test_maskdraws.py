"""Dropout by hand: masks that are drawn, and what they are multiplied with."""

from __future__ import annotations

import pytest
import torch

from auditor.probe.draws import DrawWatch

KEEP = 0.8
X = torch.randn(6, 5, 4)


def division():
    return X * (torch.rand(6, 1, 1) < KEEP) / KEEP


def before():
    return X.div(KEEP) * (KEEP + torch.rand((6, 1, 1), dtype=X.dtype)).floor_()


def in_place():
    return X * X.new_empty((6, 1, 1)).bernoulli_(KEEP).div_(KEEP)


def table():
    mask = torch.bernoulli(torch.full((6, 5), KEEP)).unsqueeze(-1)
    return mask.expand_as(X) * X * (1 / KEEP)


def dropped():
    return ~(torch.rand_like(X) < 1 - KEEP) * X / KEEP


def above():
    return (torch.rand_like(X) > 1 - KEEP).float() * (X / KEEP)


@pytest.mark.parametrize("drop", [division, before, in_place, table, dropped, above])
def test_dropout_by_hand(drop):
    assert _found(drop) == [True]


def hidden_inputs():  # to be filled in
    return X * (torch.rand(6, 5, 1) < KEEP)


def noise():
    return X + torch.rand_like(X) / KEEP


def latent():
    return X + torch.randn_like(X) * 0.5


def neuron():  # the share is worked out
    return torch.bernoulli(X.sigmoid()) * X / KEEP


def scaled_noise():
    return X * (1 + 0.1 * torch.rand(6, 1, 1)) / KEEP


def sampled():
    return (torch.rand_like(X) < X.sigmoid()) * X / KEEP


@pytest.mark.parametrize("draw", [hidden_inputs, noise, latent, neuron, scaled_noise, sampled])
def test_other_draws(draw):
    assert _found(draw) == [False]


def _found(call) -> list[bool]:
    with DrawWatch(None) as watch:
        call()
    return [watch.masks.is_dropout(draw) for draw in watch.draws]
