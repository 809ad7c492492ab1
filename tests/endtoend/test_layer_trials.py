"""Trials of other layers, other derivatives and other axes: what the script does with the remedy written into it."""

from __future__ import annotations

import pytest
from tried import CLASSIFIER, STEPS, R, some, trial

from auditor.evidence import RemedyKind

BODY = "nn.Linear(6, 24), nn.ReLU(), "
NORMED = CLASSIFIER.replace(BODY, BODY + "nn.BatchNorm1d(24), ")
CUBE = """
class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 0.1 * x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 0.1 * grad * x


class Cubed(nn.Module):
    def forward(self, x):
        return Cube.apply(x)

"""
FROZEN = """
norm = nn.BatchNorm1d(6).requires_grad_(False)
norm.running_mean.fill_(0.5)
norm.running_var.fill_(4.0)
"""
ON_FROZEN = FROZEN + CLASSIFIER.replace("nn.Sequential(", "nn.Sequential(norm, ")
STACKED = CLASSIFIER.replace(BODY, "nn.Linear(6, 24), nn.Sigmoid(), nn.Linear(24, 24), nn.Tanh(), ")
PADDED = """
lengths = torch.randint(3, 9, (96,))
visits = torch.randn(96, 9, 4)
wanted = visits.cumsum(1).mean(2)
blank = torch.arange(9) >= lengths[:, None]
visits[blank], wanted[blank] = 0.0, 0.0
model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for v, w, n in batches(visits, wanted, lengths):
    out = model(v)
    loss = ((out - w) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if done(loss):
        break
"""
SCHEDULED = CLASSIFIER.replace(
    "for step", "cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, 600, cycle_momentum=False)\nfor step"
).replace("    if done", "    if step % 6 == 5:\n        cycle.step()\n    if done")
SCALED = CLASSIFIER.replace("optimizer = ", "scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)\noptimizer = ")
SCALED = SCALED.replace("loss.backward()", "scaler.scale(loss).backward()").replace(
    "    optimizer.step()", "    scaler.step(optimizer)\n    scaler.update()"
)
UNDERFLOW = CUBE.replace("0.1 * x**3", "x.clone()").replace("0.1 * grad * x", "(grad * 1e-6).half().float() * 1e6")
UNDERFLOW += CLASSIFIER.replace("nn.ReLU()", "Cubed()")
LANGUAGE = """
text = torch.randint(0, 9, (96, 12)).cumsum(1) % 9
model = nn.Sequential(nn.Embedding(9, 16), nn.Linear(16, 9))
# TIEmodel[1].weight = model[0].weight
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for (a,) in batches(text):
    loss = F.cross_entropy(model(a)[:, :-1].flatten(0, 1), a[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if done(loss):
        break
"""
SINGLE = CLASSIFIER.replace("nn.Linear(6, 24)", "nn.Unflatten(1, (6, 1)), NORM, nn.Flatten(1), nn.Linear(6, 24)")
REAL = "[torch.arange(9) < n[:, None]]"

CASES = {
    "the derivative of the forward": (
        CUBE + CLASSIFIER.replace("nn.ReLU()", "Cubed()"),
        R(RemedyKind.OWN_DERIVATIVE, subject="Cube"),
        CUBE.replace("Cube.apply(x)", "0.1 * x**3") + CLASSIFIER.replace("nn.ReLU()", "Cubed()"),
    ),
    "group norm": (NORMED, R(RemedyKind.GROUP_NORM), NORMED.replace("nn.BatchNorm1d(24)", "nn.GroupNorm(1, 24)")),
    "frozen norms": (ON_FROZEN, R(RemedyKind.FROZEN_NORMS), ON_FROZEN.replace("(False)\n", "(False).eval()\n")),
    "relu": (STACKED, R(RemedyKind.RELU_UNITS), STACKED.replace("nn.Sigmoid()", "nn.ReLU()").replace("Tanh", "ReLU")),
    "a schedule at every update": (
        SCHEDULED,
        R(RemedyKind.STEP_SCHEDULE),
        SCHEDULED.replace("    if step % 6 == 5:\n        ", "    "),
    ),
    "a loss that is not scaled": (
        SCALED.replace("scaler.scale(loss).backward()", "scaler.scale(loss)\n    loss.backward()"),
        R(RemedyKind.ONE_SCALE),
        CLASSIFIER,
    ),
    "a scaled loss": (
        UNDERFLOW,
        R(RemedyKind.SCALE_LOSS, 65536.0),
        UNDERFLOW.replace(
            "    loss.backward()", "    (65536 * loss).backward()\n    [p.grad.div_(65536) for p in model.parameters()]"
        ),
    ),
    "one weight": (LANGUAGE, R(RemedyKind.TIE_WEIGHTS, layers=("0", "1")), LANGUAGE.replace("# TIE", "")),
    "norms over a single value": (
        SINGLE.replace("NORM", "nn.LayerNorm(1)"),
        R(RemedyKind.NO_SINGLE_NORMS),
        SINGLE.replace("NORM", "nn.Identity()"),
    ),
    "group norms over a single value": (
        SINGLE.replace("NORM", "nn.GroupNorm(6, 6)").replace("nn.Unflatten(1, (6, 1)), ", ""),
        R(RemedyKind.NO_SINGLE_NORMS),
        SINGLE.replace("NORM", "nn.Identity()"),
    ),
    "a new layer that is frozen": (
        CLASSIFIER.replace("optimizer =", "model[0].requires_grad_(False)\noptimizer ="),
        R(RemedyKind.LEARN_LAYERS, layers=("0",)),
        CLASSIFIER,
    ),
    "a new layer that no optimizer has": (
        CLASSIFIER.replace("optimizer =", "model[0].requires_grad_(False)\noptimizer =").replace(
            "model.parameters()", "model[2].parameters()"
        ),
        R(RemedyKind.LEARN_LAYERS, layers=("0",)),
        CLASSIFIER,
    ),
    "padding by hand": (
        PADDED,
        R(RemedyKind.IGNORE_PADDING),
        PADDED.replace("((out - w) ** 2).mean()", f"((out - w) ** 2){REAL}.mean()"),
    ),
    "padding of a loss function": (
        PADDED.replace("((out - w) ** 2).mean()", "F.smooth_l1_loss(out, w)"),
        R(RemedyKind.IGNORE_PADDING),
        PADDED.replace("((out - w) ** 2).mean()", f"F.smooth_l1_loss(out{REAL}, w{REAL})"),
    ),
}


