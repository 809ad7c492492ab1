"""A sample's output is compared with itself in other company, where it is certain what a sample is."""

from __future__ import annotations

import pytest

SCRIPT = """
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
data = TensorDataset(torch.randn(120, 7, 5), torch.randint(0, 3, (120,)))
loader = DataLoader(data, batch_size=12, shuffle=True)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        INIT
        self.head = nn.Linear(5, 3)
    def forward(self, x):
        FORWARD

net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
for epoch in range(40):
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
"""


def run(zygote, forward, init="pass"):
    script = SCRIPT.replace("INIT", init).replace("FORWARD", forward)
    return zygote.probe(script, steps=6, experiments=True, parts=("cross_sample",))


@pytest.mark.parametrize(
    ("forward", "init"),
    [
        ("return self.head(x.mean(1))", "pass"),
        ("return self.head(self.norm(x.mean(1)))", "self.norm = nn.BatchNorm1d(5)"),
        ("return self.head(self.lstm(x)[0][:, -1])", "self.lstm = nn.LSTM(5, 5, batch_first=True)"),
        ("return self.head(F.dropout(x, 0.5).mean(1))", "pass"),
        ("return self.head(x.transpose(0, 1).mean(0))", "pass"),
    ],
)
def test_independent_samples(zygote, forward, init):
    part = run(zygote, forward, init)["cross_sample"]
    assert (part.batch_size, part.replaced, part.mixing) == (12, 4, 0)
    assert part.moved <= part.noise < 1e-3
    assert part.own > 0.01


def test_a_recurrent_layer_with_the_sequence_first(zygote):
    part = run(zygote, "return self.head(self.lstm(x)[0][:, -1])", "self.lstm = nn.LSTM(5, 5)")["cross_sample"]
    assert (part.mixing, part.layer, part.layer_kind, part.sequence_first) == (4, "lstm", "LSTM", True)
    assert part.swap_error > 1e-3


def test_view_instead_of_transpose(zygote):
    part = run(zygote, "x = x.view(5, 12, 7) if len(x) == 12 else x.view(5, -1, 7); return self.head(x.mean(2).T)")[
        "cross_sample"
    ]
    assert part.mixing == 4
    assert part.swap_error > 1e-2


@pytest.mark.parametrize(
    ("forward", "through"),
    [
        ("return self.head((x * x.sum(2, keepdim=True).softmax(0)).mean(1))", "softmax"),
        ("return self.head((x - x.mean(0)).mean(1))", "mean"),
        ("return self.head((x / x.std()).mean(1))", "std"),
        ("q = x.mean(1); return self.head((q @ q.T).softmax(1) @ q)", ""),
    ],
)
def test_what_mixes_all_samples_alike(zygote, forward, through):
    part = run(zygote, forward)["cross_sample"]
    assert (part.mixing, part.through) == (4, through)
    assert part.swap_error < 1e-4
    assert part.others > 0.9


def test_norms_without_running_statistics_are_named(zygote):
    init = "self.norm = nn.BatchNorm1d(5, track_running_stats=False)"
    assert run(zygote, "return self.head(self.norm(x.mean(1)))", init)["cross_sample"].batch_statistics == ("norm",)


def test_tables_of_similarities_are_no_outputs_of_one_sample(zygote):
    seen = run(zygote, "q = self.head(x.mean(1)); return q @ q.T")
    assert seen.absent("cross_sample").startswith("not-applicable")


def test_the_loop_is_not_disturbed(zygote):
    script = SCRIPT.replace("INIT", "self.norm = nn.BatchNorm1d(5)")
    script = script.replace("FORWARD", "return self.head(self.norm(F.dropout(x).mean(1)))")
    script += "    note(loss=loss.item())\n"
    both = [zygote.probe(script, steps=300, experiments=True, parts=("cross_sample",)), zygote.bare(script)]
    assert both[0].notes == both[1].notes[: len(both[0].notes)]


