"""What a trial measures is what the script itself would do if the remedy were written into it."""

from __future__ import annotations

import pytest
from tried import CLASSIFIER, REGRESSION, STEPS, R, lines, some, trial

from auditor.evidence import RemedyKind
from auditor.spec import TrialRequest

ZERO = "    optimizer.zero_grad()\n"
PROBABILITIES = CLASSIFIER.replace("F.cross_entropy(model(a), b)", "F.cross_entropy(F.softmax(model(a), dim=1), b)")
SQUASHED = CLASSIFIER.replace("nn.Linear(24, 3))", "nn.Linear(24, 3), nn.Softmax(dim=1))")
NLL = CLASSIFIER.replace("F.cross_entropy(model(a), b)", "F.nll_loss(model(a), b)")
WRONG_AXIS = CLASSIFIER.replace("F.cross_entropy(model(a), b)", "F.nll_loss(F.log_softmax(model(a), dim=0), b)")
ONE_UNIT = REGRESSION.replace("F.mse_loss(model(a), b)", "F.binary_cross_entropy(model(a).softmax(1), (b > 0).float())")
BOUNDED = REGRESSION.replace("F.mse_loss(model(a), b)", "F.mse_loss(torch.tanh(model(a)), b)")
BROADCAST = REGRESSION.replace("F.mse_loss(model(a), b)", "F.mse_loss(model(a), b.squeeze(1))")
BY_HAND = REGRESSION.replace("F.mse_loss(model(a), b)", "((model(a) - b.squeeze(1)) ** 2).mean()")
HALF = CLASSIFIER.replace("model.parameters()", "model[2].parameters()")
DECAY = "decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)\nfor step"
SCHEDULED = CLASSIFIER.replace("for step", DECAY).replace("    if done", "    decay.step()\n    if done")
STEP = "    optimizer.step()"
WARMED = CLASSIFIER.replace(STEP, "    optimizer.param_groups[0]['lr'] = 0.2 * min(1.0, (step + 1) / 10)\n" + STEP)
CLIPPED = CLASSIFIER.replace(STEP, "    nn.utils.clip_grad_norm_(model.parameters(), 0.1)\n" + STEP)
DIVIDED = CLASSIFIER.replace("loss.backward()", "(loss / 8).backward()")
HOLES = CLASSIFIER.replace("for step", "x[5, 2] = float('nan')\nfor step")
FILLED = HOLES.replace("    loss =", "    a = torch.where(a.isnan(), a.nanmean(0, keepdim=True), a)\n    loss =")
LOW = CLASSIFIER.replace("nn.Linear(24, 3))", "nn.Linear(24, 3)).bfloat16()").replace("model(a)", "model(a.bfloat16())")
PENALTY = CLASSIFIER.replace("momentum=0.9", "momentum=0.9, weight_decay=0.3")
LINEAR = CLASSIFIER.replace("nn.ReLU(), ", "")
PADDED = CLASSIFIER.replace("for step", "y[::3] = 0\nfor step")
SIGNED = REGRESSION.replace(
    "F.mse_loss(model(a), b)", "F.binary_cross_entropy_with_logits(model(a), 2 * (b > 0).float() - 1)"
)
MODULE = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 24), nn.Linear(24, 3)

    def forward(self, x):
        BODY
        return self.head(h.relu())


