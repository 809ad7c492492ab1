"""Training in processes that the script starts: not followed, but said, and nothing of it is left behind."""

from __future__ import annotations

import pytest

WORK = """
import os, sys, torch

def train(rank, steps):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 3)).pow(2).mean().backward()
        optimizer.step()
    torch.save(model.state_dict(), f"model{rank}.pt")
"""
STARTS = {
    "forked": """
import multiprocessing
if __name__ == "__main__":
    process = multiprocessing.get_context("fork").Process(target=train, args=(0, 20))
    process.start(); process.join()
    print("read back", sorted(torch.load("model0.pt")))
""",
    "spawned": """
import torch.multiprocessing
if __name__ == "__main__":
    torch.multiprocessing.spawn(train, args=(20,), nprocs=1)
    print("read back", sorted(torch.load("model0.pt")))
""",
}


@pytest.mark.parametrize("how", STARTS)
def test_training_in_another_process_is_said(shell, how):
    ended = shell.run(WORK + STARTS[how])
    assert (ended.code, ended.status) == (5, "nothing-to-audit"), ended.err
    assert "another process" in ended.err
    assert ended.audit["run"]["elsewhere"].endswith("train.py:10")
    assert "read back ['bias', 'weight']" in (shell.folder / ".audit/output.log").read_text()
    assert ended.audit["run"]["diverted"] == [str(shell.folder / "model0.pt")]
    assert not (shell.folder / "model0.pt").exists()


def test_endless_training_in_another_process_is_not_waited_for(shell):
    script = """
import multiprocessing
if __name__ == "__main__":
    process = multiprocessing.get_context("fork").Process(target=train, args=(0, 10**9))
    process.start(); process.join()
"""
    ended = shell.run(WORK + script, options=("--max-time", "400"))
    assert (ended.code, ended.status) == (5, "nothing-to-audit")
    assert ended.audit["run"]["seconds"] < 200
