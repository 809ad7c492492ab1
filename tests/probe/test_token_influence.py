"""Which tokens an output depends on, for models in which that is known."""

from __future__ import annotations

import pytest

LOOP = """
import torch
from torch import nn
import torch.nn.functional as F
torch.manual_seed(0)
B, T, V, D = 6, 12, 19, 16
MODEL
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
generator = torch.Generator().manual_seed(1)
def batch():
    text = torch.randint(1, V, (B, T + 1), generator=generator)
    for row in range(B):
        text[row, T + 1 - 2 * row:] = 0
    return text
for step in range(60):
    text = batch()
    x, y = text[:, :-1], text[:, 1:]
    STEP
    optimizer.zero_grad()
    loss.backward()
    note(loss=loss.item())
    optimizer.step()
"""
ATTENTION = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, D, padding_idx=0)
        self.places = nn.Parameter(torch.randn(T, D) * 0.1)
        self.layer = nn.TransformerEncoderLayer(D, 2, 32, dropout=0.1, batch_first=True)
        self.head = nn.Linear(D, V)
    def forward(self, ids, padding=None, targets=None):
        h = self.embed(ids) + self.places[: ids.shape[1]]
        h = self.layer(h, src_mask=MASK, src_key_padding_mask=PADDING)
        RETURN
"""
CAUSAL = "torch.triu(torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool), 1)"
PLAIN = "loss = F.cross_entropy(model(x).reshape(-1, V), y.reshape(-1), ignore_index=0)"
PARTS = ("token_labels", "token_influence")


def probe(zygote, model, step=PLAIN, parts=PARTS, **names):
    for name, value in names.items():
        model = model.replace(name.upper(), value)
    step = "\n".join(f"    {line}" for line in step.strip().splitlines())
    script = LOOP.replace("MODEL", model).replace("    STEP", step)
    return zygote.probe(script, steps=10, experiments=True, parts=parts)


def attention(zygote, mask="None", padding="None", step=PLAIN, returned="return self.head(h)", **options):
    seen = probe(zygote, ATTENTION, step, mask=mask, padding=padding, **{"return": returned}, **options)
    return seen["token_influence"]


def test_a_causal_mask_hides_later_tokens(zygote):
    found = attention(zygote, mask=CAUSAL)
    assert (found.embedding, found.shape, found.shifted) == ("embed", (6, 12), 1.0)
    assert found.cuts == 3
    assert found.before <= found.noise
    assert found.after > 0.01
    assert found.own > 0.01
    assert (found.leaking, found.mask) == (0, "")


def test_without_a_mask_they_show(zygote):
    found = attention(zygote)
    assert found.leaking == 3
    assert found.before > 1e-2
    assert found.layer.startswith("layer")


def test_models_that_return_nothing_but_their_loss(zygote):
    returned = "return F.cross_entropy(self.head(h).reshape(-1, V), targets.reshape(-1), ignore_index=0)"
    step = "loss = model(x, targets=y)"
    assert attention(zygote, mask=CAUSAL, step=step, returned=returned).leaking == 0
    found = attention(zygote, step=step, returned=returned)
    assert (found.leaking, found.shifted) == (3, 1.0)


def test_labels_of_another_kind(zygote):
    step = "loss = F.cross_entropy(model(x).reshape(-1, V), x.reshape(-1))"
    found = attention(zygote, mask=CAUSAL, step=step)
    assert (found.shifted < 0.5, found.same) == (True, 1.0)


def test_a_prefix_that_sees_itself_is_not_counted(zygote):
    mask = f"({CAUSAL}) & ~((torch.arange(ids.shape[1]) < 5)[None] & (torch.arange(ids.shape[1]) < 5)[:, None])"
    step = "y = y.clone()\ny[:, :4] = -100\nloss = F.cross_entropy(model(x).reshape(-1, V), y.reshape(-1))"
    assert attention(zygote, mask=mask, step=step).leaking == 0
    assert attention(zygote, mask=mask, step=PLAIN).leaking > 0


def test_a_mask_that_is_used(zygote):
    step = "loss = F.cross_entropy(model(x, x == 0).reshape(-1, V), x.reshape(-1), ignore_index=0)"
    found = attention(zygote, padding="padding", step=step)
    assert (found.mask, found.pad) == ("Net", 0)
    assert found.pad_change == 0.0
    assert found.real_change > 0.01
    # Rows end in 0, 1, 3, 5, 7, 9 padding tokens of twelve; the one next to the text is left out.
    assert found.padded == 0 + 0 + 2 + 4 + 6 + 8


@pytest.mark.parametrize("padding", ["~padding", "None", "torch.zeros_like(padding)"])
def test_a_mask_that_is_inverted_or_not_used(zygote, padding):
    step = "loss = F.cross_entropy(model(x, x == 0).reshape(-1, V), x.reshape(-1), ignore_index=0)"
    found = attention(zygote, padding=padding, step=step)
    assert found.mask == "Net"
    assert found.pad_change > 0.01


POOLED = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.layer = nn.TransformerEncoderLayer(D, 2, 32, dropout=0.0)
        self.head = nn.Linear(D, 3)
    def forward(self, ids):
        ids = ids.t()
        h = self.layer(self.embed(ids), src_key_padding_mask=(ids == 0).t())
        POOL
        return self.head(h)
"""


