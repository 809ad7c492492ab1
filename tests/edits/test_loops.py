"""Lines put into the training loop: clipping, resetting gradients, training mode; and the divided loss."""

from __future__ import annotations

import pytest

from auditor.edits import edited
from auditor.evidence import RemedyKind

CLIP, ZERO = RemedyKind.CLIP, RemedyKind.ZERO_GRADIENTS
MODE, DIVIDE = RemedyKind.TRAINING_MODE, RemedyKind.DIVIDE_LOSS

LOOP = """
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
for epoch in range(3):
    # one epoch
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
        loss.backward()  # gather
        optimizer.step()
        scheduler.step()
"""
METHOD = """
class Trainer:
    @timed
    def fit(self):
    \tfor batch in self.loader:
    \t\tloss = self.model(batch).mean()
    \t\tloss.backward()
    \t\tself.optimizer.step()
"""
SCALED = """
def train(model, opt, scaler):
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(opt)
        scaler.update()
"""

# --------------------------------------------------------------------------------------------------------------- clip


@pytest.mark.parametrize("subject", ["model", ""])
def test_gradients_are_clipped_before_the_update(edit, subject: str) -> None:
    rows = edit(LOOP, "optimizer.step()", CLIP, amount=1.0, subject=subject)
    assert rows == ["+        nn.utils.clip_grad_norm_(model.parameters(), 1.0)"]


def test_clipping_uses_the_name_that_is_imported(bare) -> None:
    body = "import torch as t\nfor x in data:\n\tnet(x).backward()\n\topt.step()\n"
    assert bare(body, "opt.step", CLIP, amount=0.5, subject="net") == [
        "+\tt.nn.utils.clip_grad_norm_(net.parameters(), 0.5)"
    ]
    body = "from torch.nn.utils import clip_grad_norm_\nfor x in data:\n\tnet(x).backward()\n\topt.step()\n"
    assert bare(body, "opt.step", CLIP, amount=0.5, subject="net") == ["+\tclip_grad_norm_(net.parameters(), 0.5)"]


def test_the_only_step_of_the_file_is_found_from_anywhere(edit) -> None:
    assert edit(LOOP, "model = Net", CLIP, amount=1.0) == ["+        nn.utils.clip_grad_norm_(model.parameters(), 1.0)"]


def test_clipping_in_a_method_with_tabs(edit) -> None:
    rows = edit(METHOD, "optimizer.step", CLIP, amount=2.5, subject="self.model")
    assert rows == ["+    \t\tnn.utils.clip_grad_norm_(self.model.parameters(), 2.5)"]


@pytest.mark.parametrize(
    ("body", "subject", "reason"),
    [
        ("from torch.amp import GradScaler\nfor x in data:\n    optimizer.step()", "model", "with a GradScaler"),
        ("nn.utils.clip_grad_norm_(model.parameters(), 1)\noptimizer.step()", "model", "clipped already"),
        ("model(x)\noptimizer.step(closure)", "model", "closure"),
        ("model(x)\nif ready: optimizer.step()", "model", "not a statement on lines of its own"),
        ("model(x)\nloss.backward(); optimizer.step()", "model", "several statements"),
        ("def update(net):\n    optimizer.step()", "model", "model is not used in this function"),
        ("class Net(nn.Module):\n    pass\nNet()\noptimizer.step()", "Net", "Net is not a variable"),
        ("model(x)\noptimizer.step()", "", "what to call it is not known"),
        ("model(x)\nresult = optimizer.step()", "model", "is not a call of step()"),
    ],
)
def test_clipping_is_refused(edit, body: str, subject: str, reason: str) -> None:
    assert reason in edit.refused(body, "optimizer.step", CLIP, amount=1.0, subject=subject)


def test_clipping_needs_torch(bare) -> None:
    assert "does not import torch" in bare.refused("model(x)\nopt.step()", "opt.step", CLIP, amount=1, subject="model")


# ---------------------------------------------------------------------------------------------------------- zero_grad


@pytest.mark.parametrize("subject", ["optimizer", ""])
def test_gradients_are_reset_before_they_are_gathered(edit, subject: str) -> None:
    assert edit(LOOP, "backward", ZERO, subject=subject) == ["+        optimizer.zero_grad()"]


def test_the_optimizer_may_be_an_attribute(edit) -> None:
    assert edit(METHOD, "backward", ZERO) == ["+    \t\tself.optimizer.zero_grad()"]


def test_the_optimizer_of_a_scaler(edit) -> None:
    assert edit(SCALED, "backward", ZERO) == ["+        opt.zero_grad()"]


def test_a_misplaced_reset_is_moved_with_its_comment(edit) -> None:
    body = LOOP.replace("        optimizer.step()", "        optimizer.zero_grad()  # oops\n        optimizer.step()")
    assert edit(body, "backward", ZERO, subject="optimizer") == [
        "+        optimizer.zero_grad()  # oops",
        "-        optimizer.zero_grad()  # oops",
    ]


ACCUMULATED = """
for i, (x, y) in enumerate(loader):
    optimizer.zero_grad()
    (criterion(net(x), y) / 4).backward()
    if (i + 1) % 4 == 0:
        optimizer.step()
"""


