"""The learning rate, wherever the file defines it."""

from __future__ import annotations

import pytest

from auditor.edits.literals import number, scaled
from auditor.evidence import RemedyKind

RATE = RemedyKind.RATE
MADE = "def make(net, lr):\n    return torch.optim.Adam(net.parameters(), lr=lr)\n"
TRAINER = """
class Trainer:
    def __init__(self, net, lr=1e-2):
        self.lr = lr
        self.optimizer = torch.optim.Adam(net.parameters(), lr=self.lr)

"""


@pytest.mark.parametrize(
    ("literal", "factor", "expected"),
    [
        ("1e-3", 0.25, "2.5e-4"),
        ("3e-4", 1 / 3, "1e-4"),
        ("1.0e-3", 0.1, "1.0e-4"),
        ("1E-03", 10, "1E-2"),
        ("1e-3", 1000, "1.0"),
        ("0.001", 0.25, "0.00025"),
        ("0.0001", 0.01, "1e-6"),
        ("0.05", 0.1, "0.005"),
        ("0.1", 10, "1.0"),
        ("1", 0.1, "0.1"),
        ("10", 0.1, "1"),
        ("1_0.0", 0.1, "1.0"),
    ],
)
def test_numbers_keep_their_style(literal: str, factor: float, expected: str) -> None:
    assert scaled(literal, factor) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, "1.0"), (153.123, "153.1"), (0.49139, "0.4914"), (0, "0.0"), (-1.23e-6, "-1.23e-6"), (12345.6, "12350.0")],
)
def test_measured_numbers_are_rounded(value: float, expected: str) -> None:
    assert number(value) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)  # as in the paper",
            [
                "-optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)  # as in the paper",
                "+optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)  # as in the paper",
            ],
        ),
        (
            "optimizer = torch.optim.SGD(model.parameters(), 0.5, momentum=0.9)",
            [
                "-optimizer = torch.optim.SGD(model.parameters(), 0.5, momentum=0.9)",
                "+optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)",
            ],
        ),
        ("LR = 0.01\noptimizer = torch.optim.Adam(net.parameters(), lr=LR)", ["-LR = 0.01", "+LR = 0.001"]),
        (
            "LR: float = 0.01\noptimizer = torch.optim.Adam(net.parameters(), lr=LR)",
            ["-LR: float = 0.01", "+LR: float = 0.001"],
        ),
        (
            "cfg = {'lr': 3e-2, 'wd': 0}\noptimizer = torch.optim.Adam(net.parameters(), lr=cfg['lr'])",
            ["-cfg = {'lr': 3e-2, 'wd': 0}", "+cfg = {'lr': 3e-3, 'wd': 0}"],
        ),
        (
            'cfg = dict(lr=3e-2)\noptimizer = torch.optim.Adam(net.parameters(), lr=cfg["lr"])',
            ["-cfg = dict(lr=3e-2)", "+cfg = dict(lr=3e-3)"],
        ),
        (
            'parser.add_argument("-l", "--learning-rate", type=float, default=1e-2)\n'
            "args = parser.parse_args()\n"
            "optimizer = torch.optim.Adam(net.parameters(), lr=args.learning_rate)",
            [
                '-parser.add_argument("-l", "--learning-rate", type=float, default=1e-2)',
                '+parser.add_argument("-l", "--learning-rate", type=float, default=1e-3)',
            ],
        ),
        (
            "class Config:\n    lr: float = 1e-2\n\ncfg = Config()\n"
            "optimizer = torch.optim.Adam(net.parameters(), lr=cfg.lr)",
            ["-    lr: float = 1e-2", "+    lr: float = 1e-3"],
        ),
        (
            "cfg = SimpleNamespace(lr=1e-2, epochs=3)\noptimizer = torch.optim.Adam(net.parameters(), lr=cfg.lr)",
            ["-cfg = SimpleNamespace(lr=1e-2, epochs=3)", "+cfg = SimpleNamespace(lr=1e-3, epochs=3)"],
        ),
        (
            "class Trainer:\n    def __init__(self, net):\n        self.lr = 0.1\n"
            "        self.optimizer = torch.optim.Adam(net.parameters(), lr=self.lr)",
            ["-        self.lr = 0.1", "+        self.lr = 0.01"],
        ),
        (
            "optimizer = torch.optim.AdamW(\n\tnet.parameters(),\n\tlr=1e-3,  # rate\n)",
            ["-\tlr=1e-3,  # rate", "+\tlr=1e-4,  # rate"],
        ),
        (
            "optimizer = torch.optim.Adam(net.parameters())",
            [
                "-optimizer = torch.optim.Adam(net.parameters())",
                "+optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)",
            ],
        ),
        (
            "optimizer = torch.optim.AdamW(\n    net.parameters(),\n    weight_decay=0.1,  # a lot\n)",
            ["+    lr=1e-4,"],
        ),
        (
            'optimizer = torch.optim.Adam([{"params": a}, {"params": b, "lr": 1e-4}], lr=1e-3)',
            [
                '-optimizer = torch.optim.Adam([{"params": a}, {"params": b, "lr": 1e-4}], lr=1e-3)',
                '+optimizer = torch.optim.Adam([{"params": a}, {"params": b, "lr": 1e-5}], lr=1e-4)',
            ],
        ),
    ],
)
def test_the_one_definition_is_changed(edit, body: str, expected: list[str]) -> None:
    assert edit(body, "optim", RATE, amount=0.1) == expected


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("optimizer = torch.optim.Adam(net.parameters(), lr=LR)", "`LR` is not defined in this file"),
        ("LR = 1\nLR = 2\noptimizer = torch.optim.Adam(net.parameters(), lr=LR)", "`LR` is defined in 2 places"),
        (
            "for lr in rates:\n    optimizer = torch.optim.Adam(net.parameters(), lr=lr)",
            "not defined by a plain number",
        ),
        ("lr, wd = 1, 2\noptimizer = torch.optim.Adam(net.parameters(), lr=lr)", "not defined by a plain number"),
        ("lr = 1\nlr *= 2\noptimizer = torch.optim.Adam(net.parameters(), lr=lr)", "is defined in 2 places"),
        (
            "def make(net, lr=0.1):\n    return torch.optim.Adam(net.parameters(), lr=lr)",
            "make() is not called in one place",
        ),
        ("from settings import lr\noptimizer = torch.optim.Adam(net.parameters(), lr=lr)", "by a plain number"),
        ("LR = 0.1 * 3\noptimizer = torch.optim.Adam(net.parameters(), lr=LR)", "`0.1 * 3` is not a plain number"),
        ("optimizer = torch.optim.Adam(net.parameters(), lr=0.1 * n)", "`0.1 * n` is not a plain number"),
        ("optimizer = torch.optim.Adam(net.parameters(), **settings)", "** arguments may hold lr"),
        ("optimizer = torch.optim.SGD(net.parameters())", "the optimizer is given no rate"),
        ("optimizer = build_optimizer(net)", "no optimizer is built"),
        (
            "optimizer = torch.optim.Adam(net.parameters(), lr=1)\ns = torch.optim.lr_scheduler.OneCycleLR(o, 1, 9)",
            "OneCycleLR sets the rate as well",
        ),
        (
            'opt = torch.optim.Adam(net.parameters(), lr=1)\nfor group in opt.param_groups:\n    group["lr"] = 3',
            "the rate is set elsewhere as well",
        ),
        (
            'groups = [{"params": a, "lr": 1}]\noptimizer = torch.optim.Adam(groups, lr=1)',
            "its parameter groups may have a lr of their own",
        ),
        (
            "class Config:\n    lr: float = 1e-2\n\ncfg = Config(0.3)\n"
            "optimizer = torch.optim.Adam(net.parameters(), lr=cfg.lr)",
            "Config(...) may be given another lr",
        ),
        ("a = torch.optim.Adam(x, lr=1); b = torch.optim.Adam(y, lr=1)", "builds several optimizers"),
        ("optimizer = torch.optim.Adam(net.parameters(), lr=0x10 + 1)", "is not a plain number"),
        ("LR = 0x10\noptimizer = torch.optim.Adam(net.parameters(), lr=LR)", "is not a decimal number"),
    ],
)
def test_what_is_not_certain_is_refused(edit, body: str, reason: str) -> None:
    assert reason in edit.refused(body, "optim", RATE, amount=0.1)


