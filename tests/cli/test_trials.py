"""Which remedies are worth a trial, and what is made of the numbers. With a probe: tests/endtoend/test_trials.py."""

from __future__ import annotations

import math
import random

import pytest

from auditor import together
from auditor.declare import Severity
from auditor.evidence import (
    BroadcastComparison,
    Comparisons,
    Evidence,
    Location,
    LowerRate,
    PairedReplay,
    Remedy,
    RemedyKind,
    Run,
    TrialRun,
    Trials,
)
from auditor.remedywords import describe
from auditor.result import Audit, Fix, ReportedFinding
from auditor.trials import candidates, interval, result, tried, wanted

RATE, CLIP = Remedy(kind=RemedyKind.RATE, amount=0.5), Remedy(kind=RemedyKind.CLIP, amount=1.0)
NAN = math.nan
ZERO = Remedy(kind=RemedyKind.ZERO_GRADIENTS)


def look(before: float, after: float, steps: int = 60, noise: float = 0.05, seed: int = 1) -> PairedReplay:
    """Both arms fall from 2 to these levels."""
    draw = random.Random(seed)
    course = lambda end: tuple(end + (2 - end) * 0.8**step + draw.gauss(0, noise) for step in range(steps))  # noqa: E731
    return PairedReplay(start="initial", control=course(before), treated=course(after))


def run(
    *remedies: Remedy, before: float = 2.0, after: float = 0.5, base: tuple[Remedy, ...] = (), **more: object
) -> TrialRun:
    given = {"looks": (look(before, after), look(before, after, seed=2)), **more}
    return TrialRun(remedies=remedies, base=base, **given)  # type: ignore[arg-type]


def audit(*findings: tuple[str, tuple[Remedy, ...]], runs: tuple[TrialRun, ...] = (), **more: object) -> Audit:
    """Warnings with these remedies, and what came of them."""
    evidence = Evidence(run=Run(target="train.py"), trials=Trials(runs=runs) if runs else None)
    reported = []
    for name, remedies in findings:
        found = tried(remedies, evidence)
        fix = Fix(text="", remedies=remedies, trial=found.trials[0] if found.trials else None, tried=found.remedies)
        given = {"severity": Severity.WARNING, "confidence": "suspected", **more}
        reported.append(
            ReportedFinding(id=name, rule=name, code=name, family="f", message=name, fix=fix, **given)  # type: ignore[arg-type]
        )
    return Audit(run=evidence.run, findings=tuple(reported), evidence=evidence)


def asked(found: Audit) -> list[tuple[tuple[RemedyKind, ...], tuple[RemedyKind, ...]]]:
    return [
        (tuple(each.kind for each in request.remedies), tuple(each.kind for each in request.base))
        for request in wanted(found).trials
    ]


def test_the_best_remedy_of_each_finding_comes_first():
    assert asked(audit(("a", (RATE, CLIP)), ("b", (ZERO,)))) == [
        ((RemedyKind.RATE,), ()),
        ((RemedyKind.ZERO_GRADIENTS,), ()),
    ]


def test_the_next_one_is_tried_when_the_first_did_not_help_then_both():
    failed = run(RATE, after=2.0)
    assert asked(audit(("a", (RATE, CLIP)), runs=(failed,))) == [((RemedyKind.CLIP,), ())]
    both = asked(audit(("a", (RATE, CLIP)), runs=(failed, run(CLIP, after=2.0))))
    assert both == [((RemedyKind.RATE, RemedyKind.CLIP), ())]
    everything = (failed, run(CLIP, after=2.0), run(RATE, CLIP, after=2.0))
    assert asked(audit(("a", (RATE, CLIP)), runs=everything)) == []


def test_nothing_more_is_tried_when_one_has_helped():
    assert asked(audit(("a", (RATE, CLIP)), runs=(run(RATE),))) == []


def test_what_does_not_help_alone_is_tried_on_top_of_what_helps_elsewhere():
    found = audit(("a", (RATE,)), ("b", (ZERO,)), runs=(run(RATE), run(ZERO, after=2.0)))
    assert asked(found) == [((RemedyKind.ZERO_GRADIENTS,), (RemedyKind.RATE,))]
    again = audit(("a", (RATE,)), ("b", (ZERO,)), runs=(run(RATE), run(ZERO, after=2.0), run(ZERO, base=(RATE,))))
    assert asked(again) == []
    assert again.findings[1].fix.trial is not None
    assert again.findings[1].fix.trial.what == "gradients zeroed once an update, on top of the learning rate times 0.5"


