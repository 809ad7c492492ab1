"""A random training script in the making: what has been decided, and the source written so far."""

from __future__ import annotations

import random
import textwrap
from dataclasses import dataclass, field


@dataclass
class Draft:
    """What has been decided, and the source written so far."""

    dice: random.Random
    features: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)  # at the top of the module
    setup: list[str] = field(default_factory=list)
    epoch_end: list[str] = field(default_factory=list)
    parameters: str = "model.parameters()"
    is_module: bool = True
    in_model: bool = False
    double: bool = False
    target: str = "classes"
    inputs: str = "features"
    model: str = ""
    samples: int = 40
    batch: int = 8

    def has(self, feature: str, chance: float) -> bool:
        """Decide on an option, and remember it by name."""
        chosen = self.dice.random() < chance
        if chosen:
            self.features.append(feature)
        return chosen

    def one(self, name: str, *options: str) -> str:
        chosen = self.dice.choice(options)
        self.features.append(f"{name}:{chosen}")
        return chosen


def block(text: str) -> str:
    return textwrap.dedent(text).strip("\n")


def indent(lines: list[str], depth: int = 1) -> list[str]:
    return [("    " * depth + row) if row else row for line in lines for row in line.split("\n")]
