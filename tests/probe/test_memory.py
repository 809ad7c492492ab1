"""Memory: the script's own peak, one copy of what is rewound, and bounded batches; not more."""

from __future__ import annotations

import pytest

from auditor.evidence import part_types

from .conftest import Zygote

MB = 2**20
# Blocks that collectors work through, pages that a forked process copies, and what the experiments hold: which of them
# run, and how far, depends on the time that each gets, and the peak with it. On a busy machine it differs by 100 MB
# from one run to the next. What is bounded here would take 480 MB and more without the bound.
SLACK = 160  # MB

SCRIPT = """
import resource
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(0)
x = torch.randn({samples}, {width})
y = torch.randint(0, 10, ({samples},))


class Again(Dataset):
    def __len__(self):
        return 10_000

    def __getitem__(self, index):
        return x[index % {samples}], y[index % {samples}]


first, second, last = nn.Linear({width}, {hidden}), nn.Linear({hidden}, {hidden}), nn.Linear({hidden}, 10)
model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
state = 3 * sum(p.numel() * p.element_size() for p in model.parameters())
steps = 0
while steps < 70:
    for a, b in {batches}:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(a), b).backward()
        optimizer.step()
        steps += 1
        if steps > 70:
            break
        note(peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, state=state)
"""
LOADER = "DataLoader(Again(), batch_size={batch})"
FULL = "[(x, y)]"
STEPS = 30
# Replays over hundreds of steps hold no more than the others do.
PARTS = tuple(part_types().keys() - {"run", "trials", "lower_rate", "higher_rate", "rate_ahead", "label_control"})


@pytest.fixture(scope="module")
def strict_zygote(tmp_path_factory):
    """Large blocks go back to the system when they are freed. By default glibc keeps some for later, and how many
    depends on what is allocated in between: that is not what is measured here."""
    process = Zygote(tmp_path_factory.mktemp("memory"), MALLOC_MMAP_THRESHOLD_=str(4 * MB))
    yield process
    process.close()


def peak(seen):
    assert seen.noted("peak"), seen.output
    return max(seen.noted("peak"))


@pytest.mark.parametrize(
    ("sizes", "batches", "batch", "bound"),
    [
        pytest.param({"samples": 256, "width": 1500, "hidden": 3000}, LOADER.format(batch=8), 0, 256, id="large model"),
        pytest.param(
            {"samples": 16, "width": 250_000, "hidden": 4}, LOADER.format(batch=16), 16, 64, id="large batches"
        ),
        pytest.param({"samples": 64, "width": 600_000, "hidden": 2}, FULL, 154, 128, id="one batch beyond the bound"),
    ],
)
def test_peak_memory_is_bounded(strict_zygote, sizes, batches, batch, bound):
    """`batch` and `bound` in MB. Without the bound, thirty batches of 16 MB would be kept."""
    script = SCRIPT.format(batches=batches, **sizes)
    bare = strict_zygote.bare(script)
    seen = strict_zygote.probe(script, steps=STEPS, experiments=True, parts=PARTS, batch_memory=bound)
    assert seen.exit_code == 0, seen.output
    more_copies = 4 * batch  # two on their way, two changed for an experiment
    kept = 0 if batch > bound else min(STEPS * batch, bound) + more_copies
    more = (peak(seen) - peak(bare) - bare.noted("state")[0]) / MB
    assert more <= kept + SLACK, f"{more:.0f} MB more than one copy of the state; {kept} of batches are allowed"


def test_a_batch_beyond_the_bound_is_said(zygote):
    script = SCRIPT.format(samples=64, width=20_000, hidden=2, batches=FULL)
    seen = zygote.probe(script, steps=6, experiments=True, parts=("program", "overfit"), batch_memory=4)
    assert "a batch of 5 MB is too large to be kept" in seen.absent("overfit")