@pytest.mark.parametrize("at", ["backward", "zero_grad", "optimizer.step"])
def test_accumulated_gradients_are_reset_with_the_step(edit, at: str) -> None:
    assert edit(ACCUMULATED, at, ZERO) == ["-    optimizer.zero_grad()", "+        optimizer.zero_grad()"]
    missing = ACCUMULATED.replace("    optimizer.zero_grad()\n", "")
    if at != "zero_grad":
        assert edit(missing, at, ZERO) == ["+        optimizer.zero_grad()"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("a.backward()\nb.backward()\nopt.step()", "several times"),
        ("opt.zero_grad()\nloss.backward()\nopt.step()", "already"),
        ("loss.backward()\nif finite(loss):\n    opt.step()", "does not follow in this block"),
        ("loss.backward()\nif i % 4 == 3:\n    opt.step()\n    opt.zero_grad()", "already"),
        ("loss.backward()\na.step()\nb.step()", "one optimizer's step() does not follow"),
        ("for i in r: loss.backward()", "not a statement on lines of its own"),
        ("grads = loss.backward()\nopt.step()", "is not a call of backward()"),
    ],
)
def test_resetting_is_refused(edit, body: str, reason: str) -> None:
    assert reason in edit.refused(body, "backward", ZERO)


def test_the_named_optimizer_has_to_be_stepped(edit) -> None:
    assert "critic.step() does not follow" in edit.refused(LOOP, "backward", ZERO, subject="critic")


# ------------------------------------------------------------------------------------------------------ training mode


def test_training_mode_at_the_top_of_the_epoch(edit) -> None:
    body = LOOP.replace("    # one epoch\n", "    total = 0\n")
    text = edit(body, "loss =", MODE, subject="model")
    assert text == ["+    model.train()"]


def test_the_model_is_what_the_loop_calls(edit) -> None:
    assert edit(LOOP, "backward", MODE) == ["+    model.train()"]


def test_training_mode_without_epochs_comes_before_the_batches(edit) -> None:
    assert edit(METHOD, "loss =", MODE, subject="self.model") == ["+    \tself.model.train()"]


EVALUATED = """
def evaluate(model):
    model.eval()

def main(model):
    for epoch in range(3):
        {before}
        for x, y in loader:
            loss = F.mse_loss(model(x), y)
            {within}
        evaluate(model)
"""


@pytest.mark.parametrize(
    ("before", "within", "indent"),
    [
        ("total = 0", "pass", 8),
        ("evaluate(model)", "pass", 8),
        ("pass", "evaluate(model)", 12),
        ("pass", "model.train(False)", 12),
    ],
)
def test_training_mode_comes_after_what_leaves_it(edit, before: str, within: str, indent: int) -> None:
    body = EVALUATED.format(before=before, within=within)
    assert edit(body, "loss =", MODE, subject="model") == ["+" + " " * indent + "model.train()"]


def test_training_mode_after_an_evaluation_at_the_top_of_the_epoch(at) -> None:
    text = EVALUATED.format(before="evaluate(model)", within="pass")
    rows = edited([at(text, "loss =", MODE, subject="model")], text).splitlines()
    assert rows[rows.index("        model.train()") + 1] == "        for x, y in loader:"


@pytest.mark.parametrize(
    ("body", "subject", "reason"),
    [
        (LOOP.replace("    # one epoch", "    model.train()"), "model", "called there already"),
        (LOOP.replace("        loss =", "        model.train()\n        loss ="), "model", "in this loop already"),
        ("def step(model):\n    loss = model(x)", "model", "in no loop of its function"),
        (LOOP, "net", "net is not used in this function"),
        (LOOP.replace("model(x)", "forward(x)"), "", "what to call it is not known"),
        (LOOP, "model.train(); evil", "what to call it is not known"),
    ],
)
def test_training_mode_is_refused(edit, body: str, subject: str, reason: str) -> None:
    assert reason in edit.refused(body, "loss =", MODE, subject=subject)


# ------------------------------------------------------------------------------------------------------- divided loss


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("loss.backward()", "(loss / 4).backward()"),
        ("loss.backward()  # share", "(loss / 4).backward()  # share"),
        ("self.loss.backward(retain_graph=True)", "(self.loss / 4).backward(retain_graph=True)"),
        ("(a + b).backward()", "((a + b) / 4).backward()"),
        ("criterion(out, y).backward()", "(criterion(out, y) / 4).backward()"),
        ("losses[0].backward()", "(losses[0] / 4).backward()"),
        ("scaler.scale(loss).backward()", "scaler.scale(loss / 4).backward()"),
        ("scaler.scale(a + b).backward()", "scaler.scale((a + b) / 4).backward()"),
    ],
)
def test_the_loss_is_divided(edit, before: str, after: str) -> None:
    assert edit(before, "backward", DIVIDE, amount=4.0) == [f"-{before}", f"+{after}"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("(loss / n).backward()", "divided already"),
        ("accelerator.backward(loss)", "may be the loss or a gradient"),
        ("loss.backward(); opt.step()", "several statements"),
    ],
)
def test_dividing_is_refused(edit, body: str, reason: str) -> None:
    assert reason in edit.refused(body, "backward", DIVIDE, amount=4)
    assert edit.refused("loss.backward()", "backward", DIVIDE) == "the divisor is not known"