"""
MADE = CLASSIFIER.replace("nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3))", "Net()")
DETACHED = MODULE.replace("BODY", "h = self.body(x).detach()") + MADE
UNDER_NO_GRAD = MODULE.replace("BODY", "with torch.no_grad():\n            h = self.body(x)") + MADE
SCALED = CLASSIFIER.replace("optimizer = ", "scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)\noptimizer = ")
SCALED = SCALED.replace("loss.backward()", "scaler.scale(loss).backward()").replace(
    "    optimizer.step()",
    "    nn.utils.clip_grad_norm_(model.parameters(), 0.5)\n    scaler.step(optimizer)\n    scaler.update()",
)
UNSCALED = SCALED.replace("    nn.utils.clip", "    scaler.unscale_(optimizer)\n    nn.utils.clip")
LANGUAGE = """
text = torch.randint(0, 7, (96, 12)).cumsum(1) % 7
model = nn.Sequential(nn.Embedding(7, 16), nn.Linear(16, 7))
optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
for step, (a,) in enumerate(batches(text)):
    loss = F.cross_entropy(OUTPUTS.flatten(0, 1), LABELS.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if done(loss):
        break
"""


def predicting(outputs: str, labels: str) -> str:
    return LANGUAGE.replace("OUTPUTS", outputs).replace("LABELS", labels)


COPYING, SHIFTED = predicting("model(a)", "a"), predicting("model(a)[:, :-1]", "a[:, 1:]")
TWICE = predicting("model(a[:, :-1])[:, :-1]", "a[:, 1:][:, 1:]")
TWICE_LESS = predicting("model(a[:, :-1])[:, 1:-1]", "a[:, 1:][:, 1:-1]")
RATE_AT = "optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)"

CASES = {
    "rate": (CLASSIFIER, R(RemedyKind.RATE, 0.5), CLASSIFIER.replace("0.2,", "0.1,")),
    "warm-up": (CLASSIFIER, R(RemedyKind.WARM_UP, 10), WARMED),
    "clip": (CLASSIFIER, R(RemedyKind.CLIP, 0.1), CLIPPED),
    "divide the loss": (CLASSIFIER, R(RemedyKind.DIVIDE_LOSS, 8), DIVIDED),
    "zero": (CLASSIFIER.replace(ZERO, ""), R(RemedyKind.ZERO_GRADIENTS), CLASSIFIER),
    "zero, misplaced": (
        CLASSIFIER.replace(ZERO, "").replace(STEP, ZERO + STEP),
        R(RemedyKind.ZERO_GRADIENTS),
        CLASSIFIER,
    ),
    "leave out": (
        PROBABILITIES,
        R(RemedyKind.LEAVE_OUT, subject="softmax", site=lines(PROBABILITIES, "F.softmax")),
        CLASSIFIER,
    ),
    "leave out a module": (
        SQUASHED,
        R(RemedyKind.LEAVE_OUT, subject="softmax", site=lines(SQUASHED, "nn.Softmax")),
        CLASSIFIER,
    ),
    "leave out of a regression": (
        BOUNDED,
        R(RemedyKind.LEAVE_OUT, subject="tanh", site=lines(BOUNDED, "torch.tanh")),
        REGRESSION,
    ),
    "log-probabilities": (NLL, R(RemedyKind.LOG_PROBABILITIES), CLASSIFIER),
    "axis": (
        WRONG_AXIS,
        R(RemedyKind.SOFTMAX_AXIS, 1.0, subject="log_softmax", site=lines(WRONG_AXIS, "F.log_softmax")),
        WRONG_AXIS.replace("dim=0", "dim=1"),
    ),
    "sigmoid": (
        ONE_UNIT,
        R(RemedyKind.SIGMOID, subject="softmax", site=lines(ONE_UNIT, "softmax(1)")),
        ONE_UNIT.replace("softmax(1)", "sigmoid()"),
    ),
    "shapes": (BROADCAST, R(RemedyKind.MATCH_SHAPES), REGRESSION),
    "shapes by hand": (BY_HAND, R(RemedyKind.MATCH_SHAPES, site=lines(BY_HAND, "- b.squeeze")), REGRESSION),
    "all parameters": (HALF, R(RemedyKind.ADD_PARAMETERS), CLASSIFIER),
    "rate held": (SCHEDULED, R(RemedyKind.HOLD_RATE), CLASSIFIER),
    "leaky": (CLASSIFIER, R(RemedyKind.LEAKY_UNITS), CLASSIFIER.replace("nn.ReLU()", "nn.LeakyReLU(0.01)")),
    "no penalty": (PENALTY, R(RemedyKind.NO_PENALTY), CLASSIFIER),
    "finite inputs": (HOLES, R(RemedyKind.CLEAN_INPUTS), FILLED),
    "full precision": (LOW, R(RemedyKind.FULL_PRECISION), LOW.replace(".bfloat16()", ".bfloat16().float()")),
    "nonlinearity": (LINEAR, R(RemedyKind.NONLINEARITY, layers=("0",)), CLASSIFIER),
    "ignored labels": (PADDED, R(RemedyKind.IGNORE_LABELS, 0.0), PADDED.replace("a), b)", "a), b, ignore_index=0)")),
    "labels of the same token": (COPYING, R(RemedyKind.SHIFT_LABELS, 0.0), SHIFTED),
    "labels shifted twice": (TWICE, R(RemedyKind.SHIFT_LABELS, 2.0), TWICE_LESS),
    "labels of -1": (SIGNED, R(RemedyKind.REPAIR_LABELS), SIGNED.replace("2 * (b > 0).float() - 1", "(b > 0).float()")),
    "the graph kept": (
        DETACHED,
        R(RemedyKind.KEEP_GRAPH, subject="detach", site=lines(DETACHED, ".detach()")),
        DETACHED.replace(".detach()", ""),
    ),
    "the graph kept under no_grad": (
        UNDER_NO_GRAD,
        R(RemedyKind.KEEP_GRAPH, subject="no_grad"),
        UNDER_NO_GRAD.replace("with torch.no_grad():", "if True:"),
    ),
    "clipped after unscaling": (SCALED, R(RemedyKind.CLIP_UNSCALED), UNSCALED),
    "two together": (
        CLASSIFIER.replace(ZERO, ""),
        (R(RemedyKind.ZERO_GRADIENTS), R(RemedyKind.RATE, 0.5)),
        CLASSIFIER.replace("0.2,", "0.1,"),
    ),
}  # fmt: skip


FURTHER = {  # in the same room as one of the others
    "divide the loss",
    "zero, misplaced",
    "leave out a module",
    "leave out of a regression",
    "log-probabilities",
    "shapes by hand",
    "rate held",
    "finite inputs",
    "labels shifted twice",
    "labels of -1",
    "the graph kept under no_grad",
    "zero",
    "axis",
    "sigmoid",
    "leaky",
    "nonlinearity",
    "labels of the same token",
    "full precision",
}


@pytest.mark.parametrize("case", some(CASES, FURTHER))
def test_a_trial_is_what_the_rewritten_script_does(case, audited, written, monkeypatch):
    faulty, remedies, rewritten = CASES[case]
    if isinstance(remedies, tuple):
        # Only together: each by itself counts as tried.
        monkeypatch.setattr("auditor.trials.candidates", lambda given: [TrialRequest(remedies=tuple(given))])
        run = trial(audited(faulty, *remedies))
    else:
        run = trial(audited(faulty, remedies))
    assert run.looks, run.refused
    expected = written(rewritten)
    heard = run.looks[0].treated[:STEPS]
    if run.metric.startswith("loss"):
        assert heard == pytest.approx(expected, rel=2e-3, abs=1e-4)
    else:  # of other figures it is enough that they are not those of the script as it is
        assert len(heard) == STEPS
        assert run.looks[0].treated != run.looks[0].control


def test_the_metric_is_the_share_of_wrong_answers_where_the_loss_changes_its_meaning(audited):
    hard = "y = torch.randint(0, 3, (96,))\n" + PROBABILITIES
    run = trial(audited(hard, R(RemedyKind.LEAVE_OUT, subject="softmax", site=lines(hard, "F.softmax"))))
    assert run.metric == "log loss"
    assert run.looks[0].control[0] == pytest.approx(run.looks[0].treated[0])  # the same probabilities at first


def test_or_the_share_of_wrong_answers_where_there_are_no_probabilities(audited):
    wrong = WRONG_AXIS.replace("F.log_softmax(model(a), dim=0)", "F.log_softmax(model(a), dim=0).roll(1)")
    run = trial(audited(wrong, CASES["log-probabilities"][1]))
    assert run.metric == "error rate"
    assert all(0 <= rate <= 1 for look in run.looks for rate in (*look.control, *look.treated))


def test_where_nothing_is_answered_wrong_the_loss_tells(audited):
    easy = NLL.replace("F.nll_loss(model(a), b)", "F.nll_loss(F.softmax(model(a), dim=1), b)")
    assert trial(audited(easy, R(RemedyKind.LOG_PROBABILITIES))).metric == "loss"


def test_the_metric_of_a_regression_is_its_loss(audited):
    run = trial(audited(BOUNDED, CASES["leave out of a regression"][1]))
    assert run.metric == "loss"


def test_a_remedy_that_helps_is_shown_with_both_curves_and_an_interval(audited):
    audit = audited(CLASSIFIER.replace(ZERO, ""), R(RemedyKind.ZERO_GRADIENTS))
    [finding] = audit.findings
    shown = finding.fix.trial
    assert shown is not None
    assert shown.helped
    assert shown.looks == 2
    assert shown.after < 0.5 * shown.before
    assert shown.high is None or shown.high < 0
    assert len(shown.control) == len(shown.treated) == shown.steps
    assert finding.proof == "trial"
    assert finding.confidence == "confirmed"


def test_a_remedy_that_does_not_help_says_so_and_the_next_one_is_tried(audited):
    audit = audited(CLASSIFIER, R(RemedyKind.CLIP, 0.001), R(RemedyKind.RATE, 0.001))
    [finding] = audit.findings
    assert finding.fix.trial is not None
    assert not finding.fix.trial.helped
    assert audit.evidence.trials.runs[0].remedies[0].kind is RemedyKind.CLIP
    assert len(audit.evidence.trials.runs) == 3  # each by itself, and both together
    assert len(finding.fix.others) == 2
    assert finding.confidence == "suspected"


REFUSED = [
    (R(RemedyKind.RATE), "does not say by how much"),
    (R(RemedyKind.MATCH_SHAPES), "was not met"),
    (R(RemedyKind.STANDARDIZE_TARGETS), "no regression loss"),
    (R(RemedyKind.ADD_PARAMETERS), "no parameter that it lacks"),
    (R(RemedyKind.LEAVE_OUT), "not known which call"),
    (R(RemedyKind.TRAINING_MODE), "made no difference"),
    (R(RemedyKind.REINITIALIZE, layers=("nowhere",)), "none of these layers"),
]


def test_what_cannot_be_tried_says_why(audited):
    audit = audited(CLASSIFIER, *(remedy for remedy, _ in REFUSED))
    [finding] = audit.findings
    assert finding.fix.trial is None
    assert REFUSED[0][1] in finding.fix.untried
    refused = {run.remedies[0].kind: run.refused for run in audit.evidence.trials.runs}
    for remedy, reason in REFUSED:
        assert reason in refused[remedy.kind]


def test_a_short_loop_is_started_again_for_its_trials(audited):
    audit = audited(CLASSIFIER.replace(ZERO, ""), R(RemedyKind.ZERO_GRADIENTS), loop_steps=240, steps=150)
    [finding] = audit.findings
    assert finding.fix.trial is not None, audit.run.phases
    assert finding.fix.trial.helped


def test_nothing_is_tried_where_nothing_is_named_or_trials_are_off(audited):
    assert audited(CLASSIFIER).evidence.trials is None
    assert audited(CLASSIFIER, R(RemedyKind.RATE, 0.5), trials=False).evidence.trials is None


def test_a_script_that_fails_under_a_trial_costs_that_trial_alone(audited):
    call = "F.nll_loss(check(F.softmax(model(a), dim=1)).log(), b)"
    script = CLASSIFIER.replace("F.cross_entropy(model(a), b)", call)
    script = "def check(p):\n    assert bool((p >= 0).all())\n    return p\n\n" + script
    broken = R(RemedyKind.LEAVE_OUT, subject="softmax", site=lines(script, "F.softmax"))
    audit = audited(script, broken, R(RemedyKind.RATE, 0.5))
    [finding] = audit.findings
    assert audit.run.status == "completed"
    assert {run.remedies[0].kind for run in audit.evidence.trials.runs} == {RemedyKind.LEAVE_OUT, RemedyKind.RATE}
    assert finding.fix.trial is not None
