"""Which pairs of image and mask were flipped or turned apart, and what a loss sums beside an average."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as functional

from auditor.probe.lossgraph import summed_beside_mean
from auditor.probe.tornpairs import torn

IMAGE = torch.arange(48.0).reshape(3, 4, 4)
MASK = (torch.arange(16).reshape(1, 4, 4) % 5 == 0).float()


def flipped(image: bool, mask: bool) -> tuple[torch.Tensor, torch.Tensor]:
    return (IMAGE.flip(-1) if image else IMAGE), (MASK.flip(-1) if mask else MASK)


def test_both_flipped_are_no_fault():
    assert torn([flipped(False, False), flipped(True, True)]) == (1, 0)


@pytest.mark.parametrize("one", [(True, False), (False, True)])
def test_one_flipped_alone_is(one):
    assert torn([flipped(False, False), flipped(*one)]) == (1, 1)


@pytest.mark.parametrize(
    "items",
    [
        [(IMAGE, torch.ones(1, 4, 4)), (IMAGE.flip(-1), torch.ones(1, 4, 4))],  # a mask that every flip leaves alone
        [(IMAGE, MASK), (IMAGE + 0.1, MASK)],  # brightness
        [(IMAGE, torch.tensor(3)), (IMAGE.flip(-1), torch.tensor(3))],  # one label for the whole image
        [(torch.zeros(3, 4, 4), MASK), (torch.zeros(3, 4, 4), MASK.flip(-1))],
        [(IMAGE, IMAGE), (IMAGE.flip(-1), IMAGE)],  # two views of one image
        [(MASK, MASK), (MASK.flip(-1), MASK)],
        [],
        [None, "text"],
    ],
)
def test_what_shows_nothing(items):
    assert torn(items)[1] == 0


def variational(recon: str, kld: float) -> float:
    x = torch.rand(10, 8)
    out, mu = torch.rand(10, 8, requires_grad=True), torch.rand(10, 3, requires_grad=True)
    data = functional.binary_cross_entropy(out, x, reduction=recon)
    return summed_beside_mean((data - kld * torch.sum(1 + mu - mu.exp())).grad_fn)


def test_a_sum_over_the_batch_beside_an_average():
    assert variational("mean", 0.5) == pytest.approx(40.0)
    assert variational("mean", 0.005) == pytest.approx(0.4)
    assert variational("sum", 0.5) == 0.0
