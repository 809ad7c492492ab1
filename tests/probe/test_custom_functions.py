"""Hand-written backwards against central differences; stand-ins are told from mistakes."""

from __future__ import annotations

import pytest
import torch

from auditor.probe.gradcheck import check


def function(forward, backward):
    kind = type("Mine", (torch.autograd.Function,), {})
    kind.forward = staticmethod(forward)
    kind.backward = staticmethod(backward)
    return kind


def saving(compute):
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return compute(x)

    return forward


def judged(forward, backward, *args):
    torch.manual_seed(0)
    args = args or (torch.randn(5, 4),)
    before = torch.get_rng_state()
    found = check(function(forward, backward), args, [0])
    assert torch.equal(torch.get_rng_state(), before)
    return found


def test_a_right_backward():
    found = judged(saving(lambda x: x**3), lambda ctx, g: g * 3 * ctx.saved_tensors[0] ** 2)
    assert (found.verdict, found.dtype, found.directions) == ("right", "float64", 8)
    assert found.error < 1e-6


def test_a_factor_that_depends_on_the_input_is_wrong():
    found = judged(saving(lambda x: x**3), lambda ctx, g: g * 2 * ctx.saved_tensors[0])
    assert found.verdict == "wrong"
    assert found.ratio is None
    assert found.error > 0.1


@pytest.mark.parametrize("factor", [0.5, -1.0])
def test_a_constant_factor_is_told(factor):
    found = judged(saving(lambda x: x**2), lambda ctx, g: factor * g * 2 * ctx.saved_tensors[0])
    assert found.verdict == "wrong"
    assert found.ratio == pytest.approx(factor, rel=1e-4)


@pytest.mark.parametrize("compute", [torch.sign, torch.round, lambda x: (x > 0).to(x.dtype)])
def test_straight_through_estimators_are_stand_ins(compute):
    assert judged(lambda _, x: compute(x), lambda _, g: g).verdict == "surrogate"


@pytest.mark.parametrize("change", [lambda g: -g, lambda g: 0.1 * g, lambda g: g.clamp(-0.1, 0.1)])
def test_functions_that_hand_their_input_through(change):
    assert judged(lambda _, x: x.view_as(x), lambda _, g: change(g)).verdict == "identity"


def test_a_clipped_backward_of_another_function():
    found = judged(saving(torch.exp), lambda ctx, g: (g * ctx.saved_tensors[0].exp()).clamp(-0.1, 0.1))
    assert found.verdict == "clipped"


def test_kinks_do_not_matter():
    found = judged(saving(torch.relu), lambda ctx, g: g * (ctx.saved_tensors[0] > 0), torch.randn(400))
    assert found.verdict == "right"


def test_a_missing_gradient():
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    torch.manual_seed(0)
    kind = function(forward, lambda ctx, g: (g * ctx.saved_tensors[1], None))
    found = check(kind, (torch.randn(6), torch.randn(6)), [0, 1])
    assert (found.verdict, found.input, found.missing) == ("wrong", 1, True)


def test_several_outputs_and_other_arguments():
    def forward(ctx, x, power, _names):
        ctx.save_for_backward(x)
        ctx.power = power
        return x**power, 2 * x

    def backward(ctx, g, h):
        return g * ctx.power * ctx.saved_tensors[0] ** (ctx.power - 1) + 2 * h, None, None

    assert judged(forward, backward, torch.rand(7) + 0.5, 3, ["a"]).verdict == "right"


def test_functions_of_one_precision_are_checked_in_it():
    def forward(ctx, x):
        if x.dtype is not torch.float32:
            raise TypeError("no kernel")
        ctx.save_for_backward(x)
        return x * x

    right = judged(forward, lambda ctx, g: 2 * g * ctx.saved_tensors[0])
    wrong = judged(forward, lambda ctx, g: 3 * g * ctx.saved_tensors[0])
    assert (right.verdict, right.dtype) == ("right", "float32")
    assert wrong.verdict == "wrong"


def test_random_outputs_with_the_same_numbers_are_checked():
    found = judged(saving(lambda x: x * torch.rand_like(x)), lambda _, g: g)
    assert found.verdict == "wrong"


def test_what_cannot_be_called_again_is_not_judged():
    calls = []

    def forward(_, x):
        calls.append(1)
        return x * len(calls)

    assert judged(forward, lambda _, g: g).verdict == "unchecked"


def test_writing_into_the_input():
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    assert judged(forward, lambda _, g: 2 * g).verdict == "right"


SCRIPT = """
import torch
from torch import nn
torch.manual_seed(0)

class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x ** 3
    @staticmethod
    def backward(ctx, g):
        return g * FACTOR * ctx.saved_tensors[0] ** 2

class Unused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x
    @staticmethod
    def backward(ctx, g):
        return g

net = nn.Linear(4, 4)
optimizer = torch.optim.SGD(net.parameters(), 0.01)
for step in range(6):
    optimizer.zero_grad()
    with torch.no_grad():
        Unused.apply(torch.ones(2))
    loss = Cube.apply(net(torch.randn(600, 4))).mean()
    loss.backward()
    optimizer.step()
    note(loss=loss.item(), draw=torch.rand(()).item())
"""


@pytest.mark.parametrize(("factor", "verdict"), [("3", "right"), ("2", "wrong")])
def test_functions_of_the_loop(zygote, factor, verdict):
    seen = zygote.probe(SCRIPT.replace("FACTOR", factor), steps=5, parts=("custom_functions",))
    [found] = seen["custom_functions"].functions
    assert (found.name, found.verdict) == ("Cube", verdict)
    assert "Cube.apply" in SCRIPT.splitlines()[found.location.line - 1]


def test_the_script_notices_nothing(zygote):
    script = SCRIPT.replace("FACTOR", "3")
    seen, bare = zygote.probe(script, steps=5, parts=("custom_functions",)), zygote.bare(script)
    assert len(seen.notes) >= 4
    assert seen.notes == bare.notes[: len(seen.notes)]


def test_no_function_of_its_own(zygote):
    script = """
    import torch
    import torch.utils.checkpoint
    net = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    for step in range(4):
        optimizer.zero_grad()
        torch.utils.checkpoint.checkpoint(net, torch.randn(3, 2), use_reentrant=True).sum().backward()
        optimizer.step()
    """
    seen = zygote.probe(script, steps=3)
    assert seen.absent("custom_functions").startswith("not-applicable")
