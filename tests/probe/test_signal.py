"""Sizes of signals through the layers, saturation, clipping by value, and the experiments about them."""

from __future__ import annotations

import pytest

START = """
import torch
from torch import nn
torch.manual_seed(0)
"""

LOOP = """
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(STEPS):
    x = torch.randn(16, 8)
    optimizer.zero_grad()
    nn.functional.mse_loss(model(x), x[:, :2]).backward()
    # before
    optimizer.step()
"""

DEEP = """
layers = []
for a, b in [(8, 16), (16, 16), (16, 16), (16, 16), (16, 16)]:
    layers += [nn.Linear(a, b), nn.ACT()]
model = nn.Sequential(*layers, nn.Linear(16, 2))
"""


def probe(zygote, model, steps=12, before="", **options):
    script = START + model + LOOP.replace("STEPS", str(steps)).replace("# before", before)
    return zygote.probe(script, **options)


# ------------------------------------------------------------------------------------------------------ forward scale


def test_output_sizes_are_those_of_a_plain_forward(zygote):
    check = """
def hook(name):
    def note_it(module, args, result):
        if first: note(std=result.std().item(), signal=result.var(0).mean().sqrt().item())
    return note_it
first = True
for layer in model:
    if isinstance(layer, nn.Linear): layer.register_forward_hook(hook(layer))
"""
    seen = probe(zygote, DEEP.replace("ACT", "Tanh") + check, before="first = False")
    layers = seen["forward_scale"].layers
    assert [layer.std for layer in layers] == pytest.approx(seen.noted("std"), rel=1e-3)
    assert [layer.signal for layer in layers] == pytest.approx(seen.noted("signal"), rel=1e-3)
    assert [layer.name for layer in layers] == ["0", "2", "4", "6", "8", "10"]
    assert [layer.activation for layer in layers] == ["tanh"] * 5 + [""]
    assert [layer.fan_in for layer in layers] == [8, 16, 16, 16, 16, 16]
    assert (seen["forward_scale"].normalized, seen["forward_scale"].residual) == (False, False)


@pytest.mark.parametrize(
    ("act", "name"), [("ReLU", "relu"), ("GELU", "relu"), ("Sigmoid", "sigmoid"), ("LeakyReLU", "leaky_relu")]
)
def test_activations_are_recognised(zygote, act, name):
    layers = probe(zygote, DEEP.replace("ACT", act), steps=2)["forward_scale"].layers
    assert layers[0].activation == name


FUNCTIONAL = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)
    def forward(self, x):
        h = torch.relu(self.a(x))
        h = SECOND
        return self.c(h)
