"""Of what targets differ in, how much a loss function was told."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from auditor.probe.explained import explained
from auditor.probe.losscall import LossCall

GENERATOR = torch.Generator().manual_seed(0)
TARGET = torch.rand(16, 6, generator=GENERATOR)


def told(name, given, target, **options):
    function = getattr(functional, name)
    call = LossCall.bind(name, function, (given, target), options, function(given, target, **options))
    found = explained(call)
    return None if found is None else float(found)


@pytest.mark.parametrize("name", ["mse_loss", "binary_cross_entropy"])
def test_the_constant_answer_tells_nothing_and_the_exact_one_all(name):
    constant = TARGET.mean(0).expand(16, 6)
    assert told(name, constant, TARGET) == pytest.approx(0.0, abs=1e-5)
    assert told(name, TARGET, TARGET, reduction="sum") == pytest.approx(1.0, abs=1e-5)
    assert 0.2 < told(name, (constant + TARGET) / 2, TARGET) < 0.95


def test_logits_are_read_as_such():
    assert told("binary_cross_entropy_with_logits", TARGET.logit(), TARGET) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "given", "target"),
    [
        ("mse_loss", TARGET[:, :1], TARGET[:, :1]),  # one number a sample
        ("mse_loss", TARGET[:4], TARGET[:4]),
        ("cross_entropy", TARGET, torch.zeros(16, dtype=torch.long)),
        ("l1_loss", TARGET, TARGET),
    ],
)
def test_other_losses_are_left_alone(name, given, target):
    assert told(name, given, target) is None
