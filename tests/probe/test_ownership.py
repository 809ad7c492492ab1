"""Parameters that the graph reaches against those that the optimizers hold."""

from __future__ import annotations

import pytest

START = """
import copy
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.fc = nn.Linear(8, 2)
    def forward(self, x):
        return self.fc(torch.relu(self.body(x)))
model = Net()
"""

LOOP = """
for step in range(6):
    optimizer.zero_grad()
    model(torch.randn(8, 4)).pow(2).mean().backward()
    optimizer.step()
"""


def ownership(zygote, setup, loop=LOOP):
    return zygote.probe(START + setup + loop)["ownership"]


def test_a_complete_optimizer(zygote):
    seen = ownership(zygote, "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)")
    assert (seen.left_out, seen.stale, seen.trained) == ((), (), 58)
    assert seen.optimizer_location.line == 14


def test_a_part_that_is_left_out(zygote):
    [left] = ownership(zygote, "optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.1)").left_out
    assert (left.name, left.kind, left.parameters, left.tensors) == ("body", "Linear", 40, ("weight", "bias"))
    assert (left.moved, left.loaded) == (False, False)


def test_frozen_parts_are_not_left_out(zygote):
    setup = "model.body.requires_grad_(False); optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.1)"
    assert ownership(zygote, setup).left_out == ()


def test_updates_by_hand_and_loaded_weights_are_told(zygote):
    setup = "optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.1)"
    loop = LOOP + "    with torch.no_grad():\n        for p in model.body.parameters(): p -= 0.1 * p.grad\n"
    assert [left.moved for left in ownership(zygote, setup, loop).left_out] == [True]
    setup = "model.load_state_dict(Net().state_dict())\n" + setup
    assert [left.loaded for left in ownership(zygote, setup).left_out] == [True]


def test_a_copied_reference_model_counts_as_loaded(zygote):
    setup = "other = copy.deepcopy(model); optimizer = torch.optim.SGD(model.parameters(), lr=0.1)"
    loop = LOOP.replace("model(torch.randn(8, 4))", "(model(torch.ones(8, 4)) - other(torch.randn(8, 4)))")
    assert all(left.loaded for left in ownership(zygote, setup, loop).left_out)


def test_two_optimizers_count_together(zygote):
    setup = """
optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.1)
second = torch.optim.SGD(model.body.parameters(), lr=0.1)
"""
    seen = ownership(zygote, setup, LOOP + "    second.step()\n")
    assert (seen.left_out, seen.stale, seen.trained) == ((), (), 58)


def test_a_replaced_head(zygote):
    setup = "optimizer = torch.optim.SGD(model.parameters(), lr=0.1); model.fc = nn.Linear(8, 3)"
    seen = ownership(zygote, setup)
    [stale] = seen.stale
    assert (stale.tensors, stale.parameters, stale.all_of_it) == (2, 18, False)
    assert [left.name for left in seen.left_out] == ["fc"]


def test_a_model_built_again(zygote):
    seen = ownership(zygote, "optimizer = torch.optim.SGD(model.parameters(), lr=0.1); model = Net()")
    assert [stale.all_of_it for stale in seen.stale] == [True]
    assert {left.name for left in seen.left_out} == {"body", "fc"}


def test_parameters_exchanged_by_assignment(zygote):
    setup = "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
    setup += "model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)"
    seen = ownership(zygote, setup)
    assert seen.stale[0].tensors == 4
    assert len(seen.left_out) == 2


def test_an_unused_branch_is_not_stale(zygote):
    setup = "model.aux = nn.Linear(8, 2); optimizer = torch.optim.SGD(model.parameters(), lr=0.1)"
    seen = ownership(zygote, setup)
    assert (seen.stale, seen.left_out) == ((), ())


def test_two_models_are_named_by_their_class(zygote):
    setup = "head = nn.Linear(2, 2); optimizer = torch.optim.SGD(model.parameters(), lr=0.1)"
    [left] = ownership(
        zygote, setup, LOOP.replace("model(torch.randn(8, 4))", "head(model(torch.randn(8, 4)))")
    ).left_out
    assert left.name == "Linear"


