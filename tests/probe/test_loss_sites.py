"""What losses receive, and how they add up, against what plain torch says about the same tensors."""

from __future__ import annotations

import math

import pytest

approx = pytest.approx

LOOP = """
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x = torch.randn(96, 5)
y = TARGET
net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), HEAD)
loader = DataLoader(TensorDataset(x, y), batch_size=8)
optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
for epoch in range(2):
    for xb, yb in loader:
        out = net(xb)
        loss = LOSS
        note(out=out.detach().tolist(), target=yb.tolist(), loss=loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
REAL = "torch.randn(96)"
CLASSES = "torch.randint(0, 3, (96,))"


def sites(zygote, target, head, loss, **changes):
    script = LOOP.replace("TARGET", target).replace("HEAD", head).replace("LOSS", loss)
    for name, value in changes.items():
        script = script.replace(name, value)
    seen = zygote.probe(script, steps=12, parts=("loss_sites", "program"))
    return seen["loss_sites"], seen


def only(part, function):
    (site,) = [site for site in part.sites if site.function == function]
    return site


def test_a_regression_loss(zygote):
    part, seen = sites(zygote, REAL, "nn.Linear(6, 1), nn.ReLU(), nn.Flatten(0)", "F.mse_loss(out, yb)")
    site = only(part, "mse_loss")
    targets = [value for step in (0, 1, 2, 9) for value in seen.noted("target")[step]]
    outputs = [value for step in (0, 1, 2, 9) for value in seen.noted("out")[step]]
    assert (site.calls, site.broadcasts, site.input_shape, site.target_shape) == (4, 0, (8,), (8,))
    assert (site.operation, site.lower, site.upper) == ("ReluBackward0", 0.0, None)
    assert (site.targets, site.outside) == (32, sum(value < 0 for value in targets))
    mean = sum(targets) / 32
    variance = sum((value - mean) ** 2 for value in targets) / 32
    below = sum(min(value, 0) ** 2 for value in targets) / 32
    assert site.target_mean == approx(mean, rel=1e-5)
    assert site.unreachable == approx(below / variance, rel=1e-4)
    assert (site.target_min, site.target_max) == (approx(min(targets)), approx(max(targets)))
    assert (site.input_min, site.input_max) == (approx(min(outputs)), approx(max(outputs)))
    assert [(term.kind, term.factor) for term in part.terms] == [("mean", 1.0)]
    assert (part.batch_size, part.covered) == (8, True)


@pytest.mark.parametrize(
    ("head", "bounds"),
    [
        ("nn.Linear(6, 1), nn.Sigmoid()", (0.0, 1.0)),
        ("nn.Linear(6, 1), nn.Tanh()", (-1.0, 1.0)),
        ("nn.Linear(6, 1), nn.Softplus()", (0.0, None)),
        ("nn.Linear(6, 1), nn.Hardtanh(-2, 3)", (-2.0, 3.0)),
        ("nn.Linear(6, 1), nn.ReLU6()", (0.0, 6.0)),
        ("nn.Linear(6, 1), nn.ELU(0.5)", (-0.5, None)),
        ("nn.Linear(6, 1), nn.LeakyReLU()", (None, None)),
        ("nn.Linear(6, 1)", (None, None)),
    ],
)
def test_bounds_of_the_last_operation_and_shapes_that_spread(zygote, head, bounds):
    part, _ = sites(zygote, REAL, head, "F.mse_loss(out, yb)")
    site = only(part, "mse_loss")
    assert (site.lower, site.upper) == bounds
    assert (site.broadcasts, site.input_shape, site.target_shape) == (4, (8, 1), (8,))


def test_the_line_of_the_activation(zygote):
    part, _ = sites(zygote, REAL, "nn.Linear(6, 1), nn.Sigmoid()", "F.mse_loss(out.squeeze(1), yb)")
    site = only(part, "mse_loss")
    assert (site.operation_layer, site.operation_location.line) == ("3", 9)


def test_differences_written_by_hand(zygote):
    part, _ = sites(zygote, REAL, "nn.Linear(6, 1), nn.Tanh()", "0.5 * ((out - yb) ** 2).mean()")
    site = only(part, "-")
    assert (site.calls, site.broadcasts) == (2, 2)
    assert (site.lower, site.upper) == (-1.0, 1.0)
    assert site.outside > 0
    assert [(term.kind, term.factor) for term in part.terms] == [("mean", 0.5)]
    assert not part.covered


@pytest.mark.parametrize(
    "loss",
    [
        "((out.squeeze(1) - yb) ** 2).mean()",
        "((out.squeeze(1)[:, None] - yb) ** 2).mean()",  # all pairs on purpose
        "((out - yb.unsqueeze(1)) ** 2).mean()",
        "((out - yb.mean()) ** 2).mean()",
        "((out - yb[:1]) ** 2).mean()",
        "(out - torch.linspace(0, 1, 5)).abs().mean()",
    ],
)
def test_shapes_that_fit(zygote, loss):
    part, _ = sites(zygote, REAL, "nn.Linear(6, 1)", loss)
    assert all(site.broadcasts == 0 for site in part.sites)


BIASED = """
class Biased(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 1), nn.Linear(5, 1)
    def forward(self, x):
        return TERMS