@pytest.mark.parametrize(
    ("pool", "changes"),
    [
        ("real = (ids != 0)[..., None]; h = (h * real).sum(0) / real.sum(0)", False),
        ("h = h.mean(0)", True),
        ("h = h[0]", False),
    ],
)
def test_pooling_of_a_time_first_encoder(zygote, pool, changes):
    step = "loss = F.cross_entropy(model(x), x[:, 0] % 3)"
    seen = probe(zygote, POOLED, step, parts=("token_influence",), pool=pool)
    found = seen["token_influence"]
    assert (found.mask, found.pad, found.shifted) == ("layer", 0, None)
    assert (found.pad_change > 0) == changes


MADE = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.mix = nn.Linear(D, 3 * D)
        self.head = nn.Linear(D, 3)
    def forward(self, ids):
        real = ids != 0
        q, k, v = self.mix(self.embed(ids)).chunk(3, -1)
        MIXED
        return self.head((h * real[..., None]).sum(1) / real.sum(1, keepdim=True))
"""
FUSED = "h = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], attn_mask=MASK)[:, 0]"
BY_HAND = "h = (q @ k.transpose(1, 2)).masked_fill(MASK, -1e9).softmax(-1) @ v"


@pytest.mark.parametrize(
    ("mixed", "mask", "changes"),
    [
        (FUSED, "real[:, None, None, :]", False),
        (FUSED, "None", True),
        (BY_HAND, "~real[:, None, :]", False),
        (BY_HAND, "real[:, None, :]", True),
    ],
)
def test_a_mask_that_the_model_makes(zygote, mixed, mask, changes):
    step = "loss = F.cross_entropy(model(x), x[:, 0] % 3)"
    found = probe(zygote, MADE, step, parts=("token_influence",), mixed=mixed, mask=mask)["token_influence"]
    assert (found.mask, found.mask_made, found.pad) == ("Net", True, 0)
    assert (found.pad_change > 0.01) == changes


def test_a_mask_of_the_pooling_alone_says_nothing_without_attention(zygote):
    step = "loss = F.cross_entropy(model(x), x[:, 0] % 3)"
    mixed = "h = torch.fft.fft(q, dim=1).real"
    found = probe(zygote, MADE, step, parts=("token_influence",), mixed=mixed)["token_influence"]
    assert found.mask == ""


@pytest.mark.parametrize(("both_ways", "named"), [("True", "LSTM"), ("False", "")])
def test_recurrent_layers_that_see_the_padding_are_named(zygote, both_ways, named):
    """One that only reads forward does not, where the padding stands behind."""
    model = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, D, padding_idx=0)
        self.rnn = nn.LSTM(D, D, batch_first=True, bidirectional=BOTH)
        self.head = nn.Linear(D * (1 + BOTH), V)
    def forward(self, ids, mask):
        h, _ = self.rnn(self.embed(ids))
        return self.head(h * mask[..., None])
""".replace("BOTH", both_ways)
    step = "loss = F.cross_entropy(model(x, (x != 0).float()).reshape(-1, V), y.reshape(-1), ignore_index=0)"
    found = probe(zygote, model, step)["token_influence"]
    assert found.local_layer == named
    assert found.shifted == 1.0


