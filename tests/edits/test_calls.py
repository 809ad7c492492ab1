"""Calls that are left out, and arguments that are set."""

from __future__ import annotations

import pytest

from auditor.evidence import RemedyKind

LEAVE_OUT, SHUFFLE, LEAKY = RemedyKind.LEAVE_OUT, RemedyKind.SHUFFLE, RemedyKind.LEAKY_UNITS
WEIGHTS, DROPOUT, PENALTY = RemedyKind.CLASS_WEIGHTS, RemedyKind.NO_DROPOUT, RemedyKind.NO_PENALTY
PRECISION, CAUSAL = RemedyKind.FULL_PRECISION, RemedyKind.CAUSAL_MASK

# ---------------------------------------------------------------------------------------------------------- leave out


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("out = F.softmax(logits, dim=1)", "out = logits"),
        ("out = F.softmax(logits, dim=1)  # probabilities", "out = logits  # probabilities"),
        ("out = torch.softmax(input=logits, dim=1)", "out = logits"),
        ("out = logits.softmax(-1)", "out = logits"),
        ("out = net(x)[0].softmax(dim=-1) * 2", "out = net(x)[0] * 2"),
        ("out = (a + b).softmax(-1) * 2", "out = (a + b) * 2"),
        ("out = F.softmax(a + b, dim=1)", "out = a + b"),
        ("out = 2 * F.softmax(a + b, dim=1)", "out = 2 * (a + b)"),
        ("loss = criterion(F.softmax(a + b, dim=1), y)", "loss = criterion(a + b, y)"),
        ("out = nn.Softmax(dim=1)(logits)", "out = logits"),
        ("loss = F.cross_entropy(model(x).softmax(1), y)", "loss = F.cross_entropy(model(x), y)"),
        ("@torch.no_grad()\ndef f(x): return F.softmax(x, 1)", "def f(x): return x"),
    ],
)
def test_a_call_gives_way_to_its_input(edit, before: str, after: str) -> None:
    rows = edit(before, "softmax" if "softmax" in before else "Softmax", LEAVE_OUT, subject="softmax")
    assert rows == [f"-{before.splitlines()[-1]}", f"+{after}"]


@pytest.mark.parametrize(
    ("subject", "before", "after"),
    [
        ("sigmoid", "p = torch.sigmoid(x)", "p = x"),
        ("relu", "return_ = F.relu(self.fc(x))", "return_ = self.fc(x)"),
        ("log_softmax", "p = F.log_softmax(x, -1)", "p = x"),
        ("tanh", "p = x.tanh()", "p = x"),
    ],
)
def test_other_functions(edit, subject: str, before: str, after: str) -> None:
    assert edit(before, subject, LEAVE_OUT, subject=subject) == [f"-{before}", f"+{after}"]


def test_an_imported_function(bare) -> None:
    body = "from torch.nn.functional import softmax as sm\np = sm(x, 1)\n"
    assert bare(body, "p =", LEAVE_OUT, subject="softmax") == ["-p = sm(x, 1)", "+p = x"]


MODULE = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.out = nn.Softmax(dim=1)

    def forward(self, x):
        x = self.fc(x)
        x = self.out(x)  # probabilities
        y = self.out(x)
        return y
