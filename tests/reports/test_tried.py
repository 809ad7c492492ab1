"""What was tried, in words."""

from __future__ import annotations

import math

import pytest
from auditor.reports import tried, words

from auditor.evidence import Run
from auditor.result import Fix, Trial

HELPED = Trial(what="clipping at 1", steps=60, before=2.3, after=0.41, helped=True, low=-2, high=-1.7)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-2, "−2.0"), (-1.7234, "−1.7"), (0.0299, "+0.030"), (131.4, "+130"), (0, "0"), (-2e-7, "−2e-7"), (9.99, "+10")],
)
def test_a_difference_has_a_sign(value: float, shown: str) -> None:
    assert words.signed(value) == shown


def test_a_sentence_has_the_numbers_and_their_interval() -> None:
    said = "clipping at 1: loss after 60 steps 2.3 → 0.41 (95 % interval of the difference −2.0 to −1.7)"
    assert tried.sentence(HELPED) == said
    no_help = HELPED.model_copy(update={"helped": False, "low": None, "after": 2.28})
    assert tried.sentence(no_help) == "clipping at 1: no help; loss after 60 steps 2.3 → 2.28"
    assert tried.sentence(HELPED.model_copy(update={"high": math.nan})).endswith("2.3 → 0.41")


def test_others_are_held_against_the_best() -> None:
    assert tried.short(HELPED, HELPED) == "clipping at 1: helped less (2.3 → 0.41)"
    assert tried.short(HELPED, None) == "clipping at 1: helped (2.3 → 0.41)"


def test_a_trial_of_an_older_engine_can_be_said() -> None:
    assert tried.sentence(Trial(steps=1, before=1, after=0, helped=True)) == "this fix: loss after 1 step 1 → 0"


@pytest.mark.parametrize(
    ("run", "command"),
    [
        (Run(target="train.py"), "audit fix train.py"),
        (Run(target="my train.py"), "audit fix 'my train.py'"),
        (Run(target="$(reboot).py"), "audit fix '$(reboot).py'"),
        (Run(target="pkg.train", module=True), "audit fix -m pkg.train"),
        (Run(target="-rf"), ""),
        (Run(target="a\x1b[2J.py"), ""),
        (Run(target="x" * 5000), ""),
    ],
)
def test_the_command_is_safe_to_paste(run: Run, command: str) -> None:
    assert tried.apply_command(run, Fix(text="", diff="@@", trial=HELPED)) == command


def test_there_is_no_command_for_what_did_not_help() -> None:
    run = Run(target="train.py")
    assert tried.apply_command(run, Fix(text="", diff="@@")) == ""
    assert tried.apply_command(run, Fix(text="", trial=HELPED)) == ""
    refuted = HELPED.model_copy(update={"helped": False})
    assert tried.apply_command(run, Fix(text="", diff="@@", trial=refuted)) == ""


def test_a_curve_that_runs_away_does_not_flatten_the_other() -> None:
    wild = HELPED.model_copy(update={"control": (2.0, 50.0, 1e9, math.inf), "treated": (2.0, 1.0, 0.5, 0.4)})
    assert tried.top(wild) == 6
    lines = words.sparklines([values for _, values in tried.curves(wild)], top=tried.top(wild))
    assert lines == ["▃██×", "▃▂▁▁"]
