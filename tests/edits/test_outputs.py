"""What meets the loss: softmaxes that become something else, losses, and shapes."""

from __future__ import annotations

import pytest

from auditor.evidence import RemedyKind

SIGMOID, AXIS = RemedyKind.SIGMOID, RemedyKind.SOFTMAX_AXIS
LOGS, SHAPES, LEAVE_OUT = RemedyKind.LOG_PROBABILITIES, RemedyKind.MATCH_SHAPES, RemedyKind.LEAVE_OUT

MODULE = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 1)
        self.softmax = nn.Softmax(dim=0)

    def forward(self, x):
        return self.softmax(self.fc(x))  # probabilities
"""
BUILT, CALLED = "self.softmax =", "return self.softmax"

# ------------------------------------------------------------------------------------------------ modules, by a line


@pytest.mark.parametrize("at", [BUILT, CALLED])
def test_a_module_goes_with_its_only_use(edit, at: str) -> None:
    assert edit(MODULE, at, LEAVE_OUT, subject="softmax") == [
        "-        self.softmax = nn.Softmax(dim=0)",
        "-        return self.softmax(self.fc(x))  # probabilities",
        "+        return self.fc(x)  # probabilities",
    ]


def test_a_module_that_others_may_use_stays(edit) -> None:
    rows = edit(MODULE + "print(Net().softmax)\n", BUILT, LEAVE_OUT, subject="softmax")
    assert [row[:1] for row in rows] == ["-", "+"]
    assert "self.softmax =" not in "".join(rows)


def test_a_module_that_is_used_twice_is_left_alone(edit) -> None:
    body = MODULE + "\n    def show(self, x):\n        return self.softmax(x)\n"
    assert "no call of softmax" in edit.refused(body, BUILT, LEAVE_OUT, subject="softmax")
    assert "called in several places" in edit.refused(body, CALLED, SIGMOID)


@pytest.mark.parametrize("at", [BUILT, CALLED])
def test_a_module_becomes_another_one_where_it_is_built(edit, at: str) -> None:
    before = "-        self.softmax = nn.Softmax(dim=0)"
    assert edit(MODULE, at, SIGMOID) == [before, "+        self.softmax = nn.Sigmoid()"]
    assert edit(MODULE, at, AXIS, amount=1.0) == [before, "+        self.softmax = nn.Softmax(dim=1)"]
    assert edit(MODULE, at, LOGS, subject="softmax") == [before, "+        self.softmax = nn.LogSoftmax(dim=0)"]


# ---------------------------------------------------------------------------------------------------- sigmoid and axis


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("p = F.softmax(net(x), dim=1)", "p = torch.sigmoid(net(x))"),
        ("p = torch.softmax(input=a + b, dim=1)", "p = torch.sigmoid(a + b)"),
        ("p = net(x).softmax(1).squeeze()", "p = net(x).sigmoid().squeeze()"),
        ("p = nn.Sequential(body, nn.Softmax(1))", "p = nn.Sequential(body, nn.Sigmoid())"),
    ],
)
def test_a_sigmoid_instead(edit, before: str, after: str) -> None:
    assert edit(before, "p =", SIGMOID) == [f"-{before}", f"+{after}"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("p = F.softmax(x, dim=0)", "p = F.softmax(x, dim=1)"),
        ("p = F.softmax(x, 0)", "p = F.softmax(x, 1)"),
        ("p = F.softmax(x)", "p = F.softmax(x, dim=1)"),
        ("p = x.softmax(0)", "p = x.softmax(1)"),
        ("p = x.softmax(dim=-2)", "p = x.softmax(dim=1)"),
        ("p = nn.Softmax(0)", "p = nn.Softmax(1)"),
        ("p = nn.Softmax()", "p = nn.Softmax(dim=1)"),
    ],
)
def test_another_axis(edit, before: str, after: str) -> None:
    assert edit(before, "p =", AXIS, amount=1.0, subject="softmax") == [f"-{before}", f"+{after}"]


def test_the_axis_of_a_log_softmax(edit) -> None:
    before = "p = F.log_softmax(net(x), dim=0)"
    rows = [f"-{before}", "+p = F.log_softmax(net(x), dim=1)"]
    assert edit(before, "p =", AXIS, amount=1.0, subject="log_softmax") == rows


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        (SIGMOID, "p = F.softmax(F.softmax(x, 1), 1)", "holds 2 calls"),
        (SIGMOID, "p = model(x)", "holds no call"),
        (SIGMOID, "p = self.softmax(x)", "holds no call"),
        (SIGMOID, "p = F.softmax(*given)", "taken of is not certain"),
        (AXIS, "p = F.softmax(x, dim=axis)", "decided by `axis`"),
        (AXIS, "p = F.softmax(x, dim=1)", "already"),
        (AXIS, "p = F.softmax(x, **options)", "** arguments may hold"),
    ],
)
def test_a_softmax_is_left_alone(edit, kind: RemedyKind, body: str, reason: str) -> None:
    assert reason in edit.refused(body, "p =", kind, amount=1.0, subject="softmax")


def test_the_axis_has_to_be_known(edit) -> None:
    assert edit.refused("p = x.softmax(0)", "p =", AXIS) == "the axis is not known"


# --------------------------------------------------------------------------------------------------- log-probabilities


def test_raw_outputs_get_the_cross_entropy(edit) -> None:
    body = "loss = F.nll_loss(model(x), y, ignore_index=0)\n"
    assert edit(body, "loss", LOGS) == [
        "-loss = F.nll_loss(model(x), y, ignore_index=0)",
        "+loss = F.cross_entropy(model(x), y, ignore_index=0)",
    ]
    other = "total += F.nll_loss(model(x), y, reduction='sum')\nplain = F.nll_loss(logs, y)\n"
    assert [row for row in edit(body + other, "loss", LOGS) if row[0] == "+"][1:] == [
        "+total += F.cross_entropy(model(x), y, reduction='sum')"
    ]


def test_a_criterion_is_built_anew(edit) -> None:
    body = "criterion = nn.NLLLoss()\nloss = criterion(model(x), y)\n"
    assert edit(body, "loss =", LOGS) == ["-criterion = nn.NLLLoss()", "+criterion = nn.CrossEntropyLoss()"]
    body += "other = criterion(logs, y)\n"
    assert "given several things" in edit.refused(body, "loss =", LOGS)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("p = F.softmax(x, dim=1)", "p = F.log_softmax(x, dim=1)"),
        ("p = torch.softmax(x, 1)", "p = torch.log_softmax(x, 1)"),
        ("p = x.softmax(1)", "p = x.log_softmax(1)"),
    ],
)
def test_probabilities_become_logarithms_where_they_are_made(edit, before: str, after: str) -> None:
    assert edit(before, "p =", LOGS, subject="softmax") == [f"-{before}", f"+{after}"]


def test_other_losses_are_left_alone(edit) -> None:
    assert "not one call of nll_loss" in edit.refused("loss = criterion(model(x), y)", "loss", LOGS)


# -------------------------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("loss = F.mse_loss(out, y)", "loss = F.mse_loss(out, y.view_as(out))"),
        ("loss = F.mse_loss(input=out, target=y)", "loss = F.mse_loss(input=out, target=y.view_as(out))"),
        ("loss = ((self.out - y) ** 2).mean()", "loss = ((self.out - y.view_as(self.out)) ** 2).mean()"),
        ("loss = F.l1_loss(model(x), y)", "loss = F.l1_loss(model(x), y.unsqueeze(-1))"),
        ("loss = (y - model(x)).abs().mean()", "loss = (y.unsqueeze(-1) - model(x)).abs().mean()"),
    ],
)
def test_the_target_takes_the_shape_of_the_prediction(edit, before: str, after: str) -> None:
    assert edit(before, "loss", SHAPES, amount=1.0) == [f"-{before}", f"+{after}"]


def test_an_axis_too_many(edit) -> None:
    body = "criterion = nn.MSELoss()\nloss = criterion(model(x), y)\n"
    assert edit(body, "loss", SHAPES, amount=-1.0)[1] == "+loss = criterion(model(x), y.squeeze(-1))"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("loss = F.mse_loss(model(x), y)", "the prediction has no name"),
        ("loss = F.mse_loss(model(x), y[0])", "the target has no name"),
        ("loss = F.mse_loss(out.squeeze(1), y)", "changed in that line already"),
        ("loss = F.mse_loss(*both)", "may hold the target"),
        ("loss = criterion(out, y)", "not hold one loss"),
        ("loss = (a - b) + (c - d)", "not hold one loss"),
    ],
)
def test_shapes_are_left_alone(edit, body: str, reason: str) -> None:
    assert reason in edit.refused(body, "loss", SHAPES)
