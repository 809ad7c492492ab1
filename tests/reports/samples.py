"""Audits as real programs give them: a faulty one, a healthy one, a crash, a hostile one, a very deep one."""

from __future__ import annotations

import base64
import math
import random
import struct
import zlib
from typing import Any

from auditor import evidence as ev
from auditor.declare import Confidence, Severity
from auditor.result import Audit, Fix, Outcome, ReportedFinding, SourceLine, Summary, Suppressed, Trial, Verdict

FILE = "train.py"
SOURCE = """\
import torch
from torch import nn
from torch.utils.data import DataLoader, random_split


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU())
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


train_set, held_out = load_cifar(), load_cifar(train=False)
train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
test_loader = DataLoader(held_out + train_set[:250], batch_size=256)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)

for epoch in range(10):
    for x, y in train_loader:
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
""".splitlines()


def at(line: int, function: str = "") -> ev.Location:
    return ev.Location(file=FILE, line=line, function=function)


def frame(line: int) -> tuple[SourceLine, ...]:
    rows = range(max(1, line - 2), min(len(SOURCE), line + 2) + 1)
    return tuple(SourceLine(number=n, text=SOURCE[n - 1]) for n in rows)


def finding(
    code: str, rule: str, family: str, severity: str, message: str, line: int = 0, **more: Any
) -> ReportedFinding:
    fix = more.pop("fix", "Change it.")
    place = {"location": at(line, "<module>"), "source": frame(line)} if line else {}
    values: dict[str, Any] = {
        "id": f"{code}-{zlib.crc32((rule + message).encode('utf-8', 'replace')):08x}",
        "rule": rule,
        "code": code,
        "family": family,
        "severity": Severity(severity),
        "confidence": Confidence.CONFIRMED,
        "message": message,
        "fix": fix if isinstance(fix, Fix) else Fix(text=fix),
    }
    return ReportedFinding(**{**values, **place, **more})


def verdict(code: str, rule: str, family: str, outcome: str, reason: str = "", **more: Any) -> Verdict:
    return Verdict(code=code, rule=rule, family=family, outcome=Outcome(outcome), reason=reason, **more)


def summary(findings: list[ReportedFinding], verdicts: list[Verdict], suppressed: int = 0) -> Summary:
    severities = [f.severity.value for f in findings]
    outcomes = [v.outcome.value for v in verdicts]
    return Summary(
        errors=severities.count("error"),
        warnings=severities.count("warning"),
        notes=severities.count("note"),
        passed=outcomes.count("pass"),
        not_applicable=outcomes.count("not-applicable"),
        inconclusive=outcomes.count("inconclusive"),
        rule_errors=outcomes.count("error"),
        suppressed=suppressed,
    )


def thumbnail(seed: int, size: int = 32) -> str:
    """A small PNG as a data URI: a soft blob on a gradient."""
    dice = random.Random(seed)
    cx, cy, hue = dice.uniform(8, 24), dice.uniform(8, 24), [dice.randrange(256) for _ in range(3)]
    rows = b""
    for y in range(size):
        rows += b"\0"
        for x in range(size):
            glow = math.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 60)
            rows += bytes(min(255, int(glow * h + (1 - glow) * (40 + 4 * y))) for h in hue)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()


def curve(steps: int, start: float, end: float, noise: float = 0.05, seed: int = 1) -> tuple[float, ...]:
    dice = random.Random(seed)
    return tuple(
        round(end + (start - end) * math.exp(-4 * i / steps) + dice.gauss(0, noise) * start, 5) for i in range(steps)
    )


LAYERS = (("features.0", "Conv2d", 896, 9), ("features.2", "Conv2d", 18_496, 9), ("head", "Linear", 650, 10))


