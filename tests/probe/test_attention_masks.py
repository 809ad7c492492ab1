"""Masks put into calls that have none: what is hidden is hidden, and nothing else changes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from auditor.probe.callchange import ChangedCalls
from auditor.probe.remedies.attention import causal, without_padding

BATCH, LENGTH, WIDTH = 3, 6, 8


class ByHand(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x, mask=None):
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(-2, -1) / math.sqrt(WIDTH)
        if mask is not None:
            scores = scores.masked_fill(mask, -math.inf)
        return functional.softmax(scores, dim=-1) @ v


class DotProduct(ByHand):
    def forward(self, x, mask=None):
        q, k, v = (t[:, None] for t in self.qkv(x).chunk(3, -1))
        seen = ~(mask if mask.dim() == 2 else mask[:, None]) if mask is not None else None
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)[:, 0]


class MultiHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x, mask=None):
        if mask is None:
            return self.attention(x, x, x)[0]
        if mask.dim() == 2:
            return self.attention(x, x, x, attn_mask=mask)[0]
        return self.attention(x, x, x, key_padding_mask=mask[:, 0])[0]


MODELS = [ByHand, DotProduct, MultiHead]
LATER = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
RUN = torch.zeros(BATCH, LENGTH, dtype=torch.bool)
RUN[0, 4:], RUN[1, 2:] = True, True


def built(kind):
    torch.manual_seed(0)
    model, x = kind(), torch.randn(BATCH, LENGTH, WIDTH)
    return model.train(), x


@pytest.mark.parametrize("kind", MODELS)
def test_attention_becomes_causal(kind):
    model, x = built(kind)
    with ChangedCalls(causal, None):
        masked = model(x)
    assert torch.allclose(masked, model(x, LATER), atol=1e-6)
    assert not torch.allclose(masked, model(x), atol=1e-3)


@pytest.mark.parametrize("kind", MODELS)
def test_padding_is_hidden(kind):
    model, x = built(kind)
    with ChangedCalls(without_padding({LENGTH: RUN}), None):
        masked = model(x)
    assert torch.allclose(masked, model(x, RUN[:, None, :]), atol=1e-6)
    assert not torch.allclose(masked, model(x), atol=1e-3)


@pytest.mark.parametrize("kind", MODELS)
def test_a_mask_that_is_there_stays(kind):
    model, x = built(kind)
    with ChangedCalls(causal, None):
        both = model(x, LATER)
    assert torch.allclose(both, model(x, LATER), atol=1e-6)


@pytest.mark.parametrize("mask", [LATER, torch.zeros(LENGTH, LENGTH).masked_fill(LATER, -math.inf)])
def test_attention_with_a_mask_of_its_own_gets_both(mask):
    model, x = built(MultiHead)
    with ChangedCalls(without_padding({LENGTH: RUN}), None):
        masked = model(x, mask)
    assert torch.allclose(masked, model.attention(x, x, x, attn_mask=LATER, key_padding_mask=RUN)[0], atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        nn.Conv1d(WIDTH, 4, 3, padding=1),
        nn.Conv1d(WIDTH, 4, 5, padding="same"),
        nn.Conv1d(WIDTH, 4, 3, padding=2, dilation=2),
        nn.Sequential(nn.ConstantPad1d((0, 0), 0.0), nn.Conv1d(WIDTH, 4, 3, padding=1)),
    ],
)
def test_convolutions_become_causal(model):
    x = torch.randn(BATCH, WIDTH, LENGTH)
    other = x.clone()
    other[..., 3:] = torch.randn(BATCH, WIDTH, LENGTH - 3)
    with ChangedCalls(causal, None):
        assert torch.equal(model(x)[..., :3], model(other)[..., :3])
        assert model(x).shape == (BATCH, 4, LENGTH)
    assert not torch.equal(model(x)[..., :3], model(other)[..., :3])


def test_padding_by_hand_goes_to_the_left():
    x = torch.randn(BATCH, WIDTH, LENGTH)
    with ChangedCalls(causal, None):
        assert torch.equal(functional.pad(x, (2, 2)), torch.cat([torch.zeros(BATCH, WIDTH, 4), x], dim=-1))
        assert functional.pad(x, (0, 2)).shape[-1] == LENGTH + 2


def test_strided_and_pointwise_convolutions_stay():
    x = torch.randn(BATCH, WIDTH, LENGTH)
    for model in (nn.Conv1d(WIDTH, 4, 3, stride=2, padding=1), nn.Conv1d(WIDTH, 4, 1)):
        with ChangedCalls(causal, None):
            changed = model(x)
        assert torch.equal(changed, model(x))


@pytest.mark.parametrize("pool", ["mean", "sum", "amax"])
def test_pooling_leaves_padding_out(pool):
    x = torch.randn(BATCH, LENGTH, WIDTH)
    with ChangedCalls(without_padding({LENGTH: RUN}), None):
        pooled = getattr(x, pool)(dim=1)
    expected = torch.stack([getattr(x[row, ~RUN[row]], pool)(dim=0) for row in range(BATCH)])
    assert torch.allclose(pooled, expected, atol=1e-6)


def test_what_is_over_another_axis_stays():
    x = torch.randn(BATCH, LENGTH, WIDTH)
    with ChangedCalls(without_padding({LENGTH: RUN}), None):
        assert torch.equal(x.mean(dim=2), x.sum(2) / WIDTH) or torch.allclose(x.mean(dim=2), x.sum(2) / WIDTH)
        assert x.mean().dim() == 0
