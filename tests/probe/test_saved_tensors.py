"""What the graph of a loss keeps is read only where that runs nothing of the script."""

from __future__ import annotations

from typing import Any

SCRIPT = """
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

torch.manual_seed(0)
block = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.LogSoftmax(1))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = block
    def forward(self, x, y):
        return checkpoint(self.pick, x, y, use_reentrant=False)
    def pick(self, x, y):
        return -self.block(x).gather(1, y[:, None]).mean()

model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(30):
    loss = model(torch.randn(16, 6), torch.randint(0, 6, (16,)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    note(loss=loss.item(), batches=block[1].num_batches_tracked.item(), mean=block[1].running_mean.tolist())
"""


def test_a_checkpointed_block_runs_no_more_often_than_without_an_audit(zygote: Any) -> None:
    seen = zygote.probe(SCRIPT, steps=30)
    assert len(seen.notes) == 29  # the last observed step ends the probe
    assert seen.notes == zygote.bare(SCRIPT).notes[:29]