model = Net()
"""


@pytest.mark.parametrize(
    ("second", "residual"), [("torch.relu(self.b(h))", False), ("h + torch.relu(self.b(h))", True)]
)
def test_residual_connections_are_seen(zygote, second, residual):
    seen = probe(zygote, FUNCTIONAL.replace("SECOND", second), steps=2)["forward_scale"]
    assert seen.residual == residual
    assert [layer.activation for layer in seen.layers[:2]] == ["relu", "relu"]


def test_normalization_convolutions_and_loaded_weights(zygote):
    layers = "nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2)"
    model = f"model = nn.Sequential({layers})\n"
    seen = probe(zygote, model + "model.load_state_dict(model.state_dict())", steps=2)["forward_scale"]
    assert seen.normalized
    assert [(layer.kind, layer.fan_in, layer.loaded) for layer in seen.layers] == [
        ("Conv1d", 3, True),
        ("Linear", 24, True),
    ]


def test_models_without_layers(zygote):
    assert "no linear or convolutional layer" in probe(zygote, "model = nn.Linear(8, 2)", steps=2).absent(
        "forward_scale"
    )


# --------------------------------------------------------------------------------------------------------- saturation


def test_saturated_outputs_are_counted(zygote):
    model = "model = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2))\nmodel[0].weight.data.mul_(100)"
    [layer] = probe(zygote, model)["saturation"].layers
    assert (layer.name, layer.function, layer.units) == ("0", "tanh", 6)
    assert layer.share_start > 0.8
    assert layer.samples == 16 * 4


def test_ordinary_units_are_not_saturated(zygote):
    [layer] = probe(zygote, "model = nn.Sequential(nn.Linear(8, 6), nn.Sigmoid(), nn.Linear(6, 2))")[
        "saturation"
    ].layers
    assert (layer.function, layer.saturated_start, layer.share_end) == ("sigmoid", 0, 0.0)


@pytest.mark.parametrize(
    "second",
    [
        "h * torch.sigmoid(self.b(h))",
        "(lambda z, k: z * h[:, :4] + k)(*torch.sigmoid(self.b(h)).chunk(2, 1)).repeat(1, 2)",
        "self.b(h)",
    ],
    ids=["gate", "split gate", "none"],
)
def test_gates_are_left_out(zygote, second):
    assert "no tanh" in probe(zygote, FUNCTIONAL.replace("SECOND", second), steps=4).absent("saturation")


def test_the_last_activation_is_left_out(zygote):
    model = "model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2), nn.Tanh())"
    assert "no tanh" in probe(zygote, model, steps=4).absent("saturation")


# ----------------------------------------------------------------------------------------------------- value clipping


def test_clipping_by_value(zygote):
    before = """
    raw = torch.cat([p.grad.flatten() for p in model.parameters()])
    nn.utils.clip_grad_value_(model.parameters(), 0.05)
    cut = torch.cat([p.grad.flatten() for p in model.parameters()])
    note(cosine=torch.nn.functional.cosine_similarity(raw, cut, dim=0).item(), share=(raw != cut).float().mean().item())
"""
    seen = probe(zygote, "model = nn.Linear(8, 2)", before=before.strip())
    part = seen["value_clipping"]
    assert part.steps == (0, 1, 2, 9)
    assert part.cosines == pytest.approx([seen.noted("cosine")[step] for step in part.steps], abs=1e-5)
    assert part.shares == pytest.approx([seen.noted("share")[step] for step in part.steps])
    assert part.limit == 0.05


def test_clipping_by_norm_is_another_matter(zygote):
    seen = probe(
        zygote, "model = nn.Linear(8, 2)", before="nn.utils.clip_grad_norm_(iter(list(model.parameters())), 1.0)"
    )
    assert "not clipped by value" in seen.absent("value_clipping")


# -------------------------------------------------------------------------------------------------------- experiments


@pytest.fixture(scope="module")
def faded(zygote):
    model = DEEP.replace("ACT", "ReLU") + "for p in model[:-1].parameters(): p.data.mul_(0.1)\n"
    parts = ("frozen_early", "reinitialized", "forward_scale", "gradients")
    return probe(zygote, model, steps=4000, experiments=True, parts=parts)


def test_early_layers_frozen(faded):
    part = faded["frozen_early"]
    assert part.layers[0] == "0"
    assert part.control[0] == part.frozen[0]
    assert part.control[-1] == pytest.approx(part.frozen[-1], rel=1e-4)
    assert part.fidelity == 0


def test_weights_drawn_anew(faded):
    part = faded["reinitialized"]
    assert part.layers == 6
    assert part.looks[0].control[0] != part.looks[0].treated[0]
    assert part.looks[0].treated[-1] < part.looks[0].control[-1]


def test_the_script_learns_nothing_of_the_experiments(zygote):
    model = "model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))"
    parts = ("frozen_early", "reinitialized", "forward_scale")
    seen = probe(zygote, model, steps=200, experiments=True, parts=parts)
    assert "not-applicable" in seen.absent("frozen_early")
    assert "not-applicable" in seen.absent("reinitialized")


# ---------------------------------------------------------------------------------------------------- recurrent layers

RECURRENT = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.r, self.o = KIND, nn.Linear(16, 2)
        for p in self.r.parameters():
            nn.init.normal_(p, std=STD)
    def forward(self, x):
        out = self.r(x.view(-1, 4, 2))[0]
        return self.o(out[:, -1])
model = Net()
"""


