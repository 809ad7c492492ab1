"""FIT101: the program cannot learn a handful of samples by heart."""

from __future__ import annotations

import math

from pydantic import Field

from auditor.declare import (
    Confidence,
    Finding,
    Inconclusive,
    Judgement,
    Measured,
    Options,
    Severity,
    rule,
)
from auditor.evidence import LossInputs, Overfit, OverfitArm, RemedyKind
from auditor.paired import untrue
from auditor.series import diverged, middle, signed, spread, tail

from ..words import count, listing, number, percent

FEWER = 0.9  # of the batch, on average


class Limits(Options):
    min_accuracy: float = Field(0.99, gt=0, le=1, description="Accuracy on the pinned samples that counts as learned.")
    max_progress: float = Field(
        0.5, gt=0, lt=1, description="Share of the way from first loss to floor above which the answer is inconclusive."
    )
    max_drop: float = Field(0.1, gt=0, lt=1, description="The same share where no floor is known, of the first loss.")
    still_falling: float = Field(
        0.05, gt=0, lt=1, description="Share of the fall that lies between the halves of the last third: on its way."
    )
    min_fall: float = Field(
        0.1, gt=0, lt=1, description="Share of the way that a rate must have made to count as still on its way."
    )
    max_noisy: float = Field(
        0.1, gt=0, lt=1, description="Share of the way, with the loop's own randomness running, that counts as none."
    )
    min_steps: int = Field(30, ge=5, description="Steps that every learning rate has to be given.")
    min_rates: int = Field(2, ge=1, description="Learning rates that have to be tried.")
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "FIT101",
    "cannot-overfit",
    severity=Severity.ERROR,
    explains=("majority-class-collapse", "loss-plateau", "class-imbalance"),
    fix="""Follow the data from input to loss on one batch: do inputs and labels belong together, does the output
    depend on the input, does the gradient reach the first layer?
    `print(model(x)[:4], y[:4], [p.grad is None for p in model.parameters()])`.""",
    references=(
        "https://karpathy.github.io/2019/04/25/recipe/",
        "https://arxiv.org/abs/1611.03530",
        "https://cs231n.github.io/neural-networks-3/",
    ),
    remedies=(
        (RemedyKind.RATE, 0.25),
        (RemedyKind.RATE, 4.0),
        RemedyKind.STANDARDIZE_INPUTS,
        RemedyKind.REINITIALIZE,
    ),
)
def cannot_overfit(overfit: Overfit, loss: LossInputs | None, limits: Limits) -> Judgement:
    """The program cannot learn a handful of samples by heart, at any learning rate.

    ## What it does

    Rewinds the program, feeds its own loop the same few samples over and over, with dropout and weight decay off, and
    sees whether the loss comes down. It tries your learning rate, a lower and a higher one. A loop that draws random
    numbers between batch and loss runs with fresh ones first, and with the same ones at every step after that.

    ## Why is it bad?

    Networks can memorise even random labels. One that cannot learn 8 samples has something between input and update
    broken: the output does not depend on the input, the labels do not match, the gradient is cut, the loss is given the
    wrong thing. No amount of data or time repairs that.

    ## How it is measured

    By experiment. A rate succeeds when its loss reaches the target or, for class labels, its accuracy reaches
    `min-accuracy`. The rule fails only if no rate succeeds, the best one came less than `max-progress` of the way from
    the first loss to the lowest reachable one, and none was still falling. Where the lowest loss is not known, the
    loss has to have dropped by less than `max-drop`, and either the accuracy or a constant output has to confirm it.

    A classifier that learns the samples only while the random numbers of its loop are frozen, and comes less than
    `max-noisy` of the way while they are not, fails too: the loop's randomness separates the inputs from their labels.

    ## When it may be wrong

    - If another learning rate succeeds, the program is able to learn and this rule passes: the rate is the matter. A
      loss that comes down is inconclusive as long as no rate above yours was tried.
    - Label smoothing, soft targets and repeated inputs with different labels have a lowest loss above 0, from which
      the target is set.
    - Losses without a known floor (VAE, contrastive, reinforcement learning) are inconclusive rather than failed. So is
      forecasting a series at each of its positions: chance has a part in each value that follows.
    - Runs that are slow but on their way (at least `min-fall` of it) are inconclusive.
    - Augmentation, masking and mixing slow the fall down, but do not stop it: a loss that comes part of the way with
      fresh random numbers passes once it learns with frozen ones.
    - The few samples fill a whole batch by turns. Where the loss takes fewer answers than a batch has samples, as in
      episodes of few-shot learning, answers may come from elsewhere and stay where they are: inconclusive.
    - A program in which only a few parameters are trained may honestly lack the capacity.

    ## How to fix

    Bisect on one batch.

    ```python
    x, y = next(iter(loader))
    out = model(x)
    assert out.std(dim=0).max() > 0            # does the output depend on the sample?
    loss = criterion(out, y)
    loss.backward()
    for name, p in model.named_parameters():
        print(name, None if p.grad is None else p.grad.norm())   # is the gradient cut?
    ```
    """
    arms = [arm for arm in overfit.arms if arm.losses]
    if not arms:
        raise Inconclusive("the experiment on a few pinned samples took no step")
    best = min(arms, key=_end)
    end = _end(best)
    yield Measured(end, overfit.target, _story(best, overfit))
    learned = [arm for arm in arms if _learned(arm, overfit, limits)]
    if learned:
        # Say which rate it took, the user's own first.
        chosen = min(learned, key=lambda arm: (arm.rate_factor != 1, _end(arm)))
        yield Measured(_end(chosen), overfit.target, _story(chosen, overfit))
        yield from _hidden_by_noise(chosen, arms, overfit, limits)
        return
    if untrue(overfit.fidelity, limits.max_fidelity):
        raise Inconclusive(f"the replay differs from the observed run by {percent(overfit.fidelity or math.nan)}")
    if all(diverged(arm.losses) for arm in arms):
        raise Inconclusive("the loss on the pinned samples was not finite at any rate; see nonfinite-loss")
    tried = [arm for arm in arms if len(arm.losses) >= limits.min_steps or diverged(arm.losses)]
    if len({arm.rate_factor for arm in tried}) < limits.min_rates:
        raise Inconclusive(
            f"{_story(best, overfit)}; other rates were not tried for as long as it takes to tell "
            f"({count(limits.min_steps, 'step')} at {count(limits.min_rates, 'rate')})"
        )
    if not math.isfinite(overfit.initial) or signed((overfit.initial,), best.losses):
        raise Inconclusive(f"{_story(best, overfit)}; a loss that can be negative has no known floor")
    if overfit.tiled and loss is not None and (answers := _answers(loss, overfit)):
        raise Inconclusive(
            f"{_story(best, overfit)}, but the loss takes {number(answers)} answers for the "
            f"{count(overfit.batch_size, 'sample')} of a batch: which belongs to which is not known, and a few samples "
            "may have been given each other's"
        )
    falling = [arm for arm in tried if _still_falling(arm, overfit, limits)]
    if falling:
        raise Inconclusive(f"{_story(falling[0], overfit)} and was still falling: more steps would tell")
    known = overfit.floor is not None and math.isfinite(overfit.floor)
    progress = _progress(end, overfit)
    if progress > (limits.max_progress if known else limits.max_drop):
        short = "but not to the target" if known else "and its lowest reachable value is not known"
        raise Inconclusive(f"{_story(best, overfit)}: it did come down, {short}")
    accuracies = [arm.accuracy for arm in arms if arm.accuracy is not None and math.isfinite(arm.accuracy)]
    if not known and not accuracies and overfit.constant_output is not True:
        raise Inconclusive(f"{_story(best, overfit)}, but the lowest reachable loss is not known")
    if max(arm.rate_factor for arm in tried) <= 1 and not diverged(best.losses) and end < overfit.initial:
        raise Inconclusive(f"{_story(best, overfit)}; whether a higher rate learns them was not tried")
    yield _finding(best, arms, progress, overfit)