TENSORS = """
import torch
from torch import nn
net = nn.Linear(4, 2)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
x, y = torch.randn(64, 4), torch.randint(0, 2, (64,))
for step in range(200):
    rows = torch.randint(0, 64, (16,))
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    "script",
    [
        TENSORS,
        SCRIPT.replace("INIT", "pass").replace("FORWARD", "return self.head(x.mean(1))").replace("7, 5)", "12, 5)"),
        SCRIPT.replace("INIT", "pass").replace("FORWARD", "return self.head(x.mean(1))").replace("size=12", "size=1"),
    ],
    ids=["no loader", "two dimensions alike", "single samples"],
)
def test_where_it_is_not_certain_what_a_sample_is(zygote, script):
    seen = zygote.probe(script, steps=6, experiments=True, parts=("cross_sample",))
    assert seen.absent("cross_sample").startswith("not-applicable")


INDEXED = """
import torch
from torch import nn
torch.manual_seed(0)
x, y = torch.randn(120, 7, 5), torch.randn(120)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 6, batch_first=FIRST)
        self.head = nn.Linear(6, 1)
    def forward(self, x):
        FORWARD

net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
for epoch in range(40):
    for rows in torch.randperm(120).split(12):
        optimizer.zero_grad()
        loss = ((net(x[rows]) - y[rows]) ** 2).mean()
        loss.backward()
        optimizer.step()
"""


def indexed(zygote, first, forward="return self.head(self.lstm(x)[0].mean(1)).squeeze(1)"):
    script = INDEXED.replace("FIRST", first).replace("FORWARD", forward)
    return zygote.probe(script, steps=6, experiments=True, parts=("cross_sample", "step_repeats"))


def test_rows_that_are_indexed_are_samples_too(zygote):
    seen = indexed(zygote, "True")
    assert (seen["cross_sample"].batch_size, seen["cross_sample"].mixing) == (12, 0)
    mixed = indexed(zygote, "False")["cross_sample"]
    assert (mixed.mixing, mixed.sequence_first) == (4, True)


def test_rows_that_a_layer_takes_for_one_sequence_are_none(zygote):
    seen = indexed(zygote, "True", "return self.head(self.lstm(x.mean(1))[0]).squeeze(1)")
    assert seen.absent("cross_sample").startswith("not-applicable")


def test_a_loss_by_hand_over_indexed_rows_is_replayed(zygote):
    """The targets come from a shuffle that no rewinding brings back: they are put in their places."""
    assert indexed(zygote, "True")["step_repeats"]


@pytest.mark.parametrize(
    ("forward", "init", "placed"),
    [
        ("return self.head((x + self.pe[: len(x)]).mean(1))", 'self.register_buffer("pe", torch.randn(50, 1, 5))', 1.0),
        ("return self.head((x + self.pe[: x.size(1)]).mean(1))", 'self.register_buffer("pe", torch.randn(50, 5))', 0.0),
        ("return self.head(x.mean(1) + self.pos(torch.arange(len(x))))", "self.pos = nn.Embedding(40, 5)", 1.0),
        # dealt out among experts by place: another half is another deal
        ("a, b = x.mean(1).chunk(2); return torch.cat([self.head(a), -self.head(b)])", "pass", 0.0),
    ],
)
def test_the_place_in_the_batch(zygote, forward, init, placed):
    part = run(zygote, forward, init)["cross_sample"]
    assert part.mixing == 0
    assert part.placed == pytest.approx(placed)
    assert (part.place_error > 1e-2) == bool(placed)


def test_a_state_kept_by_place_is_not_asked(zygote):
    init = "self.rnn = nn.GRU(5, 5, batch_first=True); self.h = None"
    part = run(zygote, "out, h = self.rnn(x, self.h); self.h = h.detach(); return self.head(out[:, -1])", init)
    assert part["cross_sample"].placed is None


def test_without_shuffling_a_place_may_mean_something(zygote):
    init = 'self.register_buffer("pe", torch.randn(50, 1, 5))'
    script = SCRIPT.replace("shuffle=True", "shuffle=False").replace("INIT", init)
    script = script.replace("FORWARD", "return self.head((x + self.pe[: len(x)]).mean(1))")
    part = zygote.probe(script, steps=6, experiments=True, parts=("cross_sample",))["cross_sample"]
    assert part.placed is None
