"""Whether gradients are cleared, told from the gradients: whatever way a loop does it, or forgets to."""

from __future__ import annotations

import numpy as np
import pytest

approx = pytest.approx
LOOP = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(6):
    BEFORE
    loss = model(torch.randn(8, 3)).pow(2).mean()
    CLEAR
    left = sum(p.grad.pow(2).sum().item() for p in model.parameters() if p.grad is not None) ** 0.5
    loss.backward()
    used = sum(p.grad.pow(2).sum().item() for p in model.parameters()) ** 0.5
    note(left=left, used=used)
    optimizer.step()
    AFTER
"""


def loop(before="pass", clear="pass", after="pass"):
    return LOOP.replace("BEFORE", before).replace("CLEAR", clear).replace("AFTER", after)


@pytest.mark.parametrize(
    "statement",
    [
        "optimizer.zero_grad()",
        "optimizer.zero_grad(set_to_none=False)",
        "model.zero_grad()",
        "for p in model.parameters(): p.grad = None",
        "[p.grad.zero_() for p in model.parameters() if p.grad is not None]",
        "[p.grad.data.mul_(0) for p in model.parameters() if p.grad is not None]",
    ],
)
@pytest.mark.parametrize("place", ["before", "clear", "after"])
def test_cleared_gradients_are_clean(zygote, statement, place):
    [reset] = zygote.probe(loop(**{place: statement}))["gradient_resets"].optimizers
    assert (reset.optimizer, reset.steps_checked, reset.stale_steps) == ("SGD", 5, 0)
    assert reset.stale_norms == (0.0,) * 5


def test_gradients_never_cleared_are_stale(zygote):
    seen = zygote.probe(loop())
    [reset] = seen["gradient_resets"].optimizers
    assert (reset.steps_checked, reset.stale_steps, reset.zero_grad_calls) == (5, 5, 0)
    assert reset.stale_norms == approx(seen.noted("left")[1:], rel=1e-5)
    assert reset.grad_norms == approx(seen.noted("used")[1:], rel=1e-5)
    assert (reset.backward_location.line, reset.step_location.line) == (11, 14)


def test_gradients_cleared_between_backward_and_step_are_still_clean_of_old_ones(zygote):
    """A useless loop, but no stale gradient is ever used twice."""
    [reset] = zygote.probe(loop(after="note(x=1)", clear="model.zero_grad(); note(y=1)"))["gradient_resets"].optimizers
    assert (reset.stale_steps, reset.zero_grad_calls) == (0, 6)


def test_cleared_every_other_step(zygote):
    [reset] = zygote.probe(loop(before="step % 2 or optimizer.zero_grad()"))["gradient_resets"].optimizers
    assert np.array(reset.stale_norms).astype(bool).tolist() == [True, False, True, False, True]
    assert reset.stale_steps == 3


def test_zero_grad_on_half_of_the_weights(zygote):
    """What the optimizer uses again is stale, even if the rest is not."""
    [reset] = zygote.probe(loop(before="model.bias.grad = None"))["gradient_resets"].optimizers
    assert reset.stale_steps == 5


@pytest.mark.parametrize(("clear", "stale"), [("optimizer.zero_grad()", 0), ("pass", 4)])
def test_accumulation_is_no_stale_gradient(zygote, clear, stale):
    script = f"""
import torch
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for micro in range(20):
    (model(torch.randn(8, 3)).pow(2).mean() / 4).backward()
    if micro % 4 == 3:
        optimizer.step()
        {clear}
"""
    [reset] = zygote.probe(script)["gradient_resets"].optimizers
    assert (reset.steps_checked, reset.stale_steps) == (4, stale)


GAN = """
import torch
torch.manual_seed(0)
bce = torch.nn.functional.binary_cross_entropy_with_logits
G, D = torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)
g = torch.optim.Adam(G.parameters(), lr=0.01)
d = torch.optim.SGD(D.parameters(), lr=0.01)
one, zero = torch.ones(8, 1), torch.zeros(8, 1)
for step in range(6):
    d.zero_grad()
    fake = G(torch.randn(8, 2))
    (bce(D(torch.randn(8, 3)), one) + bce(D(fake.detach()), zero)).backward()
    d.step()
    CLEAR
    bce(D(fake), one).backward()
    g.step()
"""


def test_two_optimizers_that_take_turns(zygote):
    """The generator's backward leaves gradients in the discriminator, which clears them before its own turn."""
    resets = zygote.probe(GAN.replace("CLEAR", "g.zero_grad()"))["gradient_resets"].optimizers
    assert {reset.optimizer: reset.stale_steps for reset in resets} == {"SGD": 0, "Adam": 0}


def test_one_of_two_optimizers_forgets(zygote):
    resets = zygote.probe(GAN.replace("CLEAR", "pass"))["gradient_resets"].optimizers
    stale = {reset.optimizer: reset.stale_steps for reset in resets}
    assert stale["SGD"] == 0
    assert stale["Adam"] == 5


@pytest.mark.parametrize(("clear", "stale"), [("optimizer.zero_grad()", False), ("pass", True)])
def test_closures(zygote, clear, stale):
    script = f"""
import torch
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
x, y = torch.randn(16, 3), torch.randn(16, 1)

def closure():
    {clear}
    loss = torch.nn.functional.mse_loss(model(x), y)
    loss.backward()
    return loss

for step in range(6):
    optimizer.step(closure)
"""
    seen = zygote.probe(script)
    [reset] = seen["gradient_resets"].optimizers
    assert bool(reset.stale_steps) is stale
    assert seen["program"].closure


BY_HAND = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
for step in range(6):
    loss = model(torch.randn(8, 3)).pow(2).mean()
    note(loss=loss.item())
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad
            CLEAR
"""


@pytest.mark.parametrize(
    ("clear", "stale"),
    [("p.grad = None", 0), ("p.grad.zero_()", 0), ("p.grad *= 0.9", 0), ("pass", 5)],
)
def test_updates_by_hand(zygote, clear, stale):
    seen = zygote.probe(BY_HAND.replace("CLEAR", clear))
    [reset] = seen["gradient_resets"].optimizers
    assert (reset.steps_checked, reset.stale_steps) == (5, stale)
    assert seen["program"].manual_updates
    assert seen["trajectory"].losses[:5] == tuple(seen.noted("loss")[:5])