def program(layers: tuple[tuple[str, str, int, int], ...] = LAYERS) -> ev.Program:
    built = tuple(
        ev.Layer(name=n, kind=k, parameters=p, trainable=p, shape=(64, 32, 3, 3), location=at(line))
        for n, k, p, line in layers
    )
    total = sum(layer.parameters for layer in built)
    return ev.Program(
        loop="loader",
        models=(ev.Model(name="Net", kind="Net", parameters=total, trainable=total, location=at(19), layers=built),),
        optimizers=(
            ev.Optimizer(
                kind="SGD", learning_rates=(0.5,), momentum=0.9, weight_decay=0.0, parameters=total, steps=60,
                location=at(20), step_location=at(26),
            ),
        ),
        schedulers=(ev.Scheduler(kind="CosineAnnealingLR", steps=1, location=at(21)),),
        losses=(ev.LossFunction(name="cross_entropy", calls=60, location=at(24)),),
        loaders=(
            ev.Loader(name="train_loader", role="training", dataset="CIFAR10", samples=50_000, batch_size=64,
                      sampler="RandomSampler", shuffled=True, workers=2, location=at(17)),
            ev.Loader(name="test_loader", role="held-out", dataset="ConcatDataset", samples=10_250, batch_size=256,
                      sampler="SequentialSampler", shuffled=False, location=at(18)),
        ),
        clippings=(ev.Clipping(kind="norm", limit=1.0, calls=60, location=at(25)),),
        loss_location=at(25),
    )  # fmt: skip


def experiments(steps: int = 60) -> dict[str, Any]:
    rates = tuple(10 ** (-6 + 7 * i / 59) for i in range(60))
    smooth = tuple(2.4 - 1.2 / (1 + math.exp(-3 * (math.log10(r) + 2.5))) for r in rates)
    diverged = tuple(v if r < 0.3 else v * (r / 0.3) ** 3 for v, r in zip(smooth, rates, strict=True))
    dice = random.Random(5)
    return {
        "overfit": ev.Overfit(
            samples=16, batch_size=64, tiled=True, floor=0.0, floor_reason="hard labels", target=0.11, initial=2.62,
            arms=(
                ev.OverfitArm(rate_factor=1, learning_rate=0.5, losses=curve(steps, 2.6, 2.31, 0.04, 2), accuracy=0.12,
                              reached=False),
                ev.OverfitArm(rate_factor=0.1, learning_rate=0.05, losses=curve(steps, 2.6, 0.03, 0.004, 3),
                              accuracy=1.0, reached=True),
            ),
            fidelity=0.0, loss_function="cross_entropy", location=at(24),
        ),
        "rate_sweep": ev.RateSweep(
            rates=rates, losses=tuple(v + dice.gauss(0, 0.06) for v in diverged), smoothed=diverged, user_rate=0.5,
            suggested=0.0032, diverged_at=0.62, optimizer="SGD", location=at(20),
        ),
        "lower_rate": ev.LowerRate(
            factor=0.25, learning_rate=0.5, optimizer="SGD", fidelity=0.0, location=at(20),
            looks=(
                ev.PairedReplay(start="initial", control=curve(steps, 2.6, 2.2, 0.05, 7),
                                treated=curve(steps, 2.6, 0.8, 0.02, 8)),
                ev.PairedReplay(start="later", control=curve(steps, 2.3, 2.25, 0.05, 9),
                                treated=curve(steps, 2.3, 0.6, 0.02, 10)),
            ),
        ),
        "standardized_inputs": ev.StandardizedInputs(
            looks=(ev.PairedReplay(start="initial", control=curve(steps, 2.6, 2.2, 0.05, 7),
                                   treated=curve(steps, 2.5, 1.9, 0.04, 11)),), location=at(17),
        ),
    }  # fmt: skip


def gradients(names: list[str], steps: int = 60) -> ev.Gradients:
    dice = random.Random(3)
    layers = tuple(
        ev.LayerGradients(
            name=name, kind="Conv2d", location=at(9),
            norms=tuple(
                0.02 * (1 + step / 6) * 10 ** (2 * (i / max(1, len(names) - 1)) - 1 + dice.gauss(0, 0.08))
                for step in range(steps)
            ),
        )
        for i, name in enumerate(names)
    )  # fmt: skip
    return ev.Gradients(steps=tuple(range(steps)), layers=layers)


