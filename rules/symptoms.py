"""Symptoms: findings that say that nothing is learned, and not why."""

from __future__ import annotations

# Whatever keeps a program from learning explains these; what only spoils its evaluation or its speed does not.
NOT_LEARNING = (
    "input-independence",
    "cannot-overfit",
    "majority-class-collapse",
    "loss-plateau",
    "class-imbalance",
    "shuffled-labels",
)

# Whatever makes the steps too long, or wrong in direction, explains these.
UNSTABLE = ("exploding-gradients", "nonfinite-loss", "dead-units", "loss-oscillation", "weight-growth")
