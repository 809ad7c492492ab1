"""The model's mode where it is evaluated, dropout that knows it, and labels that do not count."""

from __future__ import annotations

import pytest

from auditor.evidence import RemedyKind

QUIET, IGNORE, EVALUATE = RemedyKind.QUIET_EVALUATION, RemedyKind.IGNORE_LABELS, RemedyKind.EVALUATION_MODE

MODULE = """
class Net(nn.Module):
    def forward(self, x):
        return {}
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("F.dropout(x, 0.3)", "F.dropout(x, 0.3, training=self.training)"),
        ("F.dropout(self.fc(x), p=0.3)", "F.dropout(self.fc(x), p=0.3, training=self.training)"),
        ("F.dropout2d(x, 0.3, True)", "F.dropout2d(x, 0.3, self.training)"),
        (
            "F.scaled_dot_product_attention(x, x, x, dropout_p=self.p)",
            "F.scaled_dot_product_attention(x, x, x, dropout_p=self.p if self.training else 0.0)",
        ),
    ],
)
def test_a_dropout_function_is_told_the_mode(edit, before: str, after: str) -> None:
    rows = edit(MODULE.format(before), before, QUIET)
    assert rows == [f"-        return {before}", f"+        return {after}"]


@pytest.mark.parametrize(
    ("body", "at", "reason"),
    [
        (MODULE.format("F.dropout(x, 0.3, flag)"), "flag", "decided elsewhere"),
        (MODULE.format("F.dropout(F.dropout(x))"), "F.dropout", "not one call"),
        ("def head(x):\n    return F.dropout(x)\n", "F.dropout", "no method"),
        (MODULE.format("F.scaled_dot_product_attention(x, x, x)"), "scaled", "drops nothing"),
    ],
)
def test_dropout_that_is_not_changed(edit, body: str, at: str, reason: str) -> None:
    assert reason in edit.refused(body, at, QUIET)


@pytest.mark.parametrize(
    ("body", "at", "rows"),
    [
        (
            "loss = F.cross_entropy(logits, tags)\n",
            "loss",
            ["-loss = F.cross_entropy(logits, tags)", "+loss = F.cross_entropy(logits, tags, ignore_index=0)"],
        ),
        (
            "criterion = nn.CrossEntropyLoss()\nloss = criterion(logits, tags)\n",
            "loss =",
            ["-criterion = nn.CrossEntropyLoss()", "+criterion = nn.CrossEntropyLoss(ignore_index=0)"],
        ),
    ],
)
def test_labels_of_padding_do_not_count(edit, body: str, at: str, rows: list[str]) -> None:
    assert edit(body, at, IGNORE, amount=0.0) == rows


@pytest.mark.parametrize(
    ("body", "amount", "reason"),
    [
        ("loss = F.cross_entropy(logits, tags, ignore_index=7)\n", 0.0, "other labels already"),
        ("loss = criterion(logits, tags)\n", 0.0, "not certain"),
        ("loss = F.cross_entropy(logits, tags)\n", None, "not known"),
    ],
)
def test_a_loss_that_is_not_changed(edit, body: str, amount: float | None, reason: str) -> None:
    assert reason in edit.refused(body, "loss", IGNORE, amount=amount)


EVALUATION = """
def evaluate(model, loader):
    right = 0
    with torch.no_grad():
        for x, y in loader:
            right += (model(x).argmax(1) == y).sum()
    return right
"""


def test_the_model_is_switched_around_its_evaluation(edit) -> None:
    assert edit(EVALUATION, "model(x)", EVALUATE) == ["+    model.eval()", "+    model.train()"]


def test_within_the_loop_that_trains(edit) -> None:
    body = """
    for epoch in range(3):
        for x, y in loader:
            F.mse_loss(model(x), y).backward()
        error = F.mse_loss(model(held_x), held_y)
        print(error)
    model.state_dict()
    """
    assert edit(body, "held_x", EVALUATE) == ["+    model.eval()", "+    model.train()"]


@pytest.mark.parametrize(
    ("body", "at", "reason"),
    [
        (EVALUATION.replace("    right = 0", "    model.eval()"), "model(x)", "switched there already"),
        ("def evaluate(model, x):\n    return model(x)\n", "return", "nothing follows"),
        ("out = predict(x)\nprint(out)\n", "out =", "not certain"),
        ("class Net(nn.Module):\n    def train(self, x): pass\n" + EVALUATION, "model(x)", "of its own"),
    ],
)
def test_where_the_mode_is_left_alone(edit, body: str, at: str, reason: str) -> None:
    assert reason in edit.refused(body, at, EVALUATE)