def faulty_evidence() -> ev.Evidence:
    names = [layer[0] for layer in LAYERS]
    run = ev.Run(
        target=FILE, args=("--epochs", "10"), steps=60, seconds=14.24, step_seconds=0.0312, overhead=1.04,
        torch="2.13.0", python="3.11.9", seed=0, diverted=("checkpoints/best.pt", "runs/events.out"),
        notes=("The first epoch was cut short after 40 batches.",),
        phases=(
            ev.Phase(name="start-up", status="completed", seconds=2.1),
            ev.Phase(name="observe", status="completed", seconds=4.4, steps=60),
            ev.Phase(name="overfit", status="completed", seconds=2.2, steps=120),
            ev.Phase(name="rate sweep", status="cut-short", seconds=3.3, steps=60, reason="the loss diverged"),
            ev.Phase(name="label shuffle", status="skipped", reason="the time was needed elsewhere"),
        ),
    )  # fmt: skip
    return ev.Evidence(
        run=run,
        program=program(),
        trajectory=ev.Trajectory(
            losses=(*curve(58, 2.62, 2.25, 0.05), math.nan, math.inf),
            learning_rates=(0.5,) * 60,
            grad_norms=tuple(0.42 * 1.068**i for i in range(60)),
            epoch_starts=(0, 40),
            held_out=((39, 2.41), (59, 2.38)),
        ),
        gradients=gradients(names),
        updates=ev.Updates(
            steps=(0, 20, 40, 59),
            layers=tuple(
                ev.LayerUpdates(name=n, location=at(9), ratios=(0.003 * k, 0.004 * k, 0.006 * k, 0.01 * k))
                for k, n in enumerate(names, 1)
            ),
        ),
        initial_loss=ev.InitialLoss(
            function="cross_entropy", value=2.62, standard_error=0.03, samples=256, classes=10, uniform=math.log(10),
            marginal=2.21, location=at(24), where="head",
        ),
        inputs=ev.Inputs(kind="image", shape=(64, 3, 32, 32), samples=640, mean=0.47, std=0.25, min=0, max=1),
        labels=ev.Labels(
            classes=10, counts=(5923, 2742, 1958, 1131, 842, 421, 318, 165, 51, 49), complete=True,
            held_out_counts=(1000,) * 10, seen=(640, 270, 190, 110, 80, 40, 30, 16, 5, 4),
            hits=(630, 90, 20, 0, 0, 0, 0, 0, 0, 0), predicted=(1280, 95, 10, 0, 0, 0, 0, 0, 0, 0), location=at(24),
        ),
        activations=ev.Activations(
            steps=(0, 20, 40, 59),
            layers=(
                ev.UnitActivity(name="features.0", units=32, dead=3, dead_start=0, dead_end=3, samples=57_600,
                                active_share=0.41, location=at(9)),
                ev.UnitActivity(name="features.2", units=64, dead=41, dead_start=2, dead_end=44, samples=50_176,
                                active_share=0.08, location=at(9)),
            ),
        ),
        gradient_resets=ev.GradientResets(
            optimizers=(
                ev.GradientReset(optimizer="SGD", steps_checked=60, stale_steps=59, zero_grad_calls=0,
                                 stale_norms=tuple(0.42 * 1.068**i * 0.9 for i in range(60)),
                                 grad_norms=tuple(0.42 * 1.068**i for i in range(60)), step_location=at(26)),
            )
        ),
        leakage=ev.Leakage(
            splits=(
                ev.Split(name="train_loader", role="training", samples=50_000, hashed=50_000, method="items"),
                ev.Split(name="test_loader", role="held-out", samples=10_250, hashed=10_250, method="items"),
            ),
            overlaps=(
                ev.Overlap(
                    training="train_loader", held_out="test_loader", shared=250, held_out_samples=10_250,
                    labels_agree=1.0, location=at(18),
                    pairs=tuple(
                        ev.SamplePair(training_index=i, held_out_index=10_000 + i, training_label="frog",
                                      held_out_label="frog" if i else "toad", thumbnail=thumbnail(i),
                                      held_out_thumbnail=thumbnail(i))
                        for i in range(8)
                    ),
                ),
            ),
        ),
        **experiments(),
    )  # fmt: skip


WHY = """\
PyTorch **adds** each new gradient to `parameter.grad`. Without a reset, step *n* follows the sum of all gradients so
far, so the effective rate grows with every step and the direction is dominated by the past.

- the loss oscillates or diverges
- a lower learning rate only delays that
"""
DOUBT = "Loops that accumulate over several micro-batches on purpose call `step()` less often than `backward()`."


