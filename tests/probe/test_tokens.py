"""Labels of token models against their input tokens, what padding counts for, and labels that are ignored."""

from __future__ import annotations

import pytest

LOOP = """
import torch
from torch import nn
import torch.nn.functional as F
torch.manual_seed(0)
B, T, V = 6, 9, 17
class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(V, 8, padding_idx=PAD)
        self.places = nn.Embedding(T, 8)
        self.rnn = nn.GRU(8, 12, batch_first=BATCH_FIRST)
        self.head = nn.Linear(12, V)
    def forward(self, ids, mask=None):
        h, _ = self.rnn(self.tokens(ids))
        return self.head(h)
model = LM()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
generator = torch.Generator().manual_seed(1)
for step in range(6):
    text = torch.randint(1, V, (B, T + 1), generator=generator)
    for row in range(B):
        text[row, T + 1 - row:] = 0
    STEP
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def site(zygote, step, pad="0", batch_first="True", parts=("token_labels",)):
    script = LOOP.replace("PAD", pad).replace("BATCH_FIRST", batch_first)
    script = script.replace("    STEP", "\n".join(f"    {line}" for line in step.strip().splitlines()))
    seen = zygote.probe(script, steps=5, parts=parts)
    (found,) = seen["token_labels"].sites
    return found


def shares(found):
    return {each.offset: each.equal / each.compared if each.compared else None for each in found.offsets}


RIGHT = """
x, y = text[:, :-1], text[:, 1:]
loss = F.cross_entropy(model(x).reshape(-1, V), y.reshape(-1))
"""


@pytest.mark.parametrize(
    "loss",
    [
        "-model(x).log_softmax(-1).gather(-1, y[..., None])",
        "-torch.take_along_dim(model(x) - model(x).logsumexp(-1, keepdim=True), y[..., None], -1)",
        "-model(x).log_softmax(-1).reshape(-1, V)[torch.arange(y.numel()), y.reshape(-1)].reshape(y.shape)[..., None]",
    ],
)
def test_labels_of_a_loss_by_hand(zygote, loss):
    shift = "x, y = text[:, :-1], text[:, 1:]"
    found = site(zygote, f"{shift}\nloss = ({loss}).mean()")
    assert shares(found)[1] == 1.0
    assert found.padded_counted == found.padded > 0
    masked = site(zygote, f"{shift}\nloss = ({loss} * (y != 0)[..., None]).sum() / (y != 0).sum()")
    assert masked.padded_counted == 0 < masked.padded


def test_the_next_token(zygote):
    found = site(zygote, RIGHT)
    assert shares(found)[1] == 1.0
    assert shares(found)[0] < 0.5
    assert (found.embedding, found.shape, found.calls) == ("tokens", (6, 9), 3)
    assert (found.pad, found.pad_reason) == (0, "padding_idx of the embedding")
    # Rows end in 0, 0, 1, ... 4 padding tokens of nine; one of each row is left out, and all of them count here.
    assert (found.padded, found.padded_counted) == (3 * (0 + 1 + 2 + 3), 3 * (0 + 1 + 2 + 3))
    assert found.counted == 3 * 54


@pytest.mark.parametrize(
    "loss",
    [
        "loss = F.cross_entropy(model(x).reshape(-1, V), y.reshape(-1), ignore_index=0)",
        "weight = torch.ones(V); weight[0] = 0\nloss = F.cross_entropy(model(x).transpose(1, 2), y, weight=weight)",
        "each = F.cross_entropy(model(x).reshape(-1, V), y.reshape(-1), reduction='none')\n"
        "loss = (each * (y.reshape(-1) != 0)).sum() / (y != 0).sum()",
        "loss = F.nll_loss(F.log_softmax(model(x), -1).reshape(-1, V), y.reshape(-1), ignore_index=0)",
    ],
)
def test_padding_that_does_not_count_by_whatever_means(zygote, loss):
    found = site(zygote, "x, y = text[:, :-1], text[:, 1:]\n" + loss)
    assert found.padded == 18
    assert found.padded_counted == 0
    assert shares(found)[1] == 1.0


def test_padding_known_by_the_mask(zygote):
    step = "x, y = text[:, :-1], text[:, 1:]\nloss = F.cross_entropy(model(x, x != 0).reshape(-1, V), y.reshape(-1))"
    found = site(zygote, step, pad="None")
    assert (found.pad, found.pad_reason) == (0, "the mask that the model is given")
    assert found.padded_counted == 18
    assert site(zygote, RIGHT, pad="None").pad is None


@pytest.mark.parametrize(
    ("step", "offset"),
    [
        ("x = text[:, :-1]\nloss = F.cross_entropy(model(x).reshape(-1, V), x.reshape(-1))", 0),
        ("x = text\nloss = F.cross_entropy(model(x)[:, :-1].reshape(-1, V), x[:, 1:].reshape(-1))", 1),
        ("x = text\nloss = F.cross_entropy(model(x)[:, 1:].reshape(-1, V), x[:, 1:].reshape(-1))", 0),
        ("x = text\nloss = F.cross_entropy(model(x)[:, 1:].reshape(-1, V), x[:, :-1].reshape(-1))", -1),
        ("x, y = text[:, :-1], text[:, 1:]\n"
         "loss = F.cross_entropy(model(x)[:, :-1].reshape(-1, V), y[:, 1:].reshape(-1))", 2),
        ("x = text\ny = F.pad(x, (0, 1), value=-100)[:, 1:]\n"
         "loss = F.cross_entropy(model(x).reshape(-1, V), y.reshape(-1))", 1),
    ],
)  # fmt: skip
def test_where_the_labels_lie(zygote, step, offset):
    found = shares(site(zygote, step))
    assert found[offset] == 1.0
    assert sum(share is not None and share > 0.9 for share in found.values()) == 1


def test_time_first(zygote):
    step = "x, y = text[:, :-1].t(), text[:, 1:].t()\nloss = F.cross_entropy(model(x).reshape(-1, V), y.reshape(-1))"
    found = site(zygote, step, batch_first="False")
    assert shares(found)[1] == 1.0
    assert found.shape == (9, 6)
    assert found.padded_counted == 18


def test_labels_that_are_no_tokens(zygote):
    found = site(zygote, "x = text[:, :-1]\nloss = F.cross_entropy(model(x).reshape(-1, V), (x % 3).reshape(-1))")
    assert all(share < 0.6 for share in shares(found).values())
    assert found.padded_counted == 18


def test_one_label_a_sample_is_no_token_loss(zygote):
    script = LOOP.replace("PAD", "0").replace("BATCH_FIRST", "True")
    script = script.replace("STEP", "loss = F.cross_entropy(model(text)[:, -1], text[:, 0])")
    assert zygote.probe(script, steps=5, parts=("token_labels",)).absent("token_labels").startswith("not-applicable")


IGNORED = """
import torch
from torch import nn
import torch.nn.functional as F
torch.manual_seed(0)
model = nn.Linear(4, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(8):
    y = torch.randint(0, 3, (10,))
    y[:EMPTY] = -100
    if step == 5:
        y[:] = -100
    optimizer.zero_grad()
    F.cross_entropy(model(torch.randn(10, 4)), y, reduction="sum").backward()
    optimizer.step()
"""


def test_ignored_labels_are_counted_in_every_step(zygote):
    seen = zygote.probe(IGNORED.replace("EMPTY", "4"), steps=7, parts=("ignored_labels",))
    (found,) = seen["ignored_labels"].sites
    assert (found.calls, found.empty, found.first_empty) == (7, 1, 5)
    assert (found.labels, found.ignored, found.ignore_index, found.reduction) == (70, 34, -100, "sum")


def test_other_losses_have_no_ignored_labels(zygote):
    script = IGNORED.replace("EMPTY", "4").replace(
        'F.cross_entropy(model(torch.randn(10, 4)), y, reduction="sum")', "model(torch.randn(1, 4)).sum()"
    )
    seen = zygote.probe(script, steps=7, parts=("ignored_labels",))
    assert seen.absent("ignored_labels").startswith("not-applicable")


def test_numbers_of_the_script_stay_bit_equal(zygote):
    script = LOOP.replace("PAD", "0").replace("BATCH_FIRST", "True") + "    note(loss=loss.item())\n"
    script = script.replace("    STEP", "\n".join(f"    {line}" for line in RIGHT.strip().splitlines()))
    bare, seen = zygote.bare(script), zygote.probe(script, steps=6, parts=("token_labels", "ignored_labels"))
    assert len(seen.noted("loss")) >= 5
    assert seen.noted("loss") == bare.noted("loss")[: len(seen.noted("loss"))]


BY_HAND = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(9):
    x, counted = torch.randn(6, 4), (torch.arange(6) >= step).float()
    if step == 4:
        counted = counted * 0
    errors = (model(x)[:, 0] - 1) ** 2 * WEIGHTS
    loss = (errors * counted).sum() / DIVISOR + 0.1 * model.weight.square().sum()
    optimizer.zero_grad()
    loss.backward()
    note(loss=loss.item())
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("divisor", "weights", "found"),
    [
        ("counted.sum()", "1", 1),
        ("(counted > 0).sum()", "1", 1),
        ("counted.sum().clamp(min=1)", "1", 0),
        ("(0.3 * counted).sum()", "1", 0),  # no count
        ("counted.sum()", "torch.tensor(float('nan')) ** (step > 1)", 0),  # spoilt before
    ],
)
def test_counts_that_a_loss_by_hand_is_divided_by(zygote, divisor, weights, found):
    script = BY_HAND.replace("DIVISOR", divisor).replace("WEIGHTS", weights)
    part = zygote.probe(script, steps=7, parts=("ignored_labels",)).gathered.parts.get("ignored_labels")
    means = part.means if part is not None else ()
    assert [(mean.first_empty, mean.location.line) for mean in means] == [(4, 13)] * found
