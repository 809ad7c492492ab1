"""What observation costs per step: bare and observed steps of the same model, interleaved in one process.

    python tests/benchmarks/overhead.py [--steps 120] [--threads 1]

Each model is trained twice side by side from the same weights; bare and observed steps take turns, so that whatever
else the machine does hits both. Printed per model: median seconds of a bare step, the ratio of the summed times (what a
run pays), the ratio of the medians (what an ordinary step pays) and of the sampled steps (the dear ones).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import nn

from auditor.probe.collect import sampled
from auditor.probe.probe import Probe
from auditor.probe.taps import install
from auditor.probe.taps.patching import originals
from auditor.spec import ProbeSpec, Sink

Batch = tuple[torch.Tensor, torch.Tensor]


def mlp() -> tuple[nn.Module, Batch]:
    model = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.2), nn.Linear(512, 10)
    )
    return model, (torch.randn(256, 784), torch.randint(0, 10, (256,)))


def cnn() -> tuple[nn.Module, Batch]:
    layers: list[nn.Module] = []
    width = 3
    for following in (32, 64, 64, 128):
        layers += [nn.Conv2d(width, following, 3, padding=1), nn.BatchNorm2d(following), nn.ReLU(), nn.MaxPool2d(2)]
        width = following
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 4, 10))
    return model, (torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,)))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 4)
        self.head = nn.Linear(128, 256)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.embed(tokens))).transpose(1, 2)  # type: ignore[no-any-return]


def transformer() -> tuple[nn.Module, Batch]:
    return Transformer(), (torch.randint(0, 256, (16, 64)), torch.randint(0, 256, (16, 64)))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + functional.relu(self.linear(self.norm(x)))


def thousand_layers() -> tuple[nn.Module, Batch]:
    """500 residual blocks of a norm and a linear layer: 1,000 layers, 2,000 parameter tensors."""
    model = nn.Sequential(*(Block(128) for _ in range(500)), nn.Linear(128, 10))
    return model, (torch.randn(256, 128), torch.randint(0, 10, (256,)))


MODELS: dict[str, Callable[[], tuple[nn.Module, Batch]]] = {
    "MLP": mlp,
    "CNN": cnn,
    "transformer": transformer,
    "1,000 layers": thousand_layers,
}


def measure(name: str, steps: int, device: str) -> tuple[float, float, float, float]:
    """(median bare seconds, ratio of sums, ratio of medians, ratio of the sampled steps)."""
    scratch = Path(tempfile.mkdtemp(prefix="audit-bench-"))
    spec = ProbeSpec(target=name, run_dir=str(scratch), steps=10**9, deadline=time.monotonic() + 1e6)
    probe = Probe(spec, Sink(scratch / "events.jsonl"))
    torch.manual_seed(0)
    loops = []
    with originals():
        install(probe)  # on top of torch as it came, not of an earlier probe's taps
    for _ in range(2):
        torch.manual_seed(0)
        model, (inputs, targets) = MODELS[name]()
        model.to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        loops.append((model, inputs.to(device), targets.to(device), optimizer))

    def step(which: int) -> float:
        model, inputs, targets, optimizer = loops[which]
        if device != "cpu":
            torch.cuda.synchronize()
        began = time.perf_counter()
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    bare, observed, dear_bare, dear = [], [], [], []
    probe.program.optimizers = [record for record in probe.program.optimizers if record.optimizer is loops[1][3]]
    for index in range(steps + 5):
        watched = sampled(probe.observed)
        with originals(), probe.paused():  # torch's global hooks stay, but do nothing
            plain = step(0)
        ours = step(1)
        if index < 5:
            continue
        bare.append(plain)
        observed.append(ours)
        if watched:
            dear_bare.append(plain)
            dear.append(ours)
    median = statistics.median(bare)
    return median, sum(observed) / sum(bare), statistics.median(observed) / median, sum(dear) / sum(dear_bare)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=list(MODELS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{'model':14} {'bare step':>10} {'all steps':>10} {'median':>8} {'sampled':>8}")
    for name in [options.only] if options.only else list(MODELS):
        median, whole, typical, dear = measure(name, options.steps, options.device)
        print(f"{name:14} {median * 1e3:8.2f}ms {whole:9.3f}x {typical:7.3f}x {dear:7.3f}x", flush=True)


if __name__ == "__main__":
    main()
