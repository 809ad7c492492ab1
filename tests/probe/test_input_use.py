"""Learning with the inputs and without them, from the same weights with the same targets."""

from __future__ import annotations

import pytest

SCRIPT = """
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x = torch.randn(256, 6)
data = TensorDataset(x, (x[:, 0] > 0).long() + (x[:, 1] > 1).long())
loader = DataLoader(data, batch_size=32, shuffle=True)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3))
    def forward(self, x):
        return FORWARD

net = Net()
nn.init.zeros_(net.net[2].weight)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
for epoch in range(200):
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
"""


def run(zygote, forward, script=SCRIPT):
    return zygote.probe(script.replace("FORWARD", forward), steps=8, experiments=True, parts=("input_use",))


def test_inputs_that_are_used(zygote):
    part = run(zygote, "self.net(x)")["input_use"]
    assert (part.samples, part.steps, part.changed_inputs, part.examined) == (32, 30, 1, 29)
    assert part.output_change > 0.1
    assert part.real[0] == pytest.approx(part.constant[0])  # the head starts at zero
    assert part.real[-1] < 0.7 * part.constant[-1]
    assert part.same_targets is True
    assert part.distinct_targets is True


@pytest.mark.parametrize("forward", ["self.net(0 * x)", "self.net(x - x)", "self.net(torch.ones_like(x))"])
def test_inputs_that_are_lost(zygote, forward):
    part = run(zygote, forward)["input_use"]
    assert part.output_change == 0
    assert part.real == part.constant
    assert part.real[-1] < part.real[0]


def test_shuffled_rows_are_inputs_that_do_not_help(zygote):
    part = run(zygote, "self.net(x[torch.randperm(len(x))])")["input_use"]
    assert part.steps == 120
    assert part.output_change > 0.01
    assert sum(part.constant[-40:]) < 1.05 * sum(part.real[-40:])


IN_MODEL = SCRIPT.replace(
    "def forward(self, x):\n        return FORWARD", "def forward(self, x, labels):\n        FORWARD"
)
IN_MODEL = IN_MODEL.replace("F.cross_entropy(net(x), y)", "CALL")


@pytest.mark.parametrize("call", ["net(x, y)", "net(x, labels=y)", "net(x=x, labels=y)"])
def test_targets_given_to_the_model_stay(zygote, call):
    part = run(zygote, "return F.cross_entropy(self.net(x), labels)", IN_MODEL.replace("CALL", call))["input_use"]
    assert part.changed_inputs == 1
    assert part.same_targets is True
    assert part.real[-1] < 0.7 * part.constant[-1]


def test_an_autoencoder_makes_its_targets_from_its_inputs(zygote):
    forward = "return F.mse_loss(nn.functional.pad(self.net(x), (0, 3)), x)"
    part = run(zygote, forward, IN_MODEL.replace("CALL", "net(x, None)"))["input_use"]
    assert part.same_targets is False


def test_tokens(zygote):
    script = SCRIPT.replace("x = torch.randn(256, 6)", "x = torch.randint(0, 9, (256, 6))")
    script = script.replace("nn.Linear(6, 32)", "nn.EmbeddingBag(9, 32)").replace("(x[:, 0] > 0)", "(x[:, 0] > 4)")
    part = run(zygote, "self.net(x)", script)["input_use"]
    assert part.real[-1] < 0.9 * part.constant[-1]


def test_a_loss_by_hand_and_no_batch(zygote):
    script = SCRIPT.replace("F.cross_entropy(net(x), y)", "net(x).square().mean()")
    assert run(zygote, "self.net(x)", script)["input_use"].constant == ()
    script = SCRIPT.replace("batch_size=32", "batch_size=1")
    assert run(zygote, "self.net(x)", script).absent("input_use").startswith("inconclusive")


def test_lengths_that_follow_from_the_inputs_do_not_break_the_loop(zygote):
    padded = "torch.randn(256, 6) * (torch.arange(6) < torch.arange(256)[:, None] % 6 + 1)"
    script = SCRIPT.replace("torch.randn(256, 6)", padded).replace("shuffle=True", "shuffle=False")
    seen = run(zygote, "self.net(x)[:, : int((x != 0).sum(1).max())]", script)
    part = seen["input_use"]
    assert seen.exit_code == 0
    assert "shape" in part.refused
    assert part.constant == ()
    assert part.output_change > 0


def test_one_of_two_inputs_without_effect(zygote):
    script = SCRIPT.replace("def forward(self, x):", "def forward(self, x, other):").replace(
        "net(x), y", "net(x, x.flip(0)), y"
    )
    part = run(zygote, "self.net(x)", script)["input_use"]
    assert [(each.name, each.shape) for each in part.ignored] == [("other", (32, 6))]
    assert run(zygote, "self.net(x + other)", script)["input_use"].ignored == ()


SEQUENCES = SCRIPT.replace("x = torch.randn(256, 6)", "x = torch.randn(256, 12, 6)").replace("x[:, 0]", "x[:, 0, 0]")
SEQUENCES = SEQUENCES.replace("x[:, 1]", "x[:, 0, 1]")


@pytest.mark.parametrize(
    ("forward", "read"),
    [
        ("self.net(sum(x[:, 0] for t in range(x.shape[1])))", [((32, 12, 6), 1, (0,))]),
        ("self.net(x[:, -1])", [((32, 12, 6), 1, (11,))]),
        ("self.net(x.mean(1))", []),
        ("self.net(x[:, 6:].mean(1))", []),  # half of it
    ],
)
def test_steps_that_are_not_read(zygote, forward, read):
    part = run(zygote, forward, SEQUENCES)["input_use"]
    assert [(each.shape, each.axis, each.read) for each in part.unread] == read


CODES = """
        codes = CODES
        return self.net(x[:, 1:] + self.table(codes[:, 0]))
"""


@pytest.mark.parametrize(
    ("codes", "given", "found"),
    [
        ("x.sigmoid().long()", "x", [("table", 9, 0)]),
        ("(4 * x.sigmoid()).long()", "x", []),
        ("x.sigmoid().long()", "x, y", []),  # integers among the arguments
    ],
)
def test_embeddings_that_are_asked_for_one_row(zygote, codes, given, found):
    script = SCRIPT.replace("        return FORWARD\n", CODES.replace("CODES", codes)).replace(
        "nn.Linear(6", "nn.Linear(5"
    )
    script = script.replace("        self.net =", "        self.table = nn.Embedding(9, 5)\n        self.net =")
    script = script.replace("def forward(self, x)", "def forward(self, x, y=None)").replace("net(x)", f"net({given})")
    script = script.replace("self.net(x, y)", "self.net(x)")
    part = run(zygote, "", script)["input_use"]
    assert [(each.name, each.rows, each.lowest) for each in part.one_row] == found