def _answers(loss: LossInputs, overfit: Overfit) -> float:
    """Rows of each call of the loss where they are fewer than the samples, else 0; a last batch may be a small one."""
    calls = [call for call in loss.calls if call.calls and call.location == overfit.location]
    rows = min((call.rows / call.calls for call in calls), default=0.0)
    return rows if rows < FEWER * overfit.batch_size else 0.0


def _progress(level: float, overfit: Overfit) -> float:
    """Share of the way from the first loss down to the floor, to 0 where the floor is not known."""
    floor = overfit.floor if overfit.floor is not None and math.isfinite(overfit.floor) else 0.0
    way = overfit.initial - floor
    return (overfit.initial - level) / way if way > 0 else 0.0


def _hidden_by_noise(learned: OverfitArm, arms: list[OverfitArm], overfit: Overfit, limits: Limits) -> Judgement:
    """The control is the same loop, at the same rate, with its random numbers running."""
    noisy = next((arm for arm in arms if not arm.frozen_noise and arm.rate_factor == learned.rate_factor), None)
    if noisy is None or not learned.frozen_noise or noisy.accuracy is None or overfit.floor is None:
        return
    if diverged(noisy.losses) or len(noisy.losses) < max(limits.min_steps, len(learned.losses)):
        return  # it was not given as many steps as the frozen one took
    progress = _progress(_end(noisy), overfit)
    if progress >= limits.max_noisy:
        return
    yield Finding(
        message=(
            f"{count(overfit.samples, 'sample')} are learned by heart only while the loop's random numbers are frozen "
            f"(loss {number(overfit.initial)} to {number(_end(learned))}): as the loop draws them, the loss stays at "
            f"{number(_end(noisy))}, accuracy {percent(noisy.accuracy)}"
        ),
        where=overfit.loss_function,
        location=overfit.location,
        measured=_end(noisy),
        limit=overfit.target,
        confidence=Confidence.CONFIRMED,
        detail=tuple(_story(arm, overfit) for arm in arms),
        fix="""Look for what is drawn at random between the batch and the loss: an input and its label have to be
        shuffled, cut or mixed together: `order = torch.randperm(len(x)); x, y = x[order], y[order]`.""",
    )