def test_what_helps_one_by_one_is_tried_at_once():
    alone = audit(("a", (RATE,)), runs=(run(RATE),))
    assert together.request(alone.findings, alone.evidence) is None
    both = audit(("a", (RATE,)), ("b", (ZERO,)), runs=(run(RATE), run(ZERO)))
    asked_for = together.request(both.findings, both.evidence)
    assert asked_for is not None
    assert {each.kind for each in asked_for.remedies} == {RemedyKind.RATE, RemedyKind.ZERO_GRADIENTS}
    assert together.outcome(both.findings, both.evidence) is None
    done = audit(("a", (RATE,)), ("b", (ZERO,)), runs=(run(RATE), run(ZERO), run(ZERO, RATE, after=2.5)))
    assert together.request(done.findings, done.evidence) is None
    found = together.outcome(done.findings, done.evidence)
    assert found is not None
    assert not found.helped


def test_one_that_was_tried_on_top_of_the_others_shows_all_at_once():
    found = audit(("a", (RATE,)), ("b", (ZERO,)), runs=(run(RATE), run(ZERO, after=2.0), run(ZERO, base=(RATE,))))
    assert together.remedies(found.findings)
    assert together.request(found.findings, found.evidence) is None


def test_what_is_measured_beside_the_loop_is_not_joined():
    mode = Remedy(kind=RemedyKind.EVALUATION_MODE)
    found = audit(("a", (RATE,)), ("b", (mode,)), runs=(run(RATE), run(mode)))
    assert together.remedies(found.findings) == ()


def test_a_metric_in_pairs_counts_as_tried():
    site = Location(file="train.py", line=3)
    broadcast = BroadcastComparison(
        function="==",
        left=(8,),
        right=(8, 1),
        calls=30,
        evaluation=True,
        known="both",
        errors=tuple(3.0 + 0.1 * (step % 7) for step in range(30)),
        location=site,
    )
    evidence = Evidence(run=Run(target="t"), comparisons=Comparisons(compared=30, broadcast=(broadcast,)))
    paired = Remedy(kind=RemedyKind.PAIRED_METRIC, site=site)
    found = tried((paired,), evidence)
    assert [(trial.metric, trial.after, trial.helped) for trial in found.trials] == [
        ("error of the reported figure", 0.0, True)
    ]


def test_a_figure_without_chance_needs_no_test_and_has_to_be_off_every_time():
    paired = Remedy(kind=RemedyKind.PAIRED_METRIC)
    for errors, helped in (((0.3,), True), ((0.3, 0.0), False), ((), False), ((NAN,), False)):
        exact = PairedReplay(start="later", control=errors, treated=(0.0,) * len(errors))
        made = TrialRun(remedies=(paired,), metric="error of the reported figure", looks=(exact,))
        assert result(made).helped is helped
        assert not result(made.model_copy(update={"metric": "loss"})).helped


def test_notes_are_not_worth_a_trial_and_consequences_wait():
    assert asked(audit(("a", (RATE,)), severity=Severity.NOTE)) == []
    found = audit(("a", (RATE,)), ("b", (ZERO,)))
    waiting = found.findings[1].model_copy(update={"caused_by": "a"})
    assert asked(found.model_copy(update={"findings": (found.findings[0], waiting)})) == [((RemedyKind.RATE,), ())]


def test_there_is_an_end_to_it():
    many = tuple(Remedy(kind=RemedyKind.RATE, amount=1 / (2 + number)) for number in range(40))
    runs = tuple(run(remedy, after=2.0) for remedy in many[:12])
    assert asked(audit(("a", many), runs=runs)) == []


def test_the_experiment_that_a_rule_rests_on_counts_as_its_trial():
    quarter = Remedy(kind=RemedyKind.RATE, amount=0.25)
    lower = LowerRate(factor=0.25, learning_rate=0.1, optimizer="SGD", looks=(look(2.0, 0.4),))
    found = tried((quarter, CLIP), Evidence(run=Run(target="t"), lower_rate=lower))
    assert [trial.what for trial in found.trials] == ["the learning rate times 0.25"]
    assert found.remedies == (quarter,)


@pytest.mark.parametrize(
    ("before", "after", "helped"),
    [
        (2.0, 0.5, True),
        (1.0, 0.97, False),
        (1.0, 1.0, False),
        (0.5, 2.0, False),
        (NAN, 0.5, True),
        (2.0, NAN, False),
    ],
)
def test_what_counts_as_help(before, after, helped):
    assert result(run(RATE, before=before, after=after)).helped is helped


def test_little_is_enough_in_two_looks_at_a_loss_that_does_not_come_down_without_it():
    looks = (look(2.0, 1.88, noise=0.01), look(2.0, 1.88, noise=0.01, seed=2))
    assert result(run(RATE, looks=looks)).helped
    assert not result(run(RATE, looks=looks[:1])).helped
    assert not result(run(RATE, looks=looks, metric="error rate")).helped
    falling = (look(1.0, 0.94, noise=0.01), look(1.0, 0.94, noise=0.01, seed=2))
    assert not result(run(RATE, looks=falling)).helped


