"""Which modules ran in which mode, told from forwards, backward calls, loaders and calls of train() and eval()."""

from __future__ import annotations

import pytest

SETUP = """
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def data(n):
    return TensorDataset(torch.randn(n, 6), torch.randint(0, 3, (n,)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)
        self.b = nn.Linear(8, 3)

    def forward(self, x):
        return self.b(self.drop(self.norm(self.a(x)).relu()))


train_loader = DataLoader(data(60), batch_size=10, shuffle=True)
val_loader = DataLoader(data(20), batch_size=10)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def train():
    for x, y in train_loader:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
"""

LOOP = """
for epoch in range(4):
    BEFORE
    train()
    EVALUATE
"""

NO_GRAD = """with torch.no_grad():
        for x, y in val_loader:
            model(x)"""

PARTS = ("modes", "mode_effect", "evaluation_noise")


def run(zygote, before="", evaluate=NO_GRAD, setup=SETUP, loop=LOOP, experiments=False, steps=18):
    loop = loop.replace("BEFORE", before or "pass").replace("EVALUATE", evaluate)
    return zygote.probe(setup + loop, steps=steps, parts=PARTS, experiments=experiments)


def only(seen):
    (found,) = seen["modes"].models
    return found


def test_a_right_loop(zygote):
    found = only(run(zygote, "model.train()", f"model.eval()\n    {NO_GRAD}"))
    assert (found.training_forwards, found.evaluation_forwards) == (18, 4)  # the third evaluation comes too late
    assert {layer.name: layer.role for layer in found.modules} == {"norm": "norm", "drop": "dropout"}
    for layer in found.modules:
        assert (layer.training_on, layer.training_off) == (18, 0)
        assert (layer.evaluation_on, layer.evaluation_off) == (0, 4)
    assert (found.train_mode_evaluations, found.forgotten, found.graph_evaluations) == (0, 0, 0)


def test_an_evaluation_in_training_mode_and_what_it_changes(zygote):
    seen = run(zygote, "model.train()", experiments=True)
    found = only(seen)
    assert (found.train_mode_evaluations, found.held_out_evaluations) == (4, 4)
    assert found.evaluation_location.line == len(SETUP.splitlines()) + 7
    assert found.train_location is not None
    effect = seen["mode_effect"]
    assert effect.output_change > 0.1
    assert effect.training_loss != effect.evaluation_loss
    assert seen["evaluation_noise"].difference == 0


SHOWN = """model.eval()
    with torch.no_grad():
        model(SHOWN)"""


@pytest.mark.parametrize(
    ("rows", "before", "forgotten"),
    [
        ("torch.randn(4, 6)", "pass", 12),
        ("torch.randn(4, 6)", "model.train()", 0),
        ("next(iter(train_loader))[0]", "model.eval()", 0),  # in evaluation mode from the start
    ],
)
def test_an_example_that_is_shown_leaves_the_mode(zygote, rows, before, forgotten):
    found = run(zygote, before=before, evaluate=SHOWN.replace("SHOWN", rows))
    assert found["modes"].models[0].forgotten == forgotten


def test_a_forgotten_eval_is_told_by_the_order_of_events(zygote):
    seen = run(zygote, "", f"model.eval()\n    {NO_GRAD}", experiments=True)
    found = only(seen)
    assert (found.trained_before, found.forgotten, found.forgotten_since, found.chosen) == (6, 12, 6, 0)
    assert found.eval_location is not None
    # The replay takes its steps in the modes of the observed ones, or it could not repeat them.
    assert seen["mode_effect"].fidelity == 0


@pytest.mark.parametrize(
    ("before", "evaluate"),
    [
        ("model.eval()", NO_GRAD),  # trained in evaluation mode on purpose
        ("model.train(); model.norm.eval()", f"model.eval()\n    {NO_GRAD}"),
        ("model.eval()", f"model.eval()\n    {NO_GRAD}"),
    ],
)
def test_evaluation_mode_on_purpose_is_not_forgotten(zygote, before, evaluate):
    found = only(run(zygote, before, evaluate))
    assert found.forgotten == 0
    assert found.training_forwards == 18


def test_an_evaluation_before_the_first_step_counts(zygote):
    early = f"if epoch == 0:\n        model.eval()\n        {NO_GRAD.replace(chr(10), chr(10) + '    ')}"
    found = only(run(zygote, early, "pass"))
    assert (found.trained_before, found.forgotten, found.forgotten_since) == (0, 18, 0)


def test_graphs_that_no_backward_uses(zygote):
    found = only(run(zygote, "model.train()", "model.eval()\n    for x, y in val_loader:\n        model(x)"))
    assert (found.evaluation_forwards, found.graph_evaluations) == (4, 4)
    assert found.graph_location is not None


def test_gradients_with_respect_to_the_input_are_a_use(zygote):
    attack = """model.eval()
    for x, y in val_loader:
        x.requires_grad_(True)
        torch.autograd.grad(F.cross_entropy(model(x), y), x)"""
    assert only(run(zygote, "model.train()", attack)).graph_evaluations == 0