net = Biased()
loader ="""


@pytest.mark.parametrize(
    ("terms", "calls"),
    [
        ("self.a(x).squeeze(1) + self.b(x)", 2),
        ("self.a(x).squeeze(1) * self.b(x)", 2),
        ("self.a(x) @ self.b(x).T", 0),  # pairs that are meant
        ("self.a(x).squeeze(1) + self.b(x).squeeze(1)", 0),
    ],
)
def test_terms_that_spread_inside_the_model(zygote, terms, calls):
    model = BIASED.replace("TERMS", terms)
    part, _ = sites(zygote, REAL, "nn.Linear(6, 1)", "((out - yb) ** 2).mean()", **{"loader =": model})
    assert only(part, "-").broadcasts == calls


def test_products_written_by_hand(zygote):
    part, _ = sites(zygote, REAL, "nn.Linear(6, 1), nn.LogSigmoid()", "-(out * yb).mean()")
    assert only(part, "*").broadcasts == 2


@pytest.mark.parametrize(
    ("head", "loss", "size", "axis"),
    [
        ("nn.Linear(6, 1), nn.Softmax(dim=1)", "F.mse_loss(out, yb[:, None])", 1, 1),
        ("nn.Linear(6, 1), nn.Softmax(dim=-1)", "F.binary_cross_entropy(out.squeeze(1), (yb > 0).float())", 1, None),
        ("nn.Linear(6, 3), nn.LogSoftmax(dim=0)", "F.nll_loss(out, (yb > 0).long())", 8, 0),
        ("nn.Linear(6, 3), nn.Softmax(dim=1)", "F.nll_loss((out + 1e-9).log(), (yb > 0).long())", 3, None),
        ("nn.Linear(6, 3)", "F.cross_entropy(out, (yb > 0).long())", None, None),
        ("nn.Linear(6, 1), nn.Softmax(dim=1), nn.Linear(1, 1)", "F.mse_loss(out, yb[:, None])", None, None),
    ],
)
def test_the_softmax_that_alone_decides(zygote, head, loss, size, axis):
    part, _ = sites(zygote, REAL, head, loss)
    site = part.sites[0]
    assert (site.softmax_size, site.softmax_axis) == (size, axis)


def test_a_hand_written_loss_of_a_single_unit_softmax(zygote):
    part, _ = sites(
        zygote, REAL, "nn.Linear(6, 1), nn.Softmax(dim=1)", "-((yb > 0).float() * out.squeeze(1).log()).sum()"
    )
    site = only(part, "backward")
    assert (site.softmax_size, site.calls) == (1, 4)


def test_log_probabilities_and_probabilities(zygote):
    part, seen = sites(zygote, CLASSES, "nn.Linear(6, 3), nn.LogSoftmax(dim=1)", "F.nll_loss(out, yb)")
    site = only(part, "nll_loss")
    assert site.row_error == approx(0, abs=1e-5)
    assert not site.own_index
    part, seen = sites(zygote, CLASSES, "nn.Linear(6, 3)", "F.nll_loss(out, yb)")
    site = only(part, "nll_loss")
    rows = [row for step in (0, 1, 2, 9) for row in seen.noted("out")[step]]
    assert site.row_error == approx(max(abs(math.log(sum(map(math.exp, row)))) for row in rows), rel=1e-5)
    assert site.operation == "AddmmBackward0"


def test_divergence_takes_the_axis_that_fits(zygote):
    loss = "F.kl_div(F.log_softmax(out, 1), F.softmax(yb[:, None] * torch.ones(3), 1), reduction='batchmean')"
    part, _ = sites(zygote, REAL, "nn.Linear(6, 3)", loss)
    site = only(part, "kl_div")
    assert site.row_error == approx(0, abs=1e-5)
    assert (site.targets, site.log_target) == (96, False)
    assert (site.target_min, site.target_max) == (approx(1 / 3), approx(1 / 3))


@pytest.mark.parametrize(
    ("loss", "terms"),
    [
        ("F.mse_loss(out, yb[:, None], reduction='sum')", [("sum", 1.0, 8)]),
        ("F.mse_loss(out, yb[:, None], reduction='sum') / len(xb)", [("sum", 0.125, 8)]),
        ("((out - yb[:, None]) ** 2).sum()", [("sum", 1.0, 8)]),
        ("((out - yb[:, None]) ** 2).sum(dim=1).mean()", [("mean", 1.0, 0)]),
        ("((out - yb[:, None]) ** 2).mean(dim=1).sum()", [("sum", 1.0, 8)]),
        ("F.mse_loss(out, yb[:, None], reduction='sum') - 0.5 * out.exp().sum()", [("sum", 1.0, 8), ("sum", 0.5, 8)]),
        ("F.cross_entropy(out.repeat(1, 2), (yb > 0).long(), reduction='sum')", [("sum", 1.0, 8)]),
        ("F.l1_loss(out, yb[:, None]) + 1e-3 * out.pow(2).mean()", [("mean", 1.0, 0), ("mean", 1e-3, 0)]),
    ],
)
def test_how_a_loss_adds_up(zygote, loss, terms):
    part, _ = sites(zygote, REAL, "nn.Linear(6, 1)", loss)
    assert sorted((term.kind, round(abs(term.factor), 6), term.rows) for term in part.terms) == sorted(terms)


def test_a_contrastive_loss_is_known_by_its_labels(zygote):
    loss = "F.nll_loss(F.log_softmax(out @ out.T, dim=0), torch.arange(len(xb)))"
    part, _ = sites(zygote, REAL, "nn.Linear(6, 3)", loss)
    assert only(part, "nll_loss").own_index


def test_targets_that_the_model_makes_are_left_out(zygote):
    part, _ = sites(zygote, REAL, "nn.Linear(6, 2)", "F.mse_loss(out[:, 0], out[:, 1])")
    assert only(part, "mse_loss").targets == 0


CLOSURE = """
import torch
from torch import nn
torch.manual_seed(0)
x, y = torch.randn(16, 3), torch.randn(16)
w = nn.Linear(3, 1)
optimizer = torch.optim.LBFGS(w.parameters(), max_iter=3)
for step in range(6):
    def closure():
        optimizer.zero_grad()
        loss = ((w(x) - y) ** 2).mean()
        loss.backward()
        return loss
    optimizer.step(closure)
