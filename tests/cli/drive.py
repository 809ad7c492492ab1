"""The command line with a fake child and two rules of its own: `python drive.py CHILD.py ARGUMENTS...`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from pydantic import Field

from auditor import cli, registry, supervisor
from auditor.declare import Confidence, Finding, Measured, Options, Severity, rule
from auditor.evidence import GradientResets, Trajectory


class Limits(Options):
    max_loss: float = Field(default=10.0, gt=0, description="Largest healthy loss.")


@rule("TST101", "high-loss", severity=Severity.ERROR, fix="Lower it.", references=("https://example.org",))
def high_loss(trajectory: Trajectory, limits: Limits) -> Iterator[Finding | Measured]:
    """The loss is high.

    ## Why is it bad?

    Because.
    """
    worst = max(trajectory.losses)
    yield Measured(worst, limits.max_loss)
    if worst > limits.max_loss:
        yield Finding(f"the loss reached {worst}", measured=worst, confidence=Confidence.CONFIRMED)


@rule("TST102", "never-cleared", severity=Severity.WARNING, fix="Clear them.")
def never_cleared(resets: GradientResets) -> Iterator[Finding | Measured]:
    """Gradients are never cleared."""
    for optimizer in resets.optimizers:
        if optimizer.stale_steps:
            yield Finding(f"{optimizer.optimizer}: {optimizer.stale_steps} stale steps")


RULES = (high_loss, never_cleared)


if __name__ == "__main__":
    child = sys.argv[1]
    supervisor.child_command = lambda: [sys.executable, child]
    registry.rules = lambda: RULES
    cli.main(sys.argv[2:])