def test_samples_have_to_be_kept_apart_altogether():
    first = Remedy(kind=RemedyKind.BATCH_FIRST)
    for left, helped in ((0.5, False), (1e-7, True)):
        looks = tuple(PairedReplay(start="initial", control=(1.0,) * 30, treated=(left,) * 30) for _ in range(2))
        assert result(run(first, looks=looks, metric="influence of other samples")).helped is helped
        assert result(run(first, looks=looks, metric="influence of padding")).helped


def test_one_look_against_it_is_enough():
    assert not result(TrialRun(remedies=(RATE,), looks=(look(2.0, 0.5), look(0.5, 2.0)))).helped


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_the_interval_holds_what_it_promises(correlation):
    """Of differences with a known median, independent or autoregressive, about 95 % of the intervals hold it."""
    draw, held, rounds = random.Random(7), 0, 200
    for _ in range(rounds):
        looks = []
        for _ in range(2):
            error, control, treated = 0.0, [], []
            for _ in range(120):
                error = correlation * error + draw.gauss(0, 1)
                control.append(draw.gauss(3, 1))
                treated.append(control[-1] - 0.5 + error)
            looks.append(PairedReplay(start="initial", control=tuple(control), treated=tuple(treated)))
        low, high = interval(looks)
        assert low is not None
        assert high is not None
        held += low <= -0.5 <= high
    assert 0.88 * rounds <= held


def test_a_loop_that_blows_up_does_not_widen_the_interval_for_ever():
    draw = random.Random(5)
    exploding = tuple(10.0 ** draw.uniform(1, 30) for _ in range(120))
    wild = PairedReplay(start="initial", control=exploding, treated=(0.1,) * 120)
    _, high = interval([wild])
    assert high is not None
    assert high < 0


def test_too_few_or_broken_steps_have_no_interval():
    assert interval([look(2.0, 0.5, steps=4)]) == (None, None)
    assert interval([look(NAN, 0.5)]) == (None, None)


@pytest.mark.parametrize("kind", RemedyKind)
def test_every_kind_has_words(kind):
    assert describe([Remedy(kind=kind)])
    full = describe([Remedy(kind=kind, amount=2.0, subject="softmax", layers=("fc1",))])
    assert full
    assert "{" not in full


def test_candidates_do_not_join_two_of_a_kind():
    half, quarter = RATE, Remedy(kind=RemedyKind.RATE, amount=0.25)
    assert [len(each.remedies) for each in candidates((half, quarter))] == [1, 1]
    assert [len(each.remedies) for each in candidates((half, quarter, CLIP))] == [1, 1, 1, 2]


DROP = Remedy(kind=RemedyKind.DROP_KNOWN, subject="test_loader")


def held_out(*looks: tuple[float, ...]) -> TrialRun:
    """Errors of the held-out loss, one for each pair of batches."""
    found = tuple(PairedReplay(start="later", control=errors, treated=(0.0,) * len(errors)) for errors in looks)
    return TrialRun(remedies=(DROP,), looks=found, metric="error of the held-out loss")


def test_a_held_out_loss_is_off_where_every_look_says_so_over_all_its_pairs():
    draw = random.Random(3)
    off, right = (tuple(level + draw.gauss(0, 0.1) for _ in range(24)) for level in (0.15, 0.0))
    # The last third alone, in which a course is judged, would not show it.
    late = tuple(0.2 + draw.gauss(0, 0.05) for _ in range(16)) + tuple(draw.gauss(0, 0.05) for _ in range(8))
    assert result(held_out(off, off)).helped
    assert result(held_out(off)).before == pytest.approx(0.15, abs=0.05)
    assert result(held_out(late)).helped
    assert not result(held_out(right)).helped
    assert not result(held_out(off, right)).helped
    assert not result(held_out(tuple(-error for error in off))).helped, "the samples that are known are the harder ones"


def test_of_several_refusals_each_names_its_remedy():
    refused = [
        TrialRun(remedies=(RATE,), refused="no optimizer"),
        TrialRun(remedies=(CLIP,), refused="no gradient"),
        TrialRun(remedies=(RATE, CLIP), refused="no time"),
    ]
    several = audit(("a", (RATE, CLIP)), runs=tuple(refused))
    [finding] = several.findings
    assert finding.fix.trial is None
    found = tried((RATE, CLIP), several.evidence).refused
    assert found == "the learning rate times 0.5: no optimizer; gradients clipped at a norm of 1: no gradient"
    alike = [each.model_copy(update={"refused": "no time"}) for each in refused]
    assert tried((RATE, CLIP), audit(("a", (RATE, CLIP)), runs=tuple(alike)).evidence).refused == "no time"