FURTHER = {  # in the same room as one of the others
    "a scaled loss",
    "group norms over a single value",
    "a new layer that no optimizer has",
    "padding of a loss function",
    "relu",
    "group norm",
}


@pytest.mark.parametrize("case", some(CASES, FURTHER))
def test_a_trial_is_what_the_rewritten_script_does(case, audited, written):
    faulty, remedy, rewritten = CASES[case]
    run = trial(audited(faulty, remedy))
    assert run.looks, run.refused
    # Of these scripts, the loss in evaluation mode and that of the counted labels are the rewritten script's loss.
    assert run.looks[0].treated[:STEPS] == pytest.approx(written(rewritten), rel=2e-3, abs=1e-4)
    assert run.looks[0].treated != run.looks[0].control


def test_padding_is_measured_by_the_real_positions_in_both_arms(audited, written):
    run = trial(audited(PADDED, R(RemedyKind.IGNORE_PADDING)))
    assert run.metric == "loss of the counted labels"
    shown = PADDED.replace("done(loss)", f"done(((out - w) ** 2){REAL}.mean())")
    assert run.looks[0].control[:STEPS] == pytest.approx(written(shown), rel=2e-3)


SERIES = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 16), nn.Linear(16, 3)

    def forward(self, s):
        OUTPUTS
        return self.head(states)


series = torch.randn(96, 7, 3)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for a, b in batches(series, y):
    loss = F.cross_entropy(model(a), b)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if done(loss):
        break
"""


def test_layers_that_take_the_batch_first_keep_samples_apart(audited):
    run = trial(audited(SERIES.replace("OUTPUTS", "states = self.rnn(s)[0][:, -1]"), R(RemedyKind.BATCH_FIRST)))
    assert run.metric == "influence of other samples"
    assert min(run.looks[0].control) > 0.01
    assert max(run.looks[0].treated) < 1e-5


def test_a_view_that_swaps_axes_is_told_from_layers_that_take_the_sequence_first(audited):
    script = SERIES.replace("OUTPUTS", "states = self.rnn(s.view(7, len(s), 3))[0][-1]")
    audit = audited(script, R(RemedyKind.BATCH_FIRST), R(RemedyKind.SWAP_AXES))
    first, second = audit.evidence.trials.runs[:2]
    assert "does not depend on the sample itself" in first.refused
    assert min(second.looks[0].control) > 0.01
    assert max(second.looks[0].treated) < 1e-5


def test_heads_that_are_stacked_along_the_batch_are_merged_side_by_side(audited):
    merged = "states = torch.cat(self.rnn(s)[0].chunk(4, dim=2)).reshape(len(s), 7, 16)[:, -1]"
    script = SERIES.replace("nn.GRU(3, 16)", "nn.GRU(3, 16, batch_first=True)").replace("OUTPUTS", merged)
    run = trial(audited(script, R(RemedyKind.SWAP_AXES)))
    assert min(run.looks[0].control) > 0.01
    assert max(run.looks[0].treated) < 1e-5


REFUSED = [
    (R(RemedyKind.BATCH_FIRST), "no recurrent or attention layer"),
    (R(RemedyKind.SWAP_AXES), "no view changes the order"),
    (R(RemedyKind.OWN_DERIVATIVE, subject="Cube"), "no autograd function of that name"),
    (R(RemedyKind.GROUP_NORM), "was not met"),
    (R(RemedyKind.FROZEN_NORMS), "no batch norm has weights"),
    (R(RemedyKind.NO_SINGLE_NORMS), "was not met"),
    (R(RemedyKind.LEARN_LAYERS, layers=("0",)), "no frozen weight"),
    (R(RemedyKind.ONE_SCALE), "no GradScaler"),
    (R(RemedyKind.TIE_WEIGHTS, layers=("0", "1")), "were not found"),
    (R(RemedyKind.STEP_SCHEDULE), "no single schedule"),
    (R(RemedyKind.RELU_UNITS), "no tanh or sigmoid"),
    (R(RemedyKind.IGNORE_PADDING), "was not met"),
]


def test_what_cannot_be_tried_says_why(audited):
    audit = audited(CLASSIFIER, *(remedy for remedy, _ in REFUSED))
    [finding] = audit.findings
    assert finding.fix.trial is None
    assert REFUSED[0][1] in finding.fix.untried
    refused = {run.remedies[0].kind: run.refused for run in audit.evidence.trials.runs}
    for remedy, reason in REFUSED:
        assert reason in refused[remedy.kind]