@pytest.mark.parametrize("given", ["--lr=0.1", "--lr", "-l", "-l0.1"])
def test_a_rate_of_the_command_line_is_not_in_the_file(edit, given: str) -> None:
    body = """
    parser.add_argument("--lr", "-l", type=float, default=1e-2)
    args = parser.parse_args()
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    """
    assert "was given on the command line" in edit.refused(body, "optim", RATE, (given, "0.1"), amount=0.1)
    assert edit(body, "optim", RATE, ("--epochs", "3"), amount=0.1)


@pytest.mark.parametrize("amount", [None, 0.0, -1.0, 1.0])
def test_without_a_factor_there_is_no_edit(edit, amount: float | None) -> None:
    assert edit.refused("o = torch.optim.Adam(x, lr=1)", "optim", RATE, amount=amount) == "the factor is not known"


def test_groups_that_all_have_a_rate_need_no_other(edit) -> None:
    body = 'o = torch.optim.Adam([{"params": a, "lr": 1e-2}, {"params": b, "lr": 1e-4}])'
    assert edit(body, "optim", RATE, amount=0.1)[1] == (
        '+o = torch.optim.Adam([{"params": a, "lr": 1e-3}, {"params": b, "lr": 1e-5}])'
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (MADE + "make(net, 0.5)", ["-make(net, 0.5)", "+make(net, 0.05)"]),
        (MADE + "make(net, lr=0.5)", ["-make(net, lr=0.5)", "+make(net, lr=0.05)"]),
        (MADE + "RATE = 0.5\nmake(net, lr=RATE)", ["-RATE = 0.5", "+RATE = 0.05"]),
        (
            TRAINER + "Trainer(net)",
            ["-    def __init__(self, net, lr=1e-2):", "+    def __init__(self, net, lr=1e-3):"],
        ),
        (TRAINER + "Trainer(net, 3e-2).fit()", ["-Trainer(net, 3e-2).fit()", "+Trainer(net, 3e-3).fit()"]),
    ],
)
def test_a_parameter_is_followed_to_the_only_call(edit, body: str, expected: list[str]) -> None:
    assert edit(body, "optim", RATE, amount=0.1) == expected