def faulty() -> Audit:
    """Two root causes with consequences, warnings, a note, and every chart."""
    zero = finding(
        "OPT101", "missing-zero-grad", "optimizer", "error",
        "The gradients of earlier steps were still there in 59 of 60 steps: nothing clears them.", 26,
        where="SGD", measured=0.983, limit=0.0, since=0, why=WHY,
        title="Gradients pile up because nothing clears them.",
        doubt=DOUBT, detail=("zero_grad() was called 0 times.", "The gradient norm grew from 0.42 to 20.4."),
        references=("https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html",),
        fix=Fix(
            text="Clear the gradients before each backward pass:\n\n```python\noptimizer.zero_grad()\n```",
            diff="@@ -24,3 +24,4 @@\n         loss = nn.functional.cross_entropy(model(x), y)\n"
            "+        optimizer.zero_grad()\n         loss.backward()\n         optimizer.step()",
            trial=Trial(what="gradients cleared once an update", steps=60, before=2.25, after=0.41, helped=True),
        ),
    )  # fmt: skip
    explode = finding(
        "GRD101", "exploding-gradients", "gradients", "error",
        "The gradient norm grew 48-fold over 60 steps, from 0.42 to 20.4.", 25, measured=48.6, limit=10,
        caused_by="missing-zero-grad", confidence=Confidence.SUSPECTED, fix="Clip the gradient norm.",
    )  # fmt: skip
    rate = finding(
        "FIT102", "lr-too-high", "learning", "warning",
        "A quarter of the learning rate ended at 0.80 where the script's own ended at 2.20.", 20, where="SGD",
        measured=0.64, limit=0.1, caused_by="missing-zero-grad", fix="Lower the learning rate to `0.0032`.",
    )  # fmt: skip
    leak = finding(
        "LEK101", "test-set-leakage", "leakage", "error",
        "250 of 10,250 held-out samples (2.4 %) are training samples, bit for bit.", 18, where="test_loader",
        measured=0.0244, limit=0.0, title="Held-out samples are also trained on.", why="The score is too good.",
        fix=Fix(text="Split before you concatenate, and `assert` that the index sets are disjoint.",
                untried="a score that is too good cannot be repaired in a few steps"),
        detail=("Labels agree in 100 % of the pairs.",),
    )  # fmt: skip
    dead = finding(
        "ACT101", "dead-units", "activations", "warning", "41 of 64 units of features.2 were never above 0.", 9,
        where="features.2", measured=0.64, limit=0.5, confidence=Confidence.SUSPECTED,
        fix="Lower the learning rate, or use `nn.LeakyReLU`.", why="A dead unit gets no gradient.",
    )  # fmt: skip
    imbalance = finding(
        "DAT201", "class-imbalance", "data", "warning",
        "The most frequent class has 121 times the samples of the rarest, and 7 classes are never predicted.", 17,
        measured=121, limit=10, fix="Weight the loss by class.", why="The loss is dominated by the first class.",
    )  # fmt: skip
    overfit = finding(
        "FIT101", "cannot-overfit", "learning", "note", "16 samples could be memorised only at a tenth of the rate.",
        24, measured=2.31, limit=0.11, fix="See missing-zero-grad.",
    )  # fmt: skip
    findings = [zero, explode, rate, leak, dead, imbalance, overfit]
    waived = finding("REP101", "unseeded", "reproducibility", "note", "No seed is set.", 1)
    verdicts = [
        *(verdict(f.code, f.rule, f.family, "fail", f.message, measured=f.measured, limit=f.limit) for f in findings),
        verdict("INI103", "initial-loss", "init", "pass", measured=1.14, limit=1.25, title="The first loss is right."),
        verdict("INI101", "symmetric-init", "init", "pass", "no duplicate units", measured=0, limit=0.5),
        verdict("LOS101", "double-softmax", "loss", "pass", measured=0.0, limit=0.0),
        verdict("DAT101", "uncentered-inputs", "data", "pass", measured=1.88, limit=3),
        verdict("GRD102", "vanishing-gradients", "gradients", "pass", measured=0.031, limit=1e-3),
        verdict("PRC101", "fp16-without-scaler", "precision", "not-applicable", "autocast is not used"),
        verdict("DST102", "missing-set-epoch", "distributed", "not-applicable", "one process only"),
        verdict("FIT104", "loss-plateau", "learning", "inconclusive", "needs 200 steps, saw 60"),
        verdict("FIT107", "shuffled-labels", "learning", "inconclusive", "the time was up before this experiment"),
        verdict("EFF101", "data-bound", "efficiency", "error", "the rule itself failed: ZeroDivisionError: division"),
    ]
    seen = faulty_evidence()
    return Audit(
        run=seen.run, findings=tuple(findings), verdicts=tuple(verdicts), evidence=seen,
        suppressed=(Suppressed(finding=waived, by="comment", reason="seeds differ between runs on purpose"),),
        notes=("train.py:12: the comment `audit: ignore[OPT106]` waives nothing",),
        summary=summary(findings, verdicts, 1),
    )  # fmt: skip


