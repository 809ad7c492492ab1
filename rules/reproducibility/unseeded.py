"""REP101: two starts of the script do not do the same thing."""

from __future__ import annotations

from auditor.declare import Confidence, Finding, Judgement, Measured, NotApplicable, Severity, rule
from auditor.evidence import Seeding, Source

from ..words import listing

_CALLS = {"torch": "torch.manual_seed(0)", "numpy": "numpy.random.seed(0)", "random": "random.seed(0)"}


@rule(
    "REP101",
    "unseeded",
    severity=Severity.NOTE,
    fix="Seed every generator that is drawn from, before the model is built: `torch.manual_seed(0)`.",
    references=(
        "https://docs.pytorch.org/docs/stable/notes/randomness.html",
        "https://arxiv.org/abs/2109.08203",
    ),
)
def unseeded(source: Source | None, seeding: Seeding | None) -> Judgement:
    """Random numbers are drawn from a generator that was not seeded before.

    ## What it does

    Looks whether the global random number generators of torch, numpy and Python that the script draws its weights,
    batches and augmentations from had a fixed seed by then.

    ## Why is it bad?

    It is no fault. But two runs then differ by their seed as well as by the change under test, a fault that shows once
    cannot be called back, and the differences between seeds are often as large as those between papers.

    ## How it is measured

    By identity: the state of each generator at the start of the script is compared with its state after the first
    steps, and the calls that seed it are noted, if they come before anything is drawn. Without a run, a source that
    calls `backward()` and seeds nothing is reported as a suspicion.

    ## When it may be wrong

    - Generators of one's own (`torch.Generator`, `numpy.random.default_rng`) are seeded by their makers and do not
      count.
    - A library may draw from Python's generator without the script's knowledge.
    - `audit run --seed` seeds everything itself; the rule then does not apply.

    ## How to fix

    ```python
    torch.manual_seed(0)
    numpy.random.seed(0)
    random.seed(0)
    ```
    """
    if seeding is not None:
        if seeding.by_audit:
            raise NotApplicable("the audit was asked to seed the generators itself (--seed)")
        drawn = [name for name in seeding.drawn if name in _CALLS]
        loose = [name for name in seeding.unseeded if name in _CALLS]
        yield Measured(float(len(loose)), 0.0, f"drawn from: {listing(drawn) or 'no global generator'}")
        if loose:
            yield Finding(
                message=f"the script draws from {listing(loose)} without a fixed seed: no two runs are equal",
                where=loose[0],
                measured=float(len(loose)),
                limit=0.0,
                confidence=Confidence.CONFIRMED,
                fix=f"Before the model is built: `{'; '.join(_CALLS[name] for name in loose)}`.",
            )
        return
    if source is None or not source.mentioned("backward"):
        raise NotApplicable("no training step was seen, and none stands in the source")
    seeds = source.mentioned("seed")
    yield Measured(float(len(seeds)), 1.0, f"{len(seeds)} calls that seed a generator")
    if not seeds:
        yield Finding(
            message="the source trains a model and seeds no random number generator: no two runs are equal",
            location=source.mentioned("backward")[0].location,
            measured=0.0,
            limit=1.0,
        )
