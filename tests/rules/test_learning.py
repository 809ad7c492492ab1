"""FIT101 cannot-overfit and FIT102 lr-too-high."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import (
    LossInput,
    LossInputs,
    LowerRate,
    Overfit,
    OverfitArm,
    PairedReplay,
    RateAhead,
    RateSweep,
)
from auditor.testing import judge, place

STEPS = 60


def course(start, end, steps=STEPS, wobble=0.02):
    return tuple(start + (end - start) * min(1.0, 1.5 * i / steps) + wobble * math.sin(9.7 * i) for i in range(steps))


def look(control, treated, start="initial"):
    return PairedReplay(start=start, control=course(*control), treated=course(*treated))


STALLED = look((2.2, 2.2), (2.2, 0.79))
LATER = look((2.2, 2.15), (2.2, 0.5), "later")
GONE = PairedReplay(start="initial", control=(2.3, 40.0, *(math.nan,) * 58), treated=course(2.3, 0.9))
BOTH_GONE = PairedReplay(start="initial", control=(math.inf,) * 60, treated=(2.3, *(math.nan,) * 59))


def rate(*looks, sweep=None, fidelity=0.0):
    part = LowerRate(
        factor=0.25, learning_rate=0.4, optimizer="SGD", looks=looks, fidelity=fidelity, location=place(18)
    )
    return judge("lr-too-high", part, *([sweep] if sweep else []))


def far(*looks):
    """Your rate learns; both nearer looks favour a quarter of it, and a sixteenth overtakes it or not."""
    near = (look((2.2, 0.5), (2.2, 0.45)), look((2.2, 0.5), (2.2, 0.46)))
    part = LowerRate(
        factor=0.25, learning_rate=0.4, optimizer="SGD", looks=near, far_factor=0.0625, far_looks=looks, fidelity=0.0
    )
    return judge("lr-too-high", part)


def test_a_lower_rate_that_is_ahead_within_few_steps_is_a_note():
    (finding,) = rate(look((2.2, 0.9), (2.2, 0.7)), look((2.2, 0.9), (2.2, 0.72))).findings
    assert (finding.severity, finding.confidence) == ("note", "confirmed")
    assert not rate(look((2.2, 0.9), (2.2, 0.7)), look((2.2, 0.9), (2.2, 0.86))).findings
    assert not rate(look((2.2, 0.9), (2.2, 0.7))).findings


def rising(*looks, fidelity=0.0):
    lower = LowerRate(factor=0.25, learning_rate=0.01, optimizer="Adam", looks=(look((2.2, 1.0), (2.2, 1.2)),))
    ahead = RateAhead(
        learning_rate=0.01, peak=0.09, calls=200, schedule="LambdaLR", looks=looks, fidelity=fidelity, location=place(9)
    )
    return judge("lr-too-high", lower, ahead)


def test_a_schedule_that_rises_to_where_the_loss_comes_back_up():
    (finding,) = rising(look((2.2, 2.1), (2.2, 0.4)), look((2.2, 2.0), (2.2, 0.4))).findings
    assert finding.severity == "warning"
    assert "from 0.01 so far to 0.09 in 200 more calls" in finding.message


@pytest.mark.parametrize(
    "looks",
    [
        (look((2.2, 2.1), (2.2, 0.4)),),
        (look((2.2, 2.1), (2.2, 0.4)), look((2.2, 0.42), (2.2, 0.4))),
        (look((2.2, 0.5), (2.2, 0.4)), look((2.2, 0.5), (2.2, 0.4))),  # higher, but it went on falling
    ],
)
def test_a_rising_rate_that_does_no_harm_passes(looks):
    assert rising(*looks).verdict.outcome == "pass"
    assert rising(look((2.2, 2.1), (2.2, 0.4)), look((2.2, 2.0), (2.2, 0.4)), fidelity=0.3).verdict.outcome == "pass"


def longer(control, treated):
    return PairedReplay(start="initial", control=course(2.2, control, 240), treated=course(2.2, treated, 240))


def test_a_rate_that_is_overtaken_by_a_sixteenth_of_it_is_a_warning():
    (finding,) = far(longer(0.4, 0.3), longer(0.4, 0.31)).findings
    assert (finding.severity, finding.confidence) == ("warning", "confirmed")
    assert "0.0625 times that rate" in finding.message


@pytest.mark.parametrize(
    "looks", [(), (longer(0.2, 0.9),), (longer(0.4, 0.3), longer(0.4, 0.5)), (longer(0.4, 0.395), longer(0.4, 0.395))]
)
def test_a_rate_that_is_ahead_of_a_sixteenth_of_it_passes(looks):
    assert far(*looks).verdict.outcome == "pass"


@pytest.mark.parametrize(("annealed", "outcome"), [(0.28, "pass"), (0.39, "fail"), (None, "pass")])
def test_a_schedule_that_brings_the_rate_down_has_the_last_word(annealed, outcome):
    near = (look((2.2, 0.5), (2.2, 0.45)), look((2.2, 0.5), (2.2, 0.46)))
    part = LowerRate(
        factor=0.25,
        learning_rate=0.4,
        looks=near,
        far_factor=0.0625,
        far_looks=(longer(0.4, 0.3), longer(0.4, 0.31)),
        fidelity=0.0,
        comes_down=True,
        annealed=course(2.2, annealed, 240) if annealed is not None else (),
    )
    assert judge("lr-too-high", part).verdict.outcome == outcome


def sweep(user=0.4, diverged=0.3, suggested=0.05):
    return RateSweep(
        rates=(1e-3, 1e-2),
        losses=(2.3, 2.0),
        smoothed=(2.3, 2.0),
        user_rate=user,
        diverged_at=diverged,
        suggested=suggested,
    )


def test_a_stalled_loop_that_learns_at_a_lower_rate_fails():
    (finding,) = rate(STALLED, LATER).findings
    assert finding.severity == "error"
    assert finding.confidence == "confirmed"
    assert finding.location.line == 18
    assert "learning rate 0.4" in finding.message
    assert "0.79" in finding.message
    assert "lr=0.1" in finding.fix


def test_the_sweep_refines_the_suggestion():
    (finding,) = rate(STALLED, LATER, sweep=sweep()).findings
    assert "lr=0.05" in finding.fix
    assert any("0.3" in line for line in finding.detail)


def test_a_diverged_loop_is_decisive():
    (finding,) = rate(GONE).findings
    assert finding.confidence == "confirmed"
    assert "NaN" in finding.message or "infinity" in finding.message


def test_later_divergence_is_decisive_too():
    later = PairedReplay(start="later", control=GONE.control, treated=GONE.treated)
    assert rate(look((2.3, 1.0), (2.3, 1.4)), later).verdict.outcome == "fail"


@pytest.mark.parametrize(
    ("control", "treated"),
    [((2.3, 0.98), (2.3, 0.88)), ((2.3, 1.05), (2.3, 0.70)), ((1.1, 1.05), (1.1, 0.70)), ((2.3, 0.5), (2.3, 2.0))],
)
def test_healthy_programs_get_no_more_than_a_note(control, treated):
    # The first two were measured on healthy programs, where the lower rate happened to be better.
    answer = rate(look(control, treated), look(control, treated, "later"))
    assert {finding.severity for finding in answer.findings} <= {"note"}
    assert answer.verdict.limit == 0.4


def test_progress_at_the_users_rate_is_worth_no_more_than_a_note():
    better = look((2.3, 1.2), (2.3, 0.3))
    assert [finding.severity for finding in rate(better, better).findings] == ["note"]
    # ... unless a sweep diverges at that rate as well, which is worth a warning
    assert rate(better, better, sweep=sweep()).findings[0].severity == "warning"
    assert rate(better, better, sweep=sweep(diverged=4.0)).findings[0].severity == "note"


def test_the_second_look_can_refute():
    recovered = look((2.2, 0.6), (2.2, 0.6), "later")
    assert rate(STALLED, recovered).verdict.outcome == "pass"


def test_a_second_look_cut_short_is_asked_for_the_whole_control():
    # Good for 30 steps, lost after that; the other arm got no further than that.
    control = (*course(2.1, 0.6, 30), *course(2.1, 2.1, 30))
    cut = PairedReplay(start="initial", control=control, treated=course(2.1, 1.5, 31))
    assert rate(STALLED, cut).findings[0].confidence == "confirmed"


def test_a_second_look_at_a_dead_network_says_nothing():
    dead = look((2.3, 2.3), (2.3, 2.3), "later")
    assert rate(STALLED, dead).verdict.outcome == "fail"


def test_one_look_warns():
    (finding,) = rate(STALLED).findings
    assert finding.severity == "warning"
    assert finding.confidence == "suspected"


def test_both_arms_stalled_passes():
    stuck = look((1.1, 1.1), (1.1, 1.1))
    assert rate(stuck, stuck).verdict.outcome == "pass"


def test_both_arms_diverged_asks_the_sweep():
    assert rate(BOTH_GONE).verdict.outcome == "inconclusive"
    assert rate(BOTH_GONE, sweep=sweep(diverged=0.05, suggested=0.01)).findings[0].confidence == "confirmed"
    assert rate(BOTH_GONE, sweep=sweep(diverged=0.3)).verdict.outcome == "inconclusive"
    assert rate(BOTH_GONE, sweep=sweep(diverged=0.05, suggested=None)).verdict.outcome == "inconclusive"


def test_losses_below_zero_are_compared_by_their_width():
    healthy = look((-1.0, -3.0), (-1.0, -2.5))
    assert rate(healthy, healthy).verdict.outcome == "pass"
    stalled = look((-1.0, -0.9), (-1.0, -3.0))
    assert rate(stalled, stalled).verdict.outcome == "fail"
    crossing = look((0.5, 0.2), (0.5, -0.1))
    assert {finding.severity for finding in rate(crossing, crossing).findings} <= {"note"}


@pytest.mark.parametrize("fidelity", [0.2, math.nan, math.inf])
def test_an_unfaithful_replay_proves_nothing(fidelity):
    assert rate(STALLED, LATER, fidelity=fidelity).verdict.outcome == "inconclusive"


def test_short_replays_are_inconclusive():
    short = PairedReplay(start="initial", control=(2.3,) * 5, treated=(1.0,) * 5)
    assert rate(short).verdict.outcome == "inconclusive"
    assert rate().verdict.outcome == "inconclusive"


def arm(factor, end, start=2.3, steps=120, accuracy=None, reached=False, losses=None):
    given = losses or course(start, end, steps, wobble=0.001)
    return OverfitArm(rate_factor=factor, learning_rate=0.01 * factor, losses=given, accuracy=accuracy, reached=reached)


def overfit(*arms, loss=(), **changes):
    given = {
        "samples": 8,
        "batch_size": 64,
        "tiled": True,
        "floor": 0.0,
        "target": 0.115,
        "initial": 2.3,
        "arms": arms,
        "fidelity": 0.0,
        "loss_function": "cross_entropy",
        "location": place(33),
    }
    return judge("cannot-overfit", Overfit(**{**given, **changes}), *loss)


STUCK = (arm(1, 2.05, accuracy=0.25), arm(0.1, 2.1, accuracy=0.25), arm(10, 2.06, accuracy=0.25))


def test_answers_that_are_fewer_than_the_samples_of_a_batch_are_not_theirs():
    """Episodes: the first samples of each class are examples, and the answers for the others are made once."""

    def taken(rows):
        call = LossInput(
            function="cross_entropy",
            location=place(33),
            calls=9,
            rows=rows,
            classes=5,
            row_sum_error=3.0,
            min_value=-4.0,
            max_value=4.0,
        )
        return (LossInputs(calls=(call,)),)

    assert overfit(*STUCK, loss=taken(9 * 64)).verdict.outcome == "fail"
    assert overfit(*STUCK, loss=taken(8 * 64 + 40)).verdict.outcome == "fail"  # the last batch is a small one
    assert overfit(*STUCK, loss=taken(9 * 50)).verdict.outcome == "inconclusive"


def test_no_rate_learns_fails_confirmed():
    (finding,) = overfit(*STUCK, constant_output=True).findings
    assert finding.severity is None  # the rule's own: error
    assert finding.confidence == "confirmed"
    assert finding.location.line == 33
    assert "8 samples cannot be learned by heart" in finding.message
    assert "same output" in finding.message
    assert finding.limit == 0.115


def test_learning_passes_with_the_rate_it_took():
    answer = overfit(arm(1, 0.01, reached=True), arm(10, 2.3))
    assert answer.verdict.outcome == "pass"
    assert "with your learning rate" in answer.verdict.reason
    answer = overfit(arm(1, 2.2), arm(0.1, 0.05, reached=True))
    assert answer.verdict.outcome == "pass"
    assert "0.1 times your learning rate" in answer.verdict.reason


def test_accuracy_counts_as_learned():
    # Label smoothing and double softmax keep the loss up.
    assert overfit(arm(1, 1.5, accuracy=1.0), arm(0.1, 2.2, accuracy=0.5)).verdict.outcome == "pass"


@pytest.mark.parametrize("end", [0.9, 0.5, 0.2])
def test_coming_down_without_arriving_is_inconclusive(end):
    answer = overfit(arm(1, end), arm(0.1, 2.2))
    assert answer.verdict.outcome == "inconclusive"
    assert "did come down" in answer.verdict.reason


def test_slow_but_steady_is_inconclusive():
    slow = tuple(2.3 - 0.003 * i for i in range(120))
    answer = overfit(arm(1, 0, losses=slow), arm(10, 2.2))
    assert answer.verdict.outcome == "inconclusive"
    assert "still falling" in answer.verdict.reason


def test_a_fall_that_leads_nowhere_is_not_on_its_way():
    crawling = tuple(2.3 - 0.0002 * i for i in range(120))
    assert overfit(arm(1, 0, losses=crawling), arm(10, 2.29)).verdict.outcome == "fail"


def test_labels_hidden_by_the_loops_own_noise():
    noisy = arm(1, 2.25, accuracy=0.2)
    frozen = arm(1, 0.01, accuracy=1.0, reached=True).model_copy(update={"frozen_noise": True})
    (finding,) = overfit(noisy, frozen).findings
    assert finding.confidence == "confirmed"
    assert "frozen" in finding.message
    slow = arm(1, 1.2, accuracy=0.6)  # augmentation slows it down, but the loss comes part of the way
    assert overfit(slow, frozen).verdict.outcome == "pass"


def test_frozen_noise_at_another_rate_says_nothing_about_noise():
    """A rate during warm-up is too low with and without noise; ten times as much learns with both."""
    slow = [arm(1, 2.25, accuracy=0.2).model_copy(update={"frozen_noise": frozen}) for frozen in (False, True)]
    frozen = arm(10, 0.01, accuracy=1.0, reached=True).model_copy(update={"frozen_noise": True})
    assert overfit(*slow, frozen).verdict.outcome == "pass"
    assert overfit(*slow, frozen, arm(10, 0.02, accuracy=1.0, reached=True)).verdict.outcome == "pass"
    assert overfit(*slow, frozen, arm(10, 2.25, accuracy=0.2)).verdict.outcome == "fail"
    assert overfit(*slow, frozen, arm(10, 2.25, steps=60, accuracy=0.2)).verdict.outcome == "pass"  # cut short


def test_noise_is_not_taken_for_falling():
    noisy = tuple(2.29 + 0.05 * math.sin(7.1 * i * i) for i in range(120))
    assert overfit(arm(1, 0, losses=noisy), arm(10, 0, losses=noisy)).verdict.outcome == "fail"


def test_an_unknown_floor_needs_another_sign():
    stuck = (arm(1, 2.25), arm(10, 2.28))
    assert overfit(*stuck, floor=None).verdict.outcome == "inconclusive"
    assert overfit(*stuck, floor=None, constant_output=True).verdict.outcome == "fail"
    assert overfit(*(arm(f, 2.25, accuracy=0.3) for f in (1, 10)), floor=None).verdict.outcome == "fail"
    assert overfit(*(arm(f, 1.6, accuracy=0.3) for f in (1, 10)), floor=None).verdict.outcome == "inconclusive"


def test_a_rate_that_is_too_low_is_no_proof():
    """A warm-up's first steps: the loss comes down a little, and nothing above that rate was tried for want of time."""
    low = (arm(1, 2.2, accuracy=0.3), arm(0.1, 2.29, accuracy=0.3))
    answer = overfit(*low)
    assert answer.verdict.outcome == "inconclusive"
    assert "a higher rate" in answer.verdict.reason
    assert overfit(*low, arm(10, 2.2, accuracy=0.3)).verdict.outcome == "fail"