@pytest.mark.parametrize("kind", ["nn.GRU(2, 16, batch_first=True)", "nn.LSTM(2, 16, batch_first=True)"])
@pytest.mark.parametrize("std", [0.2, 3.0])
def test_recurrent_layers(zygote, kind, std):
    seen = probe(zygote, RECURRENT.replace("KIND", kind).replace("STD", str(std)), steps=2)["forward_scale"]
    (layer,) = seen.recurrent
    assert layer.name == "r"
    assert layer.gain == pytest.approx(4 * std, rel=0.15)
    assert layer.flat > 0.3 if std > 1 else layer.flat < 0.01


def test_gates_are_those_that_torch_computes():
    import torch

    from auditor.probe import recurrent

    torch.manual_seed(0)
    layer = torch.nn.RNN(3, 5, batch_first=True)
    x = 4 * torch.randn(6, 7, 3)
    out = layer(x)
    flat = (1 - out[0] ** 2 < 0.01).float().mean()  # the slope of tanh, from its result
    assert float(recurrent.flat_share(layer, (x,), out)) == pytest.approx(float(flat), abs=1e-3)
    assert recurrent.flat_share(torch.nn.GRU(3, 5), (x, torch.zeros(1, 7, 5)), out) is None  # begins elsewhere


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_states_that_the_layer_keeps_to_itself_are_worked_out(kind):
    """Of several layers and directions, and of packed sequences: the same as of the first layer alone."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    from auditor.probe import recurrent

    torch.manual_seed(0)
    deep = getattr(torch.nn, kind)(3, 5, num_layers=2, bidirectional=True, batch_first=True)
    alone = getattr(torch.nn, kind)(3, 5, batch_first=True)
    alone.load_state_dict({name: deep.state_dict()[name] for name in alone.state_dict()})
    x = 6 * torch.randn(6, 7, 3)
    expected = float(recurrent.flat_share(alone, (x,), alone(x)))
    assert expected > 0.1
    assert float(recurrent.flat_share(deep, (x,), deep(x))) == pytest.approx(expected, abs=1e-6)
    packed = pack_padded_sequence(x, torch.full((6,), 7), batch_first=True)
    assert float(recurrent.flat_share(deep, (packed,), deep(packed))) == pytest.approx(expected, abs=1e-6)
    found = recurrent.entering(deep, (packed,))
    calm = (x - x.mean((0, 1))) / x.std((0, 1), unbiased=False)
    plain = deep(calm)[0]
    handle = recurrent.standardized(deep, found)
    given = pad_packed_sequence(deep(packed)[0], batch_first=True)[0], deep(x)[0]
    handle.remove()
    assert all(torch.allclose(each, plain, atol=1e-5) for each in (*given, deep(calm)[0]))
    assert float(found.flat) == pytest.approx(float(recurrent.flat_share(alone, (calm,), alone(calm))), abs=1e-6)


SATURATED = RECURRENT.replace("            nn.init.normal_(p, std=STD)", "            pass").replace(
    "x.view(-1, 4, 2)", "SCALE * x.view(-1, 4, 2)"
)


@pytest.mark.parametrize("scale", [100.0, 1.0])
def test_a_layer_that_its_inputs_saturate_is_calmed(zygote, scale):
    model = SATURATED.replace("KIND", "nn.RNN(2, 16, num_layers=2, batch_first=True)").replace("SCALE", str(scale))
    seen = probe(zygote, model, steps=2000, experiments=True, parts=("calmed_recurrence", "forward_scale"))
    (layer,) = seen["forward_scale"].recurrent
    if scale == 1.0:
        assert "not-applicable" in seen.absent("calmed_recurrence")
        return
    assert layer.flat > 0.5 > 10 * layer.flat_standardized
    part = seen["calmed_recurrence"]
    assert part.layers == ("r",)
    assert part.fidelity == 0
    assert part.looks[0].control[0] != part.looks[0].treated[0]
