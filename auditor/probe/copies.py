"""Weights of different layers that began as copies of each other: have they parted?"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from auditor.evidence import CopiedWeights

SAMPLE = 16  # elements by which equal weights are looked for


def copied_weights(
    weights: Iterable[tuple[str, torch.Tensor, torch.Tensor]], reached: set[int]
) -> tuple[CopiedWeights, ...]:
    """Of (name, weight, its value before the first step): groups that were bit-equal then. Constants are no copies."""
    groups: dict[tuple[object, ...], list[tuple[str, torch.Tensor, torch.Tensor]]] = {}
    for each in weights:
        flat = each[2].reshape(-1)
        taken = flat[:: max(1, flat.numel() // SAMPLE)][:SAMPLE].tolist()
        groups.setdefault((tuple(each[2].shape), *taken), []).append(each)
    found = []
    for group in groups.values():
        name, weight, before = group[0]
        alike = [each for each in group[1:] if each[1] is not weight and torch.equal(each[2], before)]
        if not alike or bool((before == before.reshape(-1)[0]).all()):
            continue
        now = weight.detach().cpu()
        found.append(
            CopiedWeights(
                names=(name, *(each[0] for each in alike)),
                shape=tuple(before.shape),
                moved=_apart(now, before),
                apart=max(_apart(each[1].detach().cpu(), now) for each in alike),
                gradient_nonzero=all(id(each[1]) in reached for each in (group[0], *alike)),
            )
        )
    return tuple(found)


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Root mean square."""
    return float((one.double() - other.double()).square().mean().sqrt())