"""
MANUAL = """
import torch
torch.manual_seed(0)
x, y = torch.randn(16, 3), torch.randn(16)
w = torch.randn(3, 1, requires_grad=True)
for step in range(8):
    loss = ((x @ w - y) ** 2).mean()
    loss.backward()
    with torch.no_grad():
        w -= 0.01 * w.grad
        w.grad = None
"""
DEVICE = """
import torch
from torch import nn
torch.manual_seed(0)
x, y = torch.randn(16, 3), torch.randn(16)
w = nn.Linear(3, 1)
optimizer = torch.optim.SGD(w.parameters(), lr=0.01)
for step in range(8):
    with torch.device("cpu"):
        loss = ((w(x) - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    own = "__sub__" in vars(torch.Tensor)
    note(stack=len(torch.overrides._get_current_function_mode_stack()), patched=own)
"""


def test_a_loop_without_modules_and_optimizer(zygote):
    part = zygote.probe(MANUAL, steps=6, parts=("loss_sites",))["loss_sites"]
    (site,) = part.sites
    assert (site.function, site.broadcasts > 0, site.input_shape) == ("-", True, (16, 1))


def test_closures_are_left_alone(zygote):
    part = zygote.probe(CLOSURE, steps=6, parts=("loss_sites",))["loss_sites"]
    assert part.sites == ()


def test_a_mode_of_the_scripts_own_is_not_disturbed(zygote):
    seen = zygote.probe(DEVICE, steps=6, parts=("loss_sites",))
    assert set(seen.noted("stack")) == {0}
    assert only(seen["loss_sites"], "-").broadcasts == 2


def test_tensors_have_their_own_methods_back(zygote):
    patched = zygote.probe(DEVICE, steps=6, parts=("loss_sites",)).noted("patched")
    # Between the end of steps 0 and 3 and the next backward, and nowhere else.
    assert patched == [True, False, False, True, False]


def test_numbers_of_the_script_stay_bit_equal(zygote):
    script = LOOP.replace("TARGET", REAL).replace("HEAD", "nn.Linear(6, 1), nn.Dropout(0.3)")
    script = script.replace("LOSS", "((out - yb) ** 2).mean()")
    bare, seen = zygote.bare(script), zygote.probe(script, steps=20, parts=("loss_sites",))
    assert seen.noted("loss") == bare.noted("loss")[: len(seen.noted("loss"))]


LONE = "(scores.softmax(-1) * steps).sum(1)"


@pytest.mark.parametrize(
    ("pooled", "summands"),
    [
        (LONE, 7),
        ("(torch.softmax(scores, dim=2) * steps).sum(dim=-2)", 7),
        ("scores.softmax(-1).transpose(1, 2) @ steps", 7),
        ("torch.einsum('bto,btd->bd', scores.softmax(2), steps)", 7),
        ("(scores.softmax(1) * steps).sum(1)", 0),
        ("(scores.softmax(-1) * steps)[:, 0]", 0),  # a mixture with one expert
        ("(scores.softmax(-1) @ steps[:, :1]).tanh().sum(1)", 0),  # attention of seven queries to one key
        ("(scores[:, :1].softmax(1) * steps[:, :1]).sum(1)", 0),
        ("(scores.sigmoid() * steps).sum(1)", 0),
    ],
)
def test_a_softmax_of_one_entry_that_weighs_a_sum(zygote, pooled, summands):
    head = (
        "type('Pool', (nn.Module,), {'__init__': lambda self: (nn.Module.__init__(self), "
        "setattr(self, 's', nn.Linear(6, 1)), None)[2], 'forward': lambda self, h: (lambda steps, scores: "
        f"{pooled})(h[:, None] + 0.1 * torch.arange(7)[:, None], self.s(h[:, None] * torch.arange(7)[:, None]))}})(), "
        "nn.Flatten(), nn.Linear(6, 3)"
    )
    part, _ = sites(zygote, CLASSES, head, "F.cross_entropy(out, yb)")
    found = [(lone.shape, lone.summands) for lone in part.lone_softmaxes]
    assert found == ([((8, 7, 1), summands)] if summands else [])


# ------------------------------------------------------------------------- what was squashed before, and raw outputs


@pytest.mark.parametrize(
    ("head", "loss", "twice"),
    [
        ("nn.Softmax(1)", "-F.log_softmax(out / 3, 1).gather(1, yb[:, None]).mean()", ("Softmax", "LogSoftmax")),
        ("nn.Softmax(1)", "(out.logsumexp(1) - out.gather(1, yb[:, None])[:, 0]).mean()", ("Softmax", "Logsumexp")),
        ("nn.Softmax(1), nn.LogSoftmax(1)", "F.nll_loss(out, yb)", ("Softmax", "LogSoftmax")),
        (
            "nn.Softmax(1)",  # the steps of an episode
            "-torch.stack([torch.distributions.Categorical(logits=out).log_prob(yb)]).mean()",
            ("Softmax", "Logsumexp"),
        ),
        ("nn.Sigmoid()", "-((1 - out.sigmoid()) ** 2 * out.sigmoid().log()).mean()", ("Sigmoid", "Sigmoid")),
        ("nn.Identity()", "-F.log_softmax(out, 1).gather(1, yb[:, None]).mean()", None),
        ("nn.Softmax(1)", "-F.log_softmax(out / 0.1, 1).gather(1, yb[:, None]).mean()", None),  # sharpened on purpose
        ("nn.Softmax(1)", "-(out + 1e-9).log().gather(1, yb[:, None]).mean()", None),
        ("nn.Sigmoid(), nn.Linear(3, 3), nn.Sigmoid()", "-out.log().mean()", None),
    ],
)
def test_squashed_twice_on_the_way_to_the_loss(zygote, head, loss, twice):
    part, _ = sites(zygote, CLASSES, f"nn.Linear(6, 3), {head}", loss)
    assert [(each.inner, each.outer, each.calls) for each in part.twice] == ([(*twice, 4)] if twice else [])


@pytest.mark.parametrize(
    ("loss", "raw"),
    [
        ("-out[torch.arange(8), yb].mean()", True),
        ("-2 * out.gather(1, yb[:, None]).mean()", True),
        ("-out[:, 0].mean()", False),  # a critic
        ("-out.log_softmax(1)[torch.arange(8), yb].mean()", False),
        ("(out.logsumexp(1) - out[torch.arange(8), yb]).mean()", False),
    ],
)
def test_a_loss_of_chosen_raw_outputs(zygote, loss, raw):
    part, _ = sites(zygote, CLASSES, "nn.Linear(6, 3)", loss)
    assert (part.raw is not None) == raw


@pytest.mark.parametrize(
    ("head", "loss", "shape", "axis"),
    [
        ("nn.LogSoftmax(0)", "F.nll_loss(out, yb)", (8, 3), 0),
        ("nn.Softmax(0)", "F.nll_loss((out + 1e-9).log(), yb)", (8, 3), 0),
        ("nn.LogSoftmax(1)", "F.nll_loss(0.5 * out, yb)", (), None),
    ],
)
def test_the_softmax_before_nll_loss(zygote, head, loss, shape, axis):
    part, _ = sites(zygote, CLASSES, f"nn.Linear(6, 3), {head}", loss)
    site = only(part, "nll_loss")
    assert (site.normalizer, site.normalizer_axis) == (shape, axis)


@pytest.mark.parametrize(
    ("head", "loss", "limits"),
    [
        ("nn.Linear(6, 1), nn.Sigmoid()", "F.mse_loss(-10 * out[:, 0], yb)", (-10.0, 0.0)),
        ("nn.Linear(6, 1), nn.Sigmoid()", "F.mse_loss(out[:, 0] - 0.5, yb)", (None, None)),
        ("nn.Linear(6, 1), nn.Sigmoid()", "F.mse_loss(out[:, 0].clamp(1e-6, 1), yb)", (0.0, 1.0)),
    ],
)
def test_bounds_through_constant_factors(zygote, head, loss, limits):
    part, _ = sites(zygote, REAL, head, loss)
    site = only(part, "mse_loss")
    assert (site.lower, site.upper) == limits


@pytest.mark.parametrize(
    "loss", ["torch.max(0.7 * (yb - out), -0.3 * (yb - out)).mean()", "torch.log(torch.cosh(out - yb)).mean()"]
)
def test_differences_inside_formulas(zygote, loss):
    part, _ = sites(zygote, REAL, "nn.Linear(6, 1)", loss)
    assert only(part, "-").broadcasts > 0


def test_a_model_that_works_out_its_own_loss(zygote):
    own = """nn.Linear(6, 1))
class Own(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net
    def forward(self, x, y):
        p = self.net(x) - torch.arange(5.0).mean()
        return ((p - y) ** 2).mean()
net = Own(net"""
    part, _ = sites(zygote, REAL, own, "out", **{"net(xb)": "net(xb, yb)"})
    assert only(part, "-").broadcasts == 2


ATTENTION = """
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(6, 6) for _ in range(4))
    def forward(self, x):
        heads = lambda z: z.view(4, ROWS, 2, 3).transpose(1, 2)
        q, k, v = heads(self.q(x)), heads(self.k(x)), heads(self.v(x))
        s = q @ k.transpose(-2, -1)
        return self.o((WEIGHED).transpose(1, 2).reshape(4, ROWS, 6))
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
for step in range(6):
    loss = net(torch.randn(4, ROWS, 6)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("weighed", "found"),
    [
        ("s.softmax(-2) @ v", 1),
        ("nn.functional.dropout(s.softmax(-2), 0.1) @ v", 1),
        ("s.softmax(-1) @ v", 0),
        ("s.softmax(-2).transpose(-2, -1) @ v", 0),
        ("(v.transpose(-2, -1) @ s.softmax(-2)).transpose(-2, -1)", 0),
        ("(s.softmax(-2) / s.softmax(-2).sum(-1, keepdim=True)) @ v", 0),  # normalized once more, as slots are
    ],
)
def test_attention_over_the_queries(zygote, weighed, found):
    seen = zygote.probe(ATTENTION.replace("WEIGHED", weighed).replace("ROWS", "5"), steps=6)["loss_sites"]
    assert [(each.shape[-2:], each.summands, each.calls > 1) for each in seen.crossed_softmaxes] == [
        ((5, 5), 5, True)
    ] * found


RECURRENT = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        LAYERS
    def forward(self, x):
        x = x[:, :, None]
        FORWARD
net = Net()
"""


@pytest.mark.parametrize(
    ("layers", "forward", "kind", "limits"),
    [
        ("self.rnn = nn.GRU(1, 1, batch_first=True)", "return self.rnn(x)[0][:, -1, 0]", "GRU", (-1, 1)),
        ("self.rnn = nn.GRU(1, 1)", "return self.rnn(x.transpose(0, 1))[1][0, :, 0]", "GRU", (-1, 1)),
        ("self.rnn = nn.RNN(1, 1, nonlinearity='relu')", "return self.rnn(x)[0][:, -1, 0]", "RNN", (0, None)),
        (
            "self.cell = nn.GRUCell(1, 1)",
            "h = torch.zeros(8, 1)\n        for t in range(5): h = self.cell(x[:, t], h)\n        return h[:, 0]",
            "GRU",
            (-1, 1),
        ),
        ("self.a = nn.Linear(1, 1)", "x = self.a(x[:, 0])\n        return (x.sigmoid() * x.tanh())[:, 0]", "", (-1, 1)),
        # not bounded: a state from a linear layer, a projection, a cell state
        (
            "self.rnn, self.start = nn.GRU(1, 1, batch_first=True), nn.Linear(5, 1)",
            "return self.rnn(x, 3 * self.start(x[..., 0])[None])[0][:, -1, 0]",
            "",
            (None, None),
        ),
        ("self.rnn = nn.LSTM(1, 4, proj_size=1)", "return self.rnn(x)[0][:, -1, 0]", "", (None, None)),
        ("self.rnn = nn.LSTMCell(1, 1)", "return self.rnn(x[:, 0])[1][:, 0]", "", (None, None)),
    ],
)  # fmt: skip
def test_the_range_of_hidden_states(zygote, layers, forward, kind, limits):
    model = RECURRENT.replace("LAYERS", layers).replace("FORWARD", forward)
    part, _ = sites(zygote, REAL, "nn.Identity())\n" + model + "nn.Sequential(", "F.mse_loss(out, yb)")
    site = only(part, "mse_loss")
    assert (site.recurrent, (site.lower, site.upper)) == (kind, limits)
