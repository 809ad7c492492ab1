"""The steps after the observed ones: what comes late is seen, what was measured before stays as it was."""

from __future__ import annotations

from typing import Any

LOOP = """
import torch
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(256, 8), torch.randint(0, 3, (256,))
model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range({steps}):
    rows = torch.randint(0, 256, (32,))
    loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
    {late}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def run(zygote: Any, late: str, *parts: str, steps: int = 900, look_on: int = 100, **options: Any) -> Any:
    return zygote.probe(
        LOOP.format(steps=steps, late=late), steps=20, parts=parts, look_on=look_on, experiments=True, **options
    )


def test_an_evaluation_after_the_observed_steps_is_seen(zygote: Any) -> None:
    late = "if step == 70: print(torch.no_grad()(model)(x[:64]).argmax(1).eq(y[:64]).float().mean())"
    seen = run(zygote, late, "modes")
    assert seen["modes"].models[0].train_mode_evaluations == 1
    assert seen["modes"].steps == 120


def test_without_looking_on_it_is_not(zygote: Any) -> None:
    late = "if step == 70: print(torch.no_grad()(model)(x[:64]).argmax(1).eq(y[:64]).float().mean())"
    seen = run(zygote, late, "modes", look_on=0)
    assert seen["modes"].models[0].evaluation_forwards == 0
    assert seen["modes"].steps == 20


def test_a_late_nan_is_found_at_its_step(zygote: Any) -> None:
    part = run(zygote, "loss = loss * (float('nan') if step == 90 else 1.0)", "nonfinite")["nonfinite"]
    assert (part.first_step, part.what, part.steps_checked) == (90, "loss", 120)
    assert len(part.losses_before) == 10


def test_what_is_measured_stays_that_of_the_observed_steps(zygote: Any) -> None:
    short = run(zygote, "pass", "trajectory", "overfit", look_on=0)
    long = run(zygote, "pass", "trajectory", "overfit")
    assert long["trajectory"] == short["trajectory"]
    assert long["overfit"].fidelity == short["overfit"].fidelity
    assert long["overfit"].arms == short["overfit"].arms


def test_a_loop_that_ends_meanwhile_leaves_the_experiments_to_a_further_start(zygote: Any) -> None:
    seen = run(zygote, "pass", "trajectory", "overfit", steps=90)
    assert "overfit" in seen.run["pending"]
    assert seen.run["loop_steps"] == 90
    assert not seen.run.get("tried")


def test_an_experiment_that_the_end_of_the_loop_would_cut_waits_for_a_start_of_its_own(zygote: Any) -> None:
    parts = ("lower_rate", "held_weights")  # 60 steps an arm, two arms each
    seen = run(zygote, "pass", *parts, steps=240, look_on=0, loop_steps=240)
    assert len(seen["lower_rate"].looks[0].control) == 60
    assert seen.run["pending"] == ["held_weights"]
    assert "another start" in next(phase["reason"] for phase in seen.run["phases"] if "hold" in phase["name"])
    alone = run(zygote, "pass", "held_weights", steps=240, look_on=0, loop_steps=240)
    assert len(alone["held_weights"].held) == 60


def test_a_dataset_is_not_read_before_the_script_is_done_with_it(zygote: Any) -> None:
    """Its own generator would be ahead, and the evaluations that are looked on at other ones than without an audit."""
    script = """
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(0)

class Noisy(Dataset):
    rng = np.random.default_rng(0)
    def __len__(self):
        return 40
    def __getitem__(self, index):
        return torch.full((4,), float(index)) + self.rng.random(), index % 2

model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
held_out = DataLoader(Noisy(), batch_size=20)
for step in range(200):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.randint(0, 2, (8,))).backward()
    optimizer.step()
    if step % 10 == 9 and step < 110:
        with torch.no_grad():
            note(seen=[float(model(x).sum()) for x, _ in held_out])
"""
    seen = zygote.probe(script, steps=20, parts=("held_out_passes",), look_on=100)
    assert seen["held_out_passes"].loaders[0].reread > 0
    assert seen.noted("seen")[:11] == zygote.bare(script).noted("seen")[:11]
