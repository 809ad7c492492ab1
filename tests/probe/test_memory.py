"""Memory: the script's own peak, one copy of what is rewound, and bounded batches; not more."""

from __future__ import annotations

import pytest

from auditor.probe.feed import MAX_RECORDED_BYTES

MB = 2**20
# Python objects of the evidence, allocator slack, and blocks that collectors work through.
SLACK = 80 * MB

SCRIPT = """
import resource
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn({samples}, {width})
y = torch.randint(0, 10, ({samples},))
first, second, last = nn.Linear({width}, {hidden}), nn.Linear({hidden}, {hidden}), nn.Linear({hidden}, 10)
model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
state = 3 * sum(p.numel() * p.element_size() for p in model.parameters())
steps = 0
while steps < 60:
    for a, b in {batches}:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(a), b).backward()
        optimizer.step()
        steps += 1
        note(peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, state=state)
"""
LOADER = "DataLoader(TensorDataset(x, y), batch_size={batch})"
FULL = "[(x, y)]"


def peak(seen):
    assert seen.noted("peak"), seen.output
    return max(seen.noted("peak"))


@pytest.mark.parametrize(
    ("sizes", "batches", "batch_bytes"),
    [
        pytest.param({"samples": 256, "width": 1500, "hidden": 3000}, LOADER.format(batch=8), 0, id="large model"),
        pytest.param(
            {"samples": 640, "width": 150_000, "hidden": 8}, LOADER.format(batch=64), 38 * MB, id="large batches"
        ),
        pytest.param({"samples": 64, "width": 1_500_000, "hidden": 2}, FULL, 384 * MB, id="one batch beyond the bound"),
    ],
)
def test_peak_memory_is_bounded(zygote, sizes, batches, batch_bytes):
    script = SCRIPT.format(batches=batches, **sizes)
    bare = zygote.bare(script)
    seen = zygote.probe(script, steps=15, experiments=True)
    assert seen.exit_code == 0, seen.output
    kept = 0 if batch_bytes > MAX_RECORDED_BYTES else min(15 * batch_bytes, MAX_RECORDED_BYTES) + 2 * batch_bytes
    allowed = peak(bare) + bare.noted("state")[0] + kept + SLACK
    assert peak(seen) <= allowed, (
        f"{(peak(seen) - peak(bare)) / MB:.0f} MB more, {(allowed - peak(bare)) / MB:.0f} allowed"
    )


def test_a_batch_beyond_the_bound_is_said(zygote):
    script = SCRIPT.format(samples=64, width=1_500_000, hidden=2, batches=FULL)
    seen = zygote.probe(script, steps=6, experiments=True, parts=("program", "overfit"))
    assert "too large to be kept" in seen.absent("overfit")
