"""The trace names the operation that made the first NaN or infinity, and its line."""

from __future__ import annotations

import math

# Sample 100 is the odd one: its flag is 0, everyone else's is 1. It comes in step 12.
LOOP = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
data, flags = torch.randn(160, 4), torch.ones(160, 1)
flags[100] = 0.0


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 1)

    def forward(self, x, flag):
        hidden = self.body(x)
        INSIDE
        return self.head(hidden)


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
loader = DataLoader(TensorDataset(data, flags), batch_size=8)
for epoch in range(1000):
    for x, flag in loader:
        optimizer.zero_grad()
        loss = model(x, flag).pow(2).mean()
        OUTSIDE
        note(loss=loss.item())
        loss.backward()
        optimizer.step()
"""


def run(zygote, inside="pass", outside="pass", experiments=True, rate="1e-3"):
    """What was seen, the part, and the line that is marked as the culprit."""
    script = LOOP.replace("INSIDE", inside).replace("OUTSIDE", outside).replace("1e-3", rate)
    seen = zygote.probe(script, steps=20, experiments=experiments, parts=("nonfinite",))
    marked = [number for number, line in enumerate(script.splitlines(), 1) if "# here" in line]
    return seen, seen["nonfinite"], marked[0] if marked else None


def first_bad(losses):
    return next(index for index, loss in enumerate(losses) if not math.isfinite(loss))


def test_a_finite_run(zygote):
    _, part, _ = run(zygote)
    assert (part.first_step, part.steps_checked, part.what, part.traced) == (None, 20, "", False)


def test_log_of_zero_in_the_loop(zygote):
    seen, part, line = run(zygote, outside="loss = loss - torch.log(flag).mean()  # here")
    assert part.first_step == first_bad(seen.noted("loss")) == 12
    assert (part.what, part.direction, part.operation, part.traced) == ("loss", "forward", "log", True)
    assert part.location.line == line
    assert not part.input_nonfinite
    assert part.losses_before == tuple(seen.noted("loss")[2:12])


def test_division_by_zero_in_the_model_names_the_module(zygote):
    _, part, line = run(zygote, inside="hidden = hidden / flag  # here")
    assert (part.first_step, part.what, part.direction) == (12, "loss", "forward")
    assert "div" in part.operation
    assert part.location.line == line
    assert part.layer == "Net"


def test_a_square_root_at_zero_is_found_in_backward(zygote):
    seen, part, line = run(
        zygote, inside="hidden = hidden + (hidden * flag).pow(2).sum(1, keepdim=True).sqrt()  # here"
    )
    assert all(map(math.isfinite, seen.noted("loss")[:13]))
    assert (part.first_step, part.what, part.direction) == (12, "gradient", "backward")
    assert part.operation in ("SqrtBackward0", "PowBackward0")
    assert part.location.line == line


def test_a_batch_that_holds_nan(zygote):
    _, part, _ = run(zygote, inside="hidden = hidden", outside="data[100] = float('nan')")
    assert (part.first_step, part.input_nonfinite) == (12, True)


def test_observation_alone_knows_the_step(zygote):
    seen, part, _ = run(zygote, outside="loss = loss / flag.min()", experiments=False)
    assert (part.first_step, part.what, part.traced, part.operation) == (12, "loss", False, "")
    assert part.location.line == seen["nonfinite"].loss_location.line


def test_divergence_is_found_too(zygote):
    seen, part, _ = run(zygote, rate="1e12")
    assert part.first_step == first_bad(seen.noted("loss"))
    assert part.traced


SKIPPING = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
data = torch.randn(160, 4)
data[100, 2] = VALUE
model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
loader = DataLoader(TensorDataset(data, torch.randn(160, 1)), batch_size=8)
for epoch in range(1000):
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        if not torch.isfinite(loss):
            continue
        loss.backward()
        optimizer.step()
"""


def test_running_statistics_of_a_loop_that_skips_such_losses(zygote):
    seen = zygote.probe(SKIPPING.replace("VALUE", "float('nan')"), steps=20, parts=("nonfinite", "modes"))
    assert seen["nonfinite"].first_step is None
    assert seen["nonfinite"].spoilt == ("1",)
    (model,) = seen["modes"].models  # a step that was given up is no evaluation
    assert (model.evaluation_forwards, model.train_mode_evaluations, model.graph_evaluations) == (0, 0, 0)
    assert zygote.probe(SKIPPING.replace("VALUE", "0.0"), steps=20, parts=("nonfinite",))["nonfinite"].spoilt == ()
