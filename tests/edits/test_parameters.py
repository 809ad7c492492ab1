"""What an optimizer is given, and layers that a model does not know of."""

from __future__ import annotations

import pytest

from auditor.evidence import RemedyKind

ADD = RemedyKind.ADD_PARAMETERS
TWO = """
class Encoder(nn.Module): ...
class Decoder(nn.Module): ...
encoder, decoder = Encoder(), Decoder()
opt = torch.optim.Adam({}, lr=1e-3)
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("encoder.parameters()", "list(encoder.parameters()) + list(decoder.parameters())"),
        (
            "list(encoder.parameters()) + list(head.parameters())",
            "list(encoder.parameters()) + list(head.parameters()) + list(decoder.parameters())",
        ),
    ],
)
def test_a_model_that_was_forgotten(edit, before: str, after: str) -> None:
    rows = edit(TWO.format(before), "opt =", ADD, subject="Decoder")
    assert rows[1] == f"+opt = torch.optim.Adam({after}, lr=1e-3)"


def test_a_model_of_which_a_part_was_given(edit) -> None:
    body = "opt = torch.optim.SGD(self.net.head.parameters(), lr=1)\nout = self.net(x)\n"
    assert edit(body, "opt =", ADD, subject="body")[1] == "+opt = torch.optim.SGD(self.net.parameters(), lr=1)"


def test_an_optimizer_moves_behind_the_change_of_its_model(edit) -> None:
    body = "model = Net()\nopt = torch.optim.SGD(\n    model.parameters(), lr=1\n)\nmodel.fc = nn.Linear(3, 2)\nx = 1\n"
    # The shortest diff of that move.
    assert edit(body, "opt =", ADD) == ["+model.fc = nn.Linear(3, 2)", "-model.fc = nn.Linear(3, 2)"]
    used = body.replace("model.fc =", "scheduler = Schedule(opt)\nmodel.fc =")
    assert "used before" in edit.refused(used, "opt =", ADD)


KEPT = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = {}
"""


def test_layers_in_a_list_are_registered(edit) -> None:
    rows = edit(KEPT.format("[Block() for _ in range(3)]"), "blocks =", ADD, subject="Net.blocks")
    assert rows[1] == "+        self.blocks = nn.ModuleList([Block() for _ in range(3)])"


@pytest.mark.parametrize(
    ("body", "subject", "reason"),
    [
        (KEPT.format("make()"), "Net.blocks", "not one list"),
        (KEPT.format("[a]"), "Other.blocks", "class Other is not in this file"),
        (TWO.format("encoder.parameters()") + "again = Decoder()\n", "Decoder", "no certain name"),
        (TWO.format("gather(encoder)"), "Decoder", "several ways"),
        (TWO.format("[{'params': encoder.parameters()}]"), "Decoder", "several ways"),
        (TWO.format("params=encoder.parameters()"), "Decoder", "not certain"),
        ("opt = torch.optim.SGD(model.parameters(), lr=1)", "", "a part of is not certain"),
        ("opt = torch.optim.SGD(self.head.parameters(), lr=1)", "", "a part of is not certain"),
    ],
)
def test_refusals(edit, body: str, subject: str, reason: str) -> None:
    assert reason in edit.refused(body, "blocks =" if "blocks" in body else "opt =", ADD, subject=subject)