ENCODER_DECODER = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.net = nn.Transformer(D, 2, 1, 1, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(D, V)
    def forward(self, source, ids):
        h = self.net(self.embed(source), self.embed(ids), tgt_mask=MASK)
        return self.head(h)
"""


@pytest.mark.parametrize(("mask", "leaks"), [(CAUSAL, 0), ("None", 3)])
def test_only_the_decoders_own_input_is_replaced(zygote, mask, leaks):
    step = "loss = F.cross_entropy(model(y, x).reshape(-1, V), y.reshape(-1))"
    found = probe(zygote, ENCODER_DECODER, step, mask=mask)["token_influence"]
    assert (found.shifted, found.leaking) == (1.0, leaks)


def test_models_without_tokens_are_not_asked(zygote):
    model = "class Net(nn.Linear):\n    def __init__(self):\n        super().__init__(T, 3)\n"
    seen = probe(zygote, model, "loss = F.cross_entropy(model(x.float()), x[:, 0] % 3)", parts=("token_influence",))
    assert seen.absent("token_influence").startswith("not-applicable")


SERIES = """
import torch
from torch import nn
import torch.nn.functional as F
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Conv1d(2, 8, 3)
        self.rnn = nn.GRU(2, 4, batch_first=True, bidirectional=True)
        self.head = nn.Linear(8, 2)
    def forward(self, x):
        FORWARD
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
series = torch.randn(400, 2).cumsum(0) * 0.1
for step in range(60):
    starts = torch.randint(0, 380, (6,)).tolist()
    x, y = (torch.stack([series[i + d : i + d + 16] for i in starts]) for d in (0, AHEAD))
    loss = F.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    note(loss=loss.item())
    optimizer.step()
"""
FORECAST = "return self.head(F.relu(self.mix(F.pad(x.transpose(1, 2), (2, 0)))).transpose(1, 2))"


@pytest.mark.parametrize(
    ("forward", "ahead", "leaks"),
    [
        (FORECAST, 1, 0),
        (FORECAST.replace("(2, 0)", "(1, 1)"), 1, 3),
        ("return self.head(self.rnn(x)[0])", 1, 3),
        ("return self.head(self.rnn(x)[0])", 3, 3),
    ],
)
def test_series_that_are_forecast_at_each_position(zygote, forward, ahead, leaks):
    script = SERIES.replace("FORWARD", forward).replace("AHEAD", str(ahead))
    found = zygote.probe(script, steps=10, experiments=True, parts=("token_influence",))["token_influence"]
    assert (found.series, found.shifted, found.cuts, found.leaking) == (True, 1.0, 3, leaks)
    assert (found.before > 1e-3) == bool(leaks)
    assert found.layer == ("" if not leaks else "mix" if "mix" in forward else "rnn")


@pytest.mark.parametrize("ahead", [0, 15])
def test_a_series_that_is_reconstructed_or_followed_by_another_is_no_forecast(zygote, ahead):
    script = SERIES.replace("FORWARD", "return self.head(self.rnn(x)[0])").replace("AHEAD", str(ahead))
    seen = zygote.probe(script, steps=10, experiments=True, parts=("token_influence",))
    assert "token_influence" not in seen.gathered.parts


PREFIXED = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.start = nn.Parameter(torch.randn(1, 1, D))
        self.rnn = nn.LSTM(D, D, batch_first=True)
        self.head = nn.Linear(D, V)
    def forward(self, ids):
        h = torch.cat([self.start.expand(len(ids), -1, -1), self.embed(ids)], 1)
        return self.head(self.rnn(h)[0])
"""


@pytest.mark.parametrize(("rows", "copies"), [("1:", True), (":-1", False)])
def test_logits_of_something_that_is_put_before_the_tokens(zygote, rows, copies):
    step = f"loss = F.cross_entropy(model(x)[:, {rows}].flatten(0, 1), x.flatten())"
    script = LOOP.replace("MODEL", PREFIXED).replace("STEP", step)
    found = zygote.probe(script, steps=10, experiments=True, parts=("token_influence",))["token_influence"]
    assert (found.same, found.cuts, found.leaking) == (1.0, 3, 0)
    assert (found.own > found.noise) == copies
