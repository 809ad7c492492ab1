"""An audit whose fixes were tried: helped, diverged as it was, no help, untried; causes with consequences."""

from __future__ import annotations

import math

from reports_samples import curve, faulty_evidence, finding, summary, verdict

from auditor.declare import Confidence
from auditor.result import Audit, Fix, ReportedFinding, Trial

RATE_DIFF = """\
--- train.py
+++ train.py
@@ -17,10 +17,11 @@
 train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
 test_loader = DataLoader(held_out + train_set[:250], batch_size=256)
 model = Net()
-optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
+optimizer = torch.optim.SGD(model.parameters(), lr=0.125, momentum=0.9)
 
 for epoch in range(10):
     for x, y in train_loader:
         loss = nn.functional.cross_entropy(model(x), y)
         loss.backward()
+        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
         optimizer.step()
"""  # noqa: W293
LONG_DIFF = "--- train.py\n+++ train.py\n@@ -1,30 +1,31 @@\n" + "".join(
    f" layer_{i} = nn.Linear(64, 64)\n" if i % 3 else f"-layer_{i} = Linear(64, 64)\n+layer_{i} = nn.Linear(64, 64)\n"
    for i in range(30)
)


def runaway(steps: int, broke: int) -> tuple[float, ...]:
    """A loss that explodes and is no number from a step on."""
    return tuple(2.3 + 0.02 * 1.25**i if i < broke else math.inf if i == broke else math.nan for i in range(steps))


def diverging() -> list[ReportedFinding]:
    """A combination that helped where the loop as it is diverged, a diff, and a chain of two consequences."""
    fix = Fix(
        text="Lower the learning rate to a quarter and clip the gradients' norm.",
        diff=RATE_DIFF,
        trial=Trial(
            what="the learning rate times 0.25 and clipping at 1", steps=60, before=math.nan, after=0.41, helped=True,
            low=-4.1, high=-1.72, looks=2, control=runaway(60, 38), treated=curve(60, 2.34, 0.39, 0.03, 21),
        ),
        others=(
            Trial(what="the learning rate times 0.25", steps=60, before=math.nan, after=0.87, helped=True),
            Trial(what="clipping at 1", steps=60, before=math.nan, after=math.nan, helped=False),
        ),
    )  # fmt: skip
    return [
        finding("FIT102", "lr-too-high", "learning", "error", "The loss grows from step to step: 2.3 to infinity.", 20,
                where="SGD", measured=38, limit=60, since=0, fix=fix, title="The learning rate is too high.",
                why="Each step overshoots the minimum, and the next one starts further away."),
        finding("ACT101", "dead-units", "activations", "error", "41 of 64 units of features.2 were never above 0.", 9,
                where="features.2", measured=0.64, limit=0.5, since=20, caused_by="lr-too-high",
                confidence=Confidence.SUSPECTED, fix="Use `nn.LeakyReLU`."),
        finding("FIT104", "loss-plateau", "learning", "warning",
                "The loss did not fall in the last 22 steps, because it was no number.", 25, caused_by="dead-units",
                fix="See dead-units."),
    ]  # fmt: skip


def unscaled() -> list[ReportedFinding]:
    """A helped trial in two finite curves, and two consequences; no diff, so nothing to apply."""
    fix = Fix(
        text="Standardize the images: `transforms.Normalize(mean=[153], std=[70])`.",
        trial=Trial(what="standardized inputs", steps=60, before=2.21, after=1.03, helped=True, low=-1.31, high=-1.02,
                    control=curve(60, 2.6, 2.2, 0.02, 23), treated=curve(60, 2.4, 0.98, 0.02, 24)),
    )  # fmt: skip
    return [
        finding("DAT101", "uncentered-inputs", "data", "error", "The inputs have mean 155 and standard deviation 70.5.",
                17, measured=2.2, limit=1, since=0, fix=fix),
        finding("FIT101", "cannot-overfit", "learning", "warning", "16 samples could not be memorised.", 24,
                measured=2.31, limit=0.11, caused_by="uncentered-inputs"),
        finding("INI102", "init-scale", "init", "note", "The first layer's outputs have standard deviation 310.", 9,
                measured=310, limit=10, caused_by="uncentered-inputs"),
    ]  # fmt: skip


def refuted() -> ReportedFinding:
    """What was proposed did not help, nor did anything else; there is a diff, and no command to apply it."""
    fix = Fix(
        text="Leave out the dropout in front of the normalisation.",
        diff=LONG_DIFF,
        trial=Trial(what="no dropout", steps=60, before=2.21, after=2.24, helped=False, low=-0.02, high=0.08,
                    control=curve(60, 2.6, 2.2, 0.03, 25), treated=curve(60, 2.6, 2.24, 0.03, 26)),
        others=(Trial(what="no weight decay", steps=60, before=2.21, after=2.2, helped=False),),
    )  # fmt: skip
    return finding("MOD107", "dropout-before-norm", "model", "warning", "Dropout stands in front of a normalisation.",
                   10, since=20, fix=fix)  # fmt: skip


def measured_by_errors() -> ReportedFinding:
    """A fix that changes the loss itself is measured by the wrong answers."""
    fix = Fix(
        text="Weight the loss by class.",
        trial=Trial(what="class weights", metric="balanced error rate", steps=24, before=0.88, after=0.52, helped=True,
                    low=-0.42, high=-0.31, control=curve(24, 0.9, 0.88, 0.02, 27),
                    treated=curve(24, 0.9, 0.5, 0.05, 28)),
    )  # fmt: skip
    return finding("DAT201", "class-imbalance", "data", "warning", "The most frequent class has 121 times the samples "
                   "of the rarest.", 17, measured=121, limit=10, fix=fix)  # fmt: skip


def untried() -> ReportedFinding:
    fix = Fix(text="Set a seed.", untried="nothing in one run shows what another seed would do")
    return finding("REP101", "unseeded", "reproducibility", "note", "No seed is set.", 1, fix=fix)


def tried() -> Audit:
    """The causes with their consequences right after them, as the judge orders them."""
    seen = faulty_evidence()
    seen = seen.model_copy(update={"leakage": None, "gradient_resets": None})
    findings = [*diverging(), *unscaled(), refuted(), measured_by_errors(), untried()]
    verdicts = [
        *(verdict(f.code, f.rule, f.family, "fail", f.message, measured=f.measured, limit=f.limit) for f in findings),
        verdict("OPT101", "missing-zero-grad", "optimizer", "pass", measured=0, limit=0),
    ]
    return Audit(
        run=seen.run, findings=tuple(findings), verdicts=tuple(verdicts), evidence=seen,
        summary=summary(findings, verdicts),
    )  # fmt: skip


ALL = {"tried": tried}