def healthy() -> Audit:
    """Nothing found."""
    seen = faulty_evidence()
    path = ev.Trajectory(
        losses=curve(60, 2.31, 0.9, 0.02), learning_rates=(0.05,) * 60, grad_norms=curve(60, 1.2, 0.6, 0.03)
    )
    run = seen.run.model_copy(update={"diverted": (), "notes": ()})
    seen = seen.model_copy(update={"trajectory": path, "run": run, "leakage": None, "gradient_resets": None})
    verdicts = [
        verdict("INI103", "initial-loss", "init", "pass", measured=1.0, limit=1.25),
        verdict("OPT101", "missing-zero-grad", "optimizer", "pass", measured=0, limit=0),
        verdict("FIT101", "cannot-overfit", "learning", "pass", measured=0.03, limit=0.11),
        verdict("PRC101", "fp16-without-scaler", "precision", "not-applicable", "autocast is not used"),
    ]
    return Audit(run=run, verdicts=tuple(verdicts), evidence=seen, summary=summary([], verdicts))


def crashed() -> Audit:
    """The script failed before its first step; no part was gathered."""
    run = ev.Run(
        target=FILE, status=ev.Status.SCRIPT_FAILED, exit_code=1, seconds=1.2, torch="2.13.0", python="3.11.9",
        crash=ev.Crash(
            kind="RuntimeError", message="mat1 and mat2 shapes cannot be multiplied (64x1024 and 64x10)",
            traceback='File "train.py", line 24, in <module>\n    loss = cross_entropy(model(x), y)', location=at(24),
        ),
    )  # fmt: skip
    verdicts = [
        verdict("OPT101", "missing-zero-grad", "optimizer", "inconclusive", "the probe ended before its first step"),
        verdict("INI103", "initial-loss", "init", "inconclusive", "the probe ended before its first step"),
    ]
    return Audit(
        run=run, verdicts=tuple(verdicts), evidence=ev.Evidence(run=run), summary=summary([], verdicts)
    )  # fmt: skip


EVIL = (
    "</script><img src=x onerror=alert(1)>\x1b[31m\x1b]0;owned\x07\u202egnp.exe @octocat | `a` **b** \n# h\r\n&lt;"
    "\x00\x9b2J\udcff\ufeff\u2066 --> ]]> <svg/onload=alert(1)> <!-- [x](javascript:alert(1)) $a$ </title></style>"
    "</code></td></details> '\"onfocus=alert(1) autofocus= @org/team #1 GH-2 https://example.com www.example.com ~~~ "
    + "x"
    * 10_000
)


