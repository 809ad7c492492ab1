"""What a whole audit costs, against the script alone for as many optimizer steps.

    python tests/benchmarks/whole_audit.py [--runs 3] [--threads 1]

Runs take turns: the audit of an endless training script, then the script by itself until it has taken as many optimizer
steps as the audit did, observed and replayed together. Printed: both wall times, each process's start (import of torch
and the data) included, and their ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
images, labels = torch.randn(2000, 3, 32, 32), torch.randint(0, 10, (2000,))
images += 0.2 * labels.float().view(-1, 1, 1, 1)
loader = DataLoader(TensorDataset(images[:1600], labels[:1600]), batch_size=32, shuffle=True)
held_out = DataLoader(TensorDataset(images[1600:], labels[1600:]), batch_size=200)
model = nn.Sequential(
    nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(4),
    nn.Flatten(), nn.Linear(1024, 10),
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(10**6):
    model.train()
    for image, label in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(image), label).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        print(epoch, sum((model(image).argmax(1) == label).sum().item() for image, label in held_out))
"""

# Ends the bare script after its N-th optimizer step.
ALONE = """
import os, runpy, sys
from torch.optim.optimizer import register_optimizer_step_post_hook
left = int(sys.argv[2])
def count(*_):
    global left
    left -= 1
    if not left:
        os._exit(0)
register_optimizer_step_post_hook(count)
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def seconds(command: list[str], folder: Path, threads: int) -> tuple[float, str]:
    began = time.perf_counter()
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return time.perf_counter() - began, ended.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory(prefix="audit-bench-") as name:
        folder = Path(name)
        (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
        (folder / "alone.py").write_text(ALONE, encoding="utf-8")
        audit = [sys.executable, "-m", "auditor", "run", "-q", "--format", "json", "train.py"]
        for _ in range(options.runs):
            whole, printed = seconds(audit, folder, options.threads)
            steps = sum(phase["steps"] for phase in json.loads(printed)["run"]["phases"])
            alone, _ = seconds([sys.executable, "alone.py", "train.py", str(steps)], folder, options.threads)
            ratios.append(whole / alone)
            print(f"{steps} steps: audit {whole:.1f} s, script alone {alone:.1f} s, ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
