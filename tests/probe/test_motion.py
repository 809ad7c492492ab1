"""What the updates do to each parameter."""

from __future__ import annotations

import pytest

START = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
"""

LOOP = """
for step in range(12):
    optimizer.zero_grad()
    model(torch.randn(8, 4)).pow(2).mean().backward()
    # before
    optimizer.step()
    # after
"""


def motion(zygote, setup, loop=LOOP, start=START):
    part = zygote.probe(start + setup + loop)["motion"]
    return part, {each.name: each for each in part.parameters}


def test_ordinary_training(zygote):
    part, seen = motion(zygote, "optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)")
    assert part.norm_steps == (0, 4, 8)
    assert (part.total, part.graded) == (4, 4)
    assert list(seen) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    weight = seen["0.weight"]
    assert (weight.kind, weight.shape, weight.optimizer, weight.graded_updates) == ("Linear", (6, 4), "AdamW", 12)
    assert (weight.moved, weight.moved_within, weight.rate, weight.weight_decay) == (True, True, 0.01, 0.01)
    assert len(weight.norms) == 3
    assert seen["0.bias"].norms == ()


def test_norms_are_those_of_the_weights(zygote):
    loop = LOOP.replace("# after", "note(norm=model[0].weight.norm().item())")
    seen = zygote.probe(START + "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)" + loop)
    expected = seen.noted("norm")
    found = next(each for each in seen["motion"].parameters if each.name == "0.weight")
    assert found.norms == pytest.approx([expected[step] for step in (0, 4, 8)], rel=1e-4)


def test_a_step_that_changes_nothing(zygote):
    setup = """
class Lazy(torch.optim.Optimizer):
    def __init__(self, params): super().__init__(params, {"lr": 0.1})
    @torch.no_grad()
    def step(self):
        for p in self.param_groups[0]["params"]: p.add(p.grad, alpha=-0.1)
optimizer = Lazy(model.parameters())
"""
    _, seen = motion(zygote, setup)
    assert all((each.moved, each.moved_within, each.graded_updates) == (False, False, 12) for each in seen.values())


def test_a_group_with_rate_zero_is_not_expected_to_move(zygote):
    setup = """
optimizer = torch.optim.SGD([{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}], lr=0.1)
"""
    _, seen = motion(zygote, setup)
    assert (seen["0.weight"].graded_updates, seen["0.weight"].moved) == (0, False)
    assert (seen["2.weight"].graded_updates, seen["2.weight"].moved) == (12, True)


def test_what_the_loop_sets_back_moved_within(zygote):
    loop = LOOP.replace("# after", "model[0].weight.data.copy_(kept)")
    _, seen = motion(
        zygote, "kept = model[0].weight.detach().clone(); optimizer = torch.optim.SGD(model.parameters(), lr=0.1)", loop
    )
    assert (seen["0.weight"].moved, seen["0.weight"].moved_within) == (False, True)


EMBEDDING = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Embedding(10, 3), nn.Flatten(), nn.Linear(12, 2))
"""
TOKENS = LOOP.replace("torch.randn(8, 4)", "torch.randint(0, 9, (8, 4))")


def test_rows_masked_by_hand_and_moved_by_the_decay(zygote):
    loop = TOKENS.replace("# before", "model[0].weight.grad[:6] = 0")
    _, seen = motion(zygote, "optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)", loop, EMBEDDING)
    weight = seen["0.weight"]
    assert (weight.masked, weight.masked_moved, weight.masked_rows) == (18, 18, 6)
    assert 0 < weight.drift < 0.01
    assert seen["2.weight"].masked == 0


def test_masked_rows_that_stay(zygote):
    loop = TOKENS.replace("# before", "model[0].weight.grad[:6] = 0")
    setup = "optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)"
    _, seen = motion(zygote, setup, loop, EMBEDDING)
    assert (seen["0.weight"].masked, seen["0.weight"].masked_moved) == (18, 0)


def test_tokens_that_do_not_occur_are_not_masked(zygote):
    setup = "optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)"
    _, seen = motion(zygote, setup, TOKENS.replace("0, 9", "0, 4"), EMBEDDING)
    assert seen["0.weight"].masked == 0


def test_weights_before_a_norm_have_no_scale(zygote):
    start = START.replace("nn.Tanh()", "nn.BatchNorm1d(6)")
    loop = LOOP.replace("range(12)", "range(32)").replace(".pow(2)", ".sub(torch.ones(2)).pow(4)")
    _, seen = motion(zygote, "optimizer = torch.optim.SGD(model.parameters(), lr=0.01)", loop, start)
    assert seen["0.weight"].scale_invariant
    assert not seen["2.weight"].scale_invariant


def test_a_penalty_with_the_wrong_sign_drives_weights_outwards(zygote):
    loop = LOOP.replace(".pow(2).mean()", ".mul(0).sum()").replace(
        ".backward()", ".sub(model[0].weight.pow(2).sum()).backward()"
    )
    _, seen = motion(zygote, "optimizer = torch.optim.SGD(model.parameters(), lr=0.01)", loop)
    assert seen["0.weight"].outward == pytest.approx(1.0, abs=1e-4)


def test_closures_and_updates_by_hand(zygote):
    closure = """
optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
def closure():
    optimizer.zero_grad()
    loss = model(torch.ones(8, 4)).pow(2).mean()
    loss.backward()
    return loss
for step in range(5):
    optimizer.step(closure)
"""
    _, seen = motion(zygote, "", closure)
    assert all(each.moved and each.moved_within for each in seen.values())
    by_hand = """
for step in range(4):
    model(torch.randn(8, 4)).pow(2).mean().backward()
    with torch.no_grad():
        for p in model.parameters(): p -= 0.1 * p.grad; p.grad = None
"""
    assert "without a torch optimizer" in zygote.probe(START + by_hand).absent("motion")


def test_weights_that_are_put_back_after_each_step(zygote):
    setup = """
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
kept = {name: value.clone() for name, value in model.state_dict().items()}
"""
    loop = LOOP.replace("range(12)", "range(30)").replace("# after", "model.load_state_dict(kept)")
    _, seen = motion(zygote, setup, loop)
    assert all(each.returns and each.moved_within for each in seen.values())


def test_updates_at_a_rate_of_zero(zygote):
    setup = """
groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}]
optimizer = torch.optim.SGD(groups, lr=0.1)
"""
    _, seen = motion(zygote, setup)
    assert {name: each.idle_updates for name, each in seen.items()} == {
        "0.weight": 12,
        "0.bias": 12,
        "2.weight": 0,
        "2.bias": 0,
    }
    assert not any(each.returns and each.moved_within for each in seen.values())


LATE = """
import torch
from torch import nn
torch.manual_seed(0)
table = nn.Embedding(6, 3)
head = nn.Linear(3, 2)
model = nn.Sequential(table, head)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(40):
    if step == 20:
        optimizer = torch.optim.AdamW(table.parameters(), lr=0.1, weight_decay=DECAY)
    optimizer.zero_grad()
    model(torch.randint(0, 6, (32,))).pow(2).mean().backward()
    if step >= 20:
        table.weight.grad[:4] = 0.0
    optimizer.step()
"""


@pytest.mark.parametrize(("decay", "moved"), [("0.1", 12), ("0.0", 0)])
def test_masks_of_an_optimizer_that_is_built_later(zygote, decay, moved):
    seen = zygote.probe(LATE.replace("DECAY", decay), steps=8, look_on=32)["motion"]
    [masked] = [each for each in seen.parameters if each.masked]
    assert (masked.masked, masked.masked_moved, masked.masked_rows, masked.since) == (12, moved, 4, 20)