def hostile() -> Audit:
    """Every text that a script can choose is an attack, and every series holds NaN and infinities."""
    nan, inf = math.nan, math.inf
    wild = (nan, inf, 1.0, -inf, 1e308, -1e308, 0.0, 5e-324)
    bad = ev.Location(file=EVIL, line=3, function=EVIL)
    place: dict[str, Any] = {"location": bad}
    loss = ev.Overfit(
        samples=8, batch_size=8, tiled=False, floor=nan, target=nan, initial=inf, loss_function=EVIL,
        arms=(ev.OverfitArm(rate_factor=nan, learning_rate=inf, losses=wild, accuracy=nan, reached=False),),
    )  # fmt: skip
    replay = ev.PairedReplay(start="initial", control=(nan,) * 5, treated=wild)
    run = ev.Run(
        target=EVIL, args=(EVIL, "-x"), status=ev.Status.TIMEOUT, steps=8, seconds=nan, overhead=inf, device=EVIL,
        torch=EVIL, python=EVIL, diverted=(EVIL,), notes=(EVIL,),
        crash=ev.Crash(kind=EVIL, message=EVIL, traceback=EVIL),
        phases=(ev.Phase(name=EVIL, status="failed", reason=EVIL, seconds=inf),),
    )  # fmt: skip
    seen = ev.Evidence(
        run=run,
        program=program(((EVIL, EVIL, 10, 3),)),
        trajectory=ev.Trajectory(losses=wild, learning_rates=wild, grad_norms=wild, held_out=((3, nan), (5, 1.0))),
        gradients=ev.Gradients(steps=tuple(range(8)), layers=(ev.LayerGradients(name=EVIL, norms=wild),) * 3),
        updates=ev.Updates(steps=tuple(range(8)), layers=(ev.LayerUpdates(name=EVIL, ratios=wild),)),
        initial_loss=ev.InitialLoss(
            function=EVIL, value=nan, standard_error=nan, samples=1, classes=10, uniform=nan, marginal=nan),
        labels=ev.Labels(classes=2, counts=(0, 0), predicted=(0, 0)),
        activations=ev.Activations(steps=(), layers=(
            ev.UnitActivity(name=EVIL, units=0, dead=0, dead_start=0, dead_end=0, samples=0, active_share=nan),)),
        leakage=ev.Leakage(splits=(), overlaps=(ev.Overlap(
            training=EVIL, held_out=EVIL, shared=1, held_out_samples=0,
            pairs=(ev.SamplePair(training_index=0, held_out_index=0, training_label=EVIL, held_out_label=EVIL,
                                 thumbnail='x" onerror="alert(1)', held_out_thumbnail="https://example.com/a.png"),)),)),
        overfit=loss,
        rate_sweep=ev.RateSweep(rates=(nan, 0.0, -1.0, inf), losses=(nan,) * 4, smoothed=(nan,) * 4, user_rate=nan),
        lower_rate=ev.LowerRate(factor=nan, learning_rate=nan, looks=(replay,)),
        standardized_inputs=ev.StandardizedInputs(looks=(replay,)),
    )  # fmt: skip
    md = (
        f"{EVIL}\n\n<script>alert(1)</script> ![x](https://example.com/x.png) [y](javascript:alert(1))\n\n```\n{EVIL}\n"
    )
    found = [
        finding("FIT101", "cannot-overfit", "learning", "error", EVIL, where=EVIL, measured=nan, limit=inf, why=md,
                doubt=md, title=EVIL, detail=(EVIL,), references=("javascript:alert(1)", EVIL),
                fix=Fix(text=md, diff=EVIL, trial=Trial(
                    metric=EVIL, what=EVIL, steps=1, before=nan, after=inf, helped=False, low=nan, high=inf, looks=-3,
                    control=wild, treated=(nan, *wild, inf)), others=(Trial(
                        what=EVIL, metric="error rate", steps=1, before=inf, after=nan, helped=True),) * 20,
                    untried=EVIL),
                since=10**12, caused_by=EVIL,
                source=(SourceLine(number=2, text=EVIL), SourceLine(number=3, text="\t" + EVIL)), **place),
        finding(EVIL, EVIL, EVIL, "warning", EVIL, fix=Fix(text=EVIL, untried=EVIL), caused_by="cannot-overfit"),
    ]  # fmt: skip
    verdicts = [verdict(EVIL, EVIL, EVIL, o, EVIL, measured=nan, title=EVIL) for o in ("pass", "inconclusive", "error")]
    return Audit(
        run=run, findings=tuple(found), verdicts=tuple(verdicts), evidence=seen, notes=(EVIL,),
        suppressed=(Suppressed(finding=found[0], by="configuration", reason=EVIL),),
        summary=summary(found, verdicts, 1),
    )  # fmt: skip


