"""Trials that leave out held-out samples which training knows: how far off the held-out loss is because of them."""

from __future__ import annotations

import pytest
from tried import R, trial

from auditor.evidence import RemedyKind

DROP = R(RemedyKind.DROP_KNOWN, subject="test_loader")
# Labels without any rule: what is right of them has been learned by heart.
NOISE = """
x, y = torch.randn(400, 24), torch.randint(0, 2, (400,))
train_loader = DataLoader(TensorDataset(x[:200], y[:200]), batch_size=20, shuffle=True)
test_loader = DataLoader(TensorDataset(x[FIRST:LAST], y[FIRST:LAST]), batch_size=50)
model = nn.Sequential(nn.Linear(24, HIDDEN), nn.ReLU(), nn.Dropout(0.2), nn.Linear(HIDDEN, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(1000):
    model.train()
    for a, b in train_loader:
        loss = F.cross_entropy(model(a), b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        print(sum(F.cross_entropy(model(a), b).item() for a, b in test_loader))
"""


def noise(first: int, last: int, hidden: int = 64) -> str:
    return NOISE.replace("FIRST", str(first)).replace("LAST", str(last)).replace("HIDDEN", str(hidden))


def test_what_was_learned_by_heart_makes_the_held_out_loss_too_low(audited):
    audit = audited(noise(140, 300), DROP)  # 60 of 160 samples
    run = trial(audit)
    assert len(run.looks) == 2
    for look in run.looks:
        mean = sum(look.control) / len(look.control)
        assert 0.3 < mean < 60 / 160, "the loss of samples that are known by heart is next to nothing"
        assert set(look.treated) == {0.0}
    [finding] = audit.findings
    assert finding.fix.trial.helped
    assert finding.fix.trial.low < finding.fix.trial.high < 0
    assert finding.fix.trial.what == "without the samples of test_loader that are training samples"


def test_samples_that_nothing_was_learned_of_make_no_difference(audited):
    audit = audited(noise(140, 300).replace("lr=0.01", "lr=1e-7"), DROP)
    [look, *_] = trial(audit).looks
    assert abs(sum(look.control)) / len(look.control) < 0.05
    assert not audit.findings[0].fix.trial.helped


THREE_COLUMNS = (
    noise(140, 300).replace("y[140:300])", "y[140:300], torch.arange(160))").replace("b in test_", "b, _ in test_")
)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (noise(50, 150), "without the samples concerned, 0 of test_loader are left"),
        (noise(190, 300), "10 samples of test_loader are concerned"),
        (noise(200, 300), "no loader that tells which"),
        (THREE_COLUMNS, "do not make batches like those of training"),
    ],
)
def test_where_it_cannot_be_measured_it_says_why(audited, script, reason):
    [finding] = audited(script, DROP).findings
    assert finding.fix.trial is None
    assert reason in finding.fix.untried
