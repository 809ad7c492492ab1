"""Trials of what a model answers: with the same weights, as it is and with the remedy."""

from __future__ import annotations

import pytest
from tried import R, trial

from auditor.evidence import RemedyKind

LOOP = """
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step, (a, b) in enumerate(batches(x, y)):
    loss = F.cross_entropy(model(a), b)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if done(loss):
        break
"""
DROPOUT = "model = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Dropout(0.5), nn.Linear(24, 3))" + LOOP
NORM = "model = nn.Sequential(nn.Linear(6, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 3))" + LOOP
PLAIN = "model = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3))" + LOOP
FUNCTION = (
    """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 24), nn.Linear(24, 3)

    def forward(self, x):
        return self.head(F.dropout(self.body(x).relu(), 0.5))


model = Net()
"""
    + LOOP
)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (DROPOUT, RemedyKind.EVALUATION_MODE),
        (NORM, RemedyKind.EVALUATION_MODE),
        (FUNCTION, RemedyKind.QUIET_EVALUATION),
    ],
    ids=["dropout", "batch norm", "dropout as a function"],
)
def test_evaluations_come_out_the_same(script, kind, audited):
    audit = audited(script, R(kind))
    run = trial(audit)
    assert run.metric == "change between evaluations"
    assert len(run.looks) == 2, run.refused
    assert all(value > 0.01 for look in run.looks for value in look.control)
    assert all(value < 1e-5 for look in run.looks for value in look.treated)
    shown = audit.findings[0].fix.trial
    assert shown is not None
    assert shown.helped


@pytest.mark.parametrize("kind", [RemedyKind.EVALUATION_MODE, RemedyKind.QUIET_EVALUATION])
def test_a_model_that_always_answers_alike_has_nothing_to_gain(kind, audited):
    assert "made no difference" in trial(audited(PLAIN, R(kind))).refused


@pytest.mark.parametrize("kind", [RemedyKind.CAUSAL_MASK, RemedyKind.PADDING_MASK])
def test_what_the_model_does_not_have_is_the_reason(kind, audited):
    run = trial(audited(PLAIN, R(kind)))
    assert not run.looks
    assert "no tokens enter an embedding" in run.refused


def test_losses_and_batches_of_later_trials_are_untouched(audited):
    alone = trial(audited(DROPOUT, R(RemedyKind.RATE, 0.5)))
    audit = audited(DROPOUT, R(RemedyKind.EVALUATION_MODE), R(RemedyKind.RATE, 0.5))
    assert audit.evidence.trials.runs[0].looks
    after = [run for run in audit.evidence.trials.runs if run.remedies[0].kind is RemedyKind.RATE]
    assert not after or after[0].looks[0].treated == alone.looks[0].treated