def test_a_high_floor_is_reachable():
    # Soft targets: a lowest loss of 1.9, reached to a good part.
    assert overfit(arm(1, 1.95), arm(0.1, 2.2), floor=1.9, target=1.91).verdict.outcome == "inconclusive"


def test_losses_below_zero_have_no_floor():
    arms = (arm(1, -3.0, start=-2.9), arm(0.1, -2.9, start=-2.9))
    assert overfit(*arms, initial=-2.9, target=-9.0).verdict.outcome == "inconclusive"


@pytest.mark.parametrize(
    "arms",
    [
        (),
        (arm(1, 2.2),),
        (arm(1, 2.2, steps=10), arm(0.1, 2.2, steps=10)),
        (arm(1, 0, losses=(math.nan,) * 120), arm(0.1, 0, losses=(math.nan,) * 120)),
    ],
)
def test_too_little_to_tell_is_inconclusive(arms):
    assert overfit(*arms).verdict.outcome == "inconclusive"


def test_an_unfaithful_overfit_proves_nothing():
    assert overfit(*STUCK, fidelity=0.5).verdict.outcome == "inconclusive"


def test_a_diverged_arm_does_not_hide_the_others():
    gone = arm(10, 0, losses=(2.3, 90.0, *(math.nan,) * 118))
    assert overfit(arm(1, 2.2), gone).verdict.outcome == "fail"
    assert overfit(arm(1, 0.01, reached=True), gone).verdict.outcome == "pass"