def _end(arm: OverfitArm) -> float:
    """Level at the end, infinite when the arm diverged."""
    return math.inf if diverged(arm.losses) else middle(tail(arm.losses))


def _learned(arm: OverfitArm, overfit: Overfit, limits: Limits) -> bool:
    accurate = arm.accuracy is not None and arm.accuracy >= limits.min_accuracy
    return arm.reached or _end(arm) <= overfit.target or (accurate and not diverged(arm.losses))


def _still_falling(arm: OverfitArm, overfit: Overfit, limits: Limits) -> bool:
    """The halves of the last third lie apart by a good part of the whole fall: a sixth of it on a steady slope."""
    last = tail(arm.losses)
    before, end = middle(last[: len(last) // 2]), middle(last[len(last) // 2 :])
    fall = overfit.initial - end
    if diverged(arm.losses) or _progress(end, overfit) < limits.min_fall:
        return False
    # More than noise: on a steady slope the halves lie 1.35 times the spread apart.
    return before - end >= max(limits.still_falling * fall, spread(last))


def _story(arm: OverfitArm, overfit: Overfit) -> str:
    rate = "your learning rate" if arm.rate_factor == 1 else f"{number(arm.rate_factor)} times your learning rate"
    accuracy = f", accuracy {percent(arm.accuracy)}" if arm.accuracy is not None else ""
    rate += " and frozen random numbers" if arm.frozen_noise and any(not a.frozen_noise for a in overfit.arms) else ""
    return (
        f"with {rate} the loss on {count(overfit.samples, 'sample')} went from {number(overfit.initial)} to "
        f"{number(_end(arm))} in {count(len(arm.losses), 'step')}{accuracy}"
    )


def _finding(best: OverfitArm, arms: list[OverfitArm], progress: float, overfit: Overfit) -> Finding:
    factors = listing([number(arm.rate_factor) for arm in sorted(arms, key=lambda arm: arm.rate_factor)])
    detail = [_story(arm, overfit) for arm in arms]
    if overfit.constant_output:
        detail.insert(0, "all samples get the same output: it does not depend on the input")
    if overfit.floor is not None:
        reason = f" ({overfit.floor_reason})" if overfit.floor_reason else ""
        detail.append(f"lowest reachable loss {number(overfit.floor)}{reason}, target {number(overfit.target)}")
    constant = "; every sample gets the same output" if overfit.constant_output else ""
    return Finding(
        message=(
            f"{count(overfit.samples, 'sample')} cannot be learned by heart: at {factors} times your learning rate the "
            f"loss went from {number(overfit.initial)} to {number(_end(best))} at best in "
            f"{count(len(best.losses), 'step')}, {percent(max(progress, 0.0))} of the way{constant}"
        ),
        where=overfit.loss_function,
        location=overfit.location,
        measured=_end(best),
        limit=overfit.target,
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
    )