def test_an_optimized_image_and_updates_by_hand(zygote):
    setup = "image = torch.zeros(8, 4, requires_grad=True); optimizer = torch.optim.Adam([image], lr=0.1)"
    loop = LOOP.replace("torch.randn(8, 4)", "image")
    assert ownership(zygote, setup, loop).own_tensors
    by_hand = "for step in range(4):\n    model(torch.randn(8, 4)).pow(2).mean().backward()\n"
    by_hand += "    with torch.no_grad():\n        for p in model.parameters(): p -= 0.1 * p.grad; p.grad = None\n"
    assert "without a torch optimizer" in zygote.probe(START + by_hand).absent("ownership")


FUNCTIONAL = """
import torch
torch.manual_seed(0)
x, y = torch.randn(64, 4), torch.randn(64, 2)
scale = torch.ones(4, requires_grad=True)
weight = torch.randn(4, 2, requires_grad=True)
optimizer = torch.optim.SGD([weight], lr=0.1)
for step in range(12):
    loss = (((x * scale) @ weight - y) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_a_tensor_of_a_model_written_as_functions(zygote):
    part = zygote.probe(FUNCTIONAL)["ownership"]
    [left] = part.left_out
    assert (left.name, left.parameters, left.loaded, part.own_tensors) == ("scale", 4, False, False)


def test_tensors_whose_gradient_is_read_are_no_weights(zygote):
    assert zygote.probe(FUNCTIONAL + "    print(scale.grad.norm())\n")["ownership"].left_out == ()


STAGES = """
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for stage in range(2):
    if stage:
        model.fc = nn.Linear(8, 3)
        SECOND
    for step in range(30):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).pow(2).mean().backward()
        optimizer.step()
"""


def test_a_layer_replaced_between_two_stages(zygote):
    seen = zygote.probe(START + STAGES.replace("SECOND", ""), steps=10, look_on=40)["ownership"]
    assert (seen.since, [left.name for left in seen.left_out]) == (30, ["fc"])
    assert [stale.parameters for stale in seen.stale] == [18]


def test_a_second_optimizer_over_the_new_layer(zygote):
    second = "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)"
    seen = zygote.probe(START + STAGES.replace("SECOND", second), steps=10, look_on=40)["ownership"]
    assert (seen.left_out, seen.stale) == ((), ())


FROZEN = """
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
BEFORE
model.fc = nn.Linear(8, 30)
model.fc.requires_grad_(HEAD)
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
"""


@pytest.mark.parametrize(
    ("before", "head", "found"),
    [
        (LOOP, False, ["fc"]),  # trained
        ("model.load_state_dict(Net().state_dict())", False, ["fc"]),
        (LOOP, True, []),
        ("pass", False, []),  # random features behind random features
    ],
)
def test_a_new_head_that_is_frozen(zygote, before, head, found):
    setup = START + FROZEN.replace("BEFORE", before).replace("HEAD", str(head)) + LOOP.replace("6", "8")
    seen = zygote.probe(setup, steps=12)["ownership"]
    assert [each.name for each in seen.frozen_starts] == found


FLAGGED = """
model.body.requires_grad_(False)
FLAG
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""


@pytest.mark.parametrize(
    ("flag", "found"),
    [
        ("model.body.requires_grad = True", ["body"]),
        ("model.body.requires_grad_(True)", []),
        ("model.fc.requires_grad = True", []),  # it learns anyway
        ("class Held:\n    def own(self): return self.requires_grad\nmodel.body.requires_grad = True", []),
    ],
)
def test_a_flag_that_no_parameter_hears_of(zygote, flag, found):
    seen = zygote.probe(START + FLAGGED.replace("FLAG", flag) + LOOP, steps=6, parts=("ownership",))["ownership"]
    assert [each.name for each in seen.unreleased] == found


ROLLED_BACK = """
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
for step in range(30):
    if step == 12:
        kept = copy.deepcopy(model)
        BACK
    optimizer.zero_grad()
    model(torch.randn(8, 4)).pow(2).mean().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("back", "stale"),
    [("model = kept", [58]), ("model.load_state_dict(kept.state_dict())", [])],
)
def test_a_copy_that_takes_the_place_of_the_model(zygote, back, stale):
    seen = zygote.probe(START + ROLLED_BACK.replace("BACK", back), steps=30, parts=("ownership",))["ownership"]
    assert [group.parameters for group in seen.stale] == stale
    assert [left.parameters for left in seen.left_out] == stale