def test_passes_over_the_same_input_are_monte_carlo(zygote):
    several = "with torch.no_grad():\n        for x, y in val_loader:\n            [model(x) for _ in range(5)]"
    found = only(run(zygote, "model.train()", several))
    assert found.train_mode_evaluations == found.repeated_evaluations == 20


def test_training_metrics_are_no_evaluation(zygote):
    loop = """
for epoch in range(4):
    for x, y in train_loader:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        with torch.no_grad():
            F.cross_entropy(model(x), y)
"""
    found = only(run(zygote, loop=loop))
    assert (found.training_forwards, found.evaluation_forwards) == (18, 0)


FULL_BATCH = """
x, y = data(30).tensors
x_val, y_val = data(12).tensors
for step in range(30):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        F.cross_entropy(model(x), y)
        F.cross_entropy(model(x_val), y_val)
        model(torch.randn(5, 6))
"""


def test_without_a_loader_the_loss_tells_an_evaluation(zygote):
    found = only(run(zygote, loop=FULL_BATCH))
    assert (found.training_forwards, found.evaluation_forwards, found.train_mode_evaluations) == (18, 17, 17)
    assert found.measured_evaluations == 17


def test_a_model_without_modal_layers_has_none(zygote):
    setup = SETUP.replace("model = Net()", "model = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.0), nn.LayerNorm(3))")
    assert only(run(zygote, setup=setup)).modules == ()


def test_a_frozen_norm_layer_is_known(zygote):
    setup = SETUP.replace("model = Net()", "model = Net()\nmodel.norm.requires_grad_(False)")
    norm, drop = only(run(zygote, setup=setup)).modules
    assert (norm.frozen, drop.frozen) == (True, False)


# ------------------------------------------------------------------------------------------------ dropout that stays on


def forward(code):
    return SETUP.replace("self.b(self.drop(self.norm(self.a(x)).relu()))", code)


@pytest.mark.parametrize(
    ("code", "given"),
    [
        ("self.b(F.dropout(self.a(x), 0.3))", "default"),
        ("self.b(F.dropout(self.a(x), 0.3, True))", "literal"),
        ("self.b(F.dropout(self.a(x), p=0.3, training=x.dim() > 1))", "expression"),
        ("self.b(nn.Dropout(0.3)(self.a(x)))", "module"),
    ],
)
def test_dropout_that_eval_does_not_reach(zygote, code, given):
    seen = run(zygote, "model.train()", f"model.eval()\n    {NO_GRAD}", setup=forward(code), experiments=True)
    (call,) = seen["modes"].dropout_calls
    assert (call.given, call.calls, call.active, call.p) == (given, 4, 4, 0.3)
    noise = seen["evaluation_noise"]
    assert noise.difference > 0.01
    assert noise.repeats
    (draw,) = noise.draws
    assert (draw.operation, draw.dropout, draw.given) == ("dropout", True, given)
    assert draw.location == call.location


def test_dropout_that_eval_reaches(zygote):
    code = "self.b(F.dropout(self.a(x), 0.3, self.training))"
    seen = run(zygote, "model.train()", f"model.eval()\n    {NO_GRAD}", setup=forward(code), experiments=True)
    assert [call.active for call in seen["modes"].dropout_calls] == [0]
    assert seen["evaluation_noise"].difference == 0


def test_attention_with_a_constant_rate(zygote):
    code = "self.b(F.scaled_dot_product_attention(*3 * (self.a(x)[:, None],), None, 0.4)[:, 0])"
    seen = run(zygote, "model.train()", f"model.eval()\n    {NO_GRAD}", setup=forward(code), experiments=True)
    (call,) = seen["modes"].dropout_calls
    assert (call.function, call.given, call.active) == ("scaled_dot_product_attention", "rate", 4)
    assert seen["evaluation_noise"].draws[0].dropout


def test_dropout_layers_that_are_switched_on_one_by_one_are_not_heard(zygote):
    switched = f"model.eval(); model.drop.train()\n    {NO_GRAD}"
    seen = run(zygote, "model.train()", switched)
    assert seen["modes"].dropout_calls == ()
    assert only(seen).train_mode_evaluations == 0


def test_noise_is_told_from_dropout(zygote):
    code = "self.b(self.a(x) + torch.randn(len(x), 8))"
    seen = run(zygote, "model.train()", f"model.eval()\n    {NO_GRAD}", setup=forward(code), experiments=True)
    (draw,) = seen["evaluation_noise"].draws
    assert (draw.operation, draw.dropout, draw.given) == ("randn", False, "")


def test_nothing_of_it_changes_the_losses(zygote):
    loop = LOOP.replace("BEFORE", "pass").replace("EVALUATE", NO_GRAD)
    script = (SETUP + loop).replace(
        "F.cross_entropy(model(x), y).backward()",
        "loss = F.cross_entropy(model(x), y); loss.backward(); note(loss=loss.item().hex())",
    )
    bare = zygote.bare(script)
    seen = zygote.probe(script, steps=18)
    assert seen.noted("loss") == bare.noted("loss")[: len(seen.noted("loss"))]
