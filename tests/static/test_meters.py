"""Metric objects that nothing sets back between the epochs."""

from __future__ import annotations

import ast
from textwrap import dedent

import pytest

from auditor.static.meters import meters

SCRIPT = """
class Meter:
    def reset(self):
        self.total, self.count = 0.0, 0
    def update(self, value, n=1):
        self.total += value * n
        self.count += n
class Trainer:
    def __init__(self):
        self.train, self.val = Meter(), Meter()
    def train_epoch(self):
        self.train.reset()
        for x, y in self.loader:
            loss.backward()
            self.train.update(loss.item())
    def validate(self):
        START
        for x, y in self.loader:
            self.val.update(hits(x, y))
    def fit(self):
        for epoch in range(10):
            self.train_epoch()
            self.validate()
            print(self.val.avg)
"""


def found(script):
    return [(each.name, each.location.line, each.together) for each in meters("t.py", ast.parse(dedent(script)))]


def test_a_meter_that_is_never_reset():
    assert found(SCRIPT.replace("START", "pass")) == [("self.val", 19, True)]


@pytest.mark.parametrize(
    "script",
    [
        SCRIPT.replace("START", "self.val.reset()"),
        SCRIPT.replace("START", "self.val = Meter()"),
        SCRIPT.replace("START", "pass").replace("self.train.reset()", "pass"),  # none is: on purpose, perhaps
        SCRIPT.replace("START", "pass").replace("self.total += value * n", "pass").replace("self.count += n", "pass"),
        SCRIPT.replace("START", "pass").replace("print(self.val.avg)", "pass"),  # nobody reads it
    ],
    ids=["reset", "new", "none is reset", "no sum", "not read"],
)
def test_meters_that_are_cared_for(script):
    assert found(script) == []


def test_an_evaluation_at_the_end_alone():
    script = SCRIPT.replace("START", "pass").replace("            self.validate()\n            print", "        print")
    assert found(script) == []