"""


def test_a_module_by_the_attribute_that_holds_it(edit) -> None:
    assert edit(MODULE, "y = self.out", LEAVE_OUT, subject="softmax") == [
        "-        y = self.out(x)",
        "+        y = x",
    ]


def test_an_assignment_to_itself_goes_as_a_whole(edit) -> None:
    assert edit(MODULE, "x = self.out", LEAVE_OUT, subject="softmax") == [
        "-        x = self.out(x)  # probabilities",
    ]


SEQUENTIAL = """
model = nn.Sequential(
    nn.Linear(3, 3),
    nn.ReLU(),
    nn.Softmax(dim=1),  # probabilities
)
out = model(x)
"""


@pytest.mark.parametrize("at", ["nn.Softmax", "nn.Linear", "out = model"])
def test_the_last_module_of_a_sequential(edit, at: str) -> None:
    assert edit(SEQUENTIAL, at, LEAVE_OUT, subject="softmax") == ["-    nn.Softmax(dim=1),  # probabilities"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("m = nn.Sequential(a, nn.Softmax(1))", "m = nn.Sequential(a)"),
        ("m = nn.Sequential(a, nn.Softmax(1),)", "m = nn.Sequential(a,)"),
        ("m = nn.Sequential(a,\n    nn.Softmax(1))", "m = nn.Sequential(a)"),
    ],
)
def test_the_last_module_on_a_line_with_others(edit, before: str, after: str) -> None:
    rows = edit(before, "m =", LEAVE_OUT, subject="softmax")
    assert [row[1:] for row in rows if row[0] == "+"] == [after]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("p = F.softmax(F.softmax(x, 1), 1)", "is called 2 times"),
        ("p = my_softmax(x)", "no call of softmax"),
        ("p = self.softmax(x)", "no call of softmax"),
        ("p = F.softmax(*given)", "no call of softmax"),
        ("m = nn.Sequential(nn.Softmax(1), nn.Linear(3, 3))", "no call of softmax"),
        ("m = nn.Sequential(nn.Softmax(1))", "not the last of several"),
        ("m = nn.Sequential(*layers, nn.Softmax(1), nn.Softmax(1))", "no call of softmax"),
    ],
)
def test_leaving_out_is_refused(edit, body: str, reason: str) -> None:
    assert reason in edit.refused(body, "=", LEAVE_OUT, subject="softmax")
    assert edit.refused(body, "=", LEAVE_OUT) == "which function it is is not known"


# ------------------------------------------------------------------------------------------------------------ shuffle


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("loader = DataLoader(data, batch_size=8)", "loader = DataLoader(data, batch_size=8, shuffle=True)"),
        ("loader = DataLoader(data, 8, shuffle=False)", "loader = DataLoader(data, 8, shuffle=True)"),
        ("loader = DataLoader(data, 8, False)", "loader = DataLoader(data, 8, True)"),
        ("loader = DataLoader(data, batch_size=8,)", "loader = DataLoader(data, batch_size=8, shuffle=True)"),
    ],
)
def test_a_loader_shuffles(edit, before: str, after: str) -> None:
    assert edit(before, "loader", SHUFFLE) == [f"-{before}", f"+{after}"]


def test_an_argument_gets_a_line_where_the_others_have_one(edit) -> None:
    body = "loader = torch.utils.data.DataLoader(\n\tdata,\n\tbatch_size=8,  # small\n)\n"
    assert edit(body, "loader", SHUFFLE) == ["+\tshuffle=True,"]
    body = "loader = DataLoader(\n    data,\n    batch_size=8  # small\n)\n"
    assert edit(body, "loader", SHUFFLE) == [
        "-    batch_size=8  # small",
        "+    batch_size=8,  # small",
        "+    shuffle=True",
    ]
    body = "loader = DataLoader(data,\n                    batch_size=8)\n"
    assert edit(body, "batch_size", SHUFFLE) == [
        "-                    batch_size=8)",
        "+                    batch_size=8, shuffle=True)",
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("loader = DataLoader(data, sampler=s)", "has a sampler"),
        ("loader = DataLoader(data, batch_sampler=s)", "has a batch_sampler"),
        ("loader = DataLoader(data, shuffle=True)", "shuffles already"),
        ("loader = DataLoader(data, shuffle=args.shuffle)", "decided by `args.shuffle`"),
        ("loader = DataLoader(data, **options)", "** arguments may hold"),
        ("loader = make_loader(data)", "no DataLoader is built"),
        ("loader = DataLoader(IterableDataset())", "a stream"),
        ("loader = DataLoader(a), DataLoader(b)", "several loaders"),
    ],
)
def test_shuffling_is_refused(edit, body: str, reason: str) -> None:
    assert reason in edit.refused(body, "loader", SHUFFLE)


# ---------------------------------------------------------------------------------------------------- smaller changes


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        (LEAKY, "net = nn.Sequential(a, nn.ReLU(), b)", "net = nn.Sequential(a, nn.LeakyReLU(0.01), b)"),
        (LEAKY, "act = nn.ReLU(inplace=True)", "act = nn.LeakyReLU(0.01, inplace=True)"),
        (LEAKY, "x = F.relu(fc(x))", "x = F.leaky_relu(fc(x), 0.01)"),
        (LEAKY, "x = torch.relu(fc(x))", "x = F.leaky_relu(fc(x), 0.01)"),
        (DROPOUT, "drop = nn.Dropout(0.9)", "drop = nn.Dropout(0.0)"),
        (DROPOUT, "drop = nn.Dropout(p=0.9)", "drop = nn.Dropout(p=0.0)"),
        (DROPOUT, "drop = nn.Dropout2d()", "drop = nn.Dropout2d(0.0)"),
        (DROPOUT, "x = F.dropout(x, 0.9, training=t)", "x = F.dropout(x, 0.0, training=t)"),
        (DROPOUT, "b = nn.LSTM(8, 2, dropout=0.5)", "b = nn.LSTM(8, 2, dropout=0.0)"),
        (PENALTY, "o = torch.optim.SGD(p(), 1, weight_decay=1e-2)", "o = torch.optim.SGD(p(), 1, weight_decay=0.0)"),
        (PENALTY, "o = torch.optim.AdamW(p(), lr=0.1)", "o = torch.optim.AdamW(p(), lr=0.1, weight_decay=0.0)"),
        (PRECISION, "model = Net().half()  # fast", "model = Net()  # fast"),
        (PRECISION, "model = Net().cuda().bfloat16()", "model = Net().cuda()"),
        (
            CAUSAL,
            "y = F.scaled_dot_product_attention(q, k, v)",
            "y = F.scaled_dot_product_attention(q, k, v, is_causal=True)",
        ),
        (
            CAUSAL,
            "y = F.scaled_dot_product_attention(q, k, v, is_causal=False)",
            "y = F.scaled_dot_product_attention(q, k, v, is_causal=True)",
        ),
    ],
)
def test_one_line_changes(edit, kind: RemedyKind, before: str, after: str) -> None:
    assert edit(before, before[:5], kind) == [f"-{before}", f"+{after}"]


def test_the_classes_are_weighted(edit) -> None:
    assert edit("loss = nn.CrossEntropyLoss()", "loss", WEIGHTS, values=(0.51234, 12.0)) == [
        "-loss = nn.CrossEntropyLoss()",
        "+loss = nn.CrossEntropyLoss(weight=torch.tensor([0.512, 12.0]))",
    ]
    body = "criterion = nn.CrossEntropyLoss(label_smoothing=0.1)\nloss = criterion(model(x), y)"
    assert edit(body, "loss =", WEIGHTS, values=(1, 2))[-1] == (
        "+criterion = nn.CrossEntropyLoss(label_smoothing=0.1, weight=torch.tensor([1.0, 2.0]))"
    )


def test_all_units_of_a_model_leak(edit) -> None:
    body = "class Net:\n    def forward(self, x):\n        x = F.relu(a(x))\n        return F.relu(b(x))\n"
    assert len(edit(body, "x = F", LEAKY)) == 4
    assert len(edit(body, "x = F", LEAKY, layers=("a",))) == 2


def test_a_cast_on_a_line_of_its_own_goes(edit) -> None:
    assert edit("model = Net()\nmodel.half()\n", "half", PRECISION) == ["-model.half()"]


def test_a_probability_that_has_a_name(edit) -> None:
    assert edit("P = 0.9\ndrop = nn.Dropout(P)", "drop", DROPOUT) == ["-P = 0.9", "+P = 0.0"]


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        (LEAKY, "x = act(x)", "no ReLU"),
        (LEAKY, "x = F.relu(x)\ndef f(): return F.relu(x)", "in other classes or functions as well"),
        (LEAKY, "x = F.relu(x, True)", "more than its input"),
        (LEAKY, "x = nn.ReLU(True)", "without a keyword"),
        (WEIGHTS, "x = nn.CrossEntropyLoss()", "were not measured"),
        (DROPOUT, "x = nn.Dropout(0.0)", "zero already"),
        (DROPOUT, "x = nn.Dropout(args.p)", "`args.p` is not defined in this file"),
        (DROPOUT, "x = nn.Linear(3, 3)", "no dropout"),
        (PENALTY, "x = torch.optim.SGD(p(), lr=1)", "no weight decay"),
        (PENALTY, "x = torch.optim.SGD(p(), lr=1, weight_decay=0)", "no weight decay"),
        (PRECISION, "x = Net().half()\ny = y.half()", "other lines use low precision"),
        (
            PRECISION,
            "x = Net().half()\nwith torch.autocast(dtype=torch.float16): pass",
            "other lines use low precision",
        ),
        (PRECISION, "x = Net()", "no model is cast"),
        (CAUSAL, "x = F.scaled_dot_product_attention(q, k, v, mask)", "has a mask already"),
        (CAUSAL, "x = F.scaled_dot_product_attention(q, k, v, is_causal=c)", "decided elsewhere"),
        (CAUSAL, "x = attend(q, k, v)", "not one call"),
        (RemedyKind.WARM_UP, "x = 1", "a warm-up needs a scheduler"),
        (RemedyKind.REINITIALIZE, "x = 1", "where the model is built"),
        (RemedyKind.STANDARDIZE_TARGETS, "x = 1", "scaled back"),
        (RemedyKind.HOLD_RATE, "x = 1", "steps that it really takes"),
    ],
)
def test_refusals(edit, kind: RemedyKind, body: str, reason: str) -> None:
    assert reason in edit.refused(body, "x =", kind)


@pytest.mark.parametrize("body", ["x = nn.CrossEntropyLoss()\nnet.to(device)", "x = nn.CrossEntropyLoss(weight=w)"])
def test_weights_are_refused(edit, body: str) -> None:
    assert edit.refused(body, "x =", WEIGHTS, values=(1, 2))