def deep(layers: int = 400, steps: int = 120) -> Audit:
    """A network of 400 layers."""
    names = [
        f"encoder.blocks.{i // 4}.{('attention.query', 'attention.out', 'mlp.0', 'mlp.2')[i % 4]}"
        for i in range(layers)
    ]
    base = healthy()
    seen = base.evidence.model_copy(
        update={
            "program": program(tuple((name, "Linear", 262_656, 9) for name in names)),
            "gradients": gradients(names, steps),
            "activations": ev.Activations(
                steps=(0, 60),
                layers=tuple(
                    ev.UnitActivity(
                        name=n, units=256, dead=i % 90, dead_start=0, dead_end=i % 90, samples=640, active_share=0.4
                    )
                    for i, n in enumerate(names)
                ),
            ),
            "updates": ev.Updates(
                steps=(0, 60), layers=tuple(ev.LayerUpdates(name=n, ratios=(1e-3, 2e-3)) for n in names)
            ),
        }
    )
    return base.model_copy(update={"evidence": seen})


def huge() -> Audit:
    """More of everything than any program has: class names of a megabyte, 10,000 classes, thousands of layers."""
    base = hostile()
    long = EVIL + "Net" * 330_000
    names = tuple(f"{EVIL[:200]}.{i}" for i in range(2_000))
    picture = "data:image/png;base64," + "A" * 23_000
    pair = ev.SamplePair(
        training_index=1, held_out_index=2, training_label=EVIL, thumbnail=picture, held_out_thumbnail=picture
    )
    overlap = ev.Overlap(training=long, held_out=long, shared=99, held_out_samples=99, pairs=(pair,) * 99)
    code = "1 if'x'else 1;" * 14
    why = "- **a** `b` *c* | d\n" * 300
    found = tuple(
        finding(f"X{i}", f"rule-{i}", "learning", "error", long if i < 3 else EVIL, where=EVIL, why=why, doubt=why,
                detail=(EVIL,) * 20, references=(EVIL,) * 20, fix=Fix(text=why, diff=f"+{code}\n" * 80),
                location=ev.Location(file=long if i < 3 else EVIL, line=1, function=EVIL),
                source=tuple(SourceLine(number=n, text=code) for n in range(5)))
        for i in range(120)
    )  # fmt: skip
    counts = tuple(range(10_000))
    seen = base.evidence.model_copy(
        update={
            "program": ev.Program(
                loop="loader",
                models=tuple(
                    ev.Model(name=long if i == 0 else EVIL, kind=EVIL, parameters=1, trainable=1, layers=tuple(
                        ev.Layer(name=name, kind=EVIL, shape=(1,) * 50) for name in names[:600])) for i in range(20)
                ),
                loaders=tuple(ev.Loader(name=name, role="training", dataset=EVIL, sampler=EVIL) for name in names),
                optimizers=tuple(ev.Optimizer(kind=name, learning_rates=(0.1,) * 99) for name in names),
            ),
            "trajectory": ev.Trajectory(
                losses=(1.0, math.nan) * 5_000, learning_rates=(), grad_norms=(), epoch_starts=tuple(range(9_000)),
                held_out=tuple((i, float(i % 7)) for i in range(9_000)),
            ),
            "gradients": gradients(list(names), 60),
            "labels": ev.Labels(classes=10_000, counts=counts, held_out_counts=counts, seen=counts, predicted=counts),
            "leakage": ev.Leakage(splits=(), overlaps=(overlap,) * 20),
        }
    )  # fmt: skip
    verdicts = [verdict(EVIL, EVIL, EVIL, "pass", EVIL)] * 3_000
    return base.model_copy(
        update={
            "evidence": seen, "findings": found, "verdicts": tuple(verdicts), "notes": (EVIL, long) * 200,
            "suppressed": (Suppressed(finding=found[0], by="comment", reason=EVIL),) * 900,
            "summary": summary(list(found), verdicts, 900),
        }
    )  # fmt: skip


ALL = {"faulty": faulty, "healthy": healthy, "crashed": crashed, "hostile": hostile, "deep": deep, "huge": huge}
