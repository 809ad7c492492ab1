"""MOD104: the model learns no more from its inputs than it would without them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydantic import Field

from auditor.declare import (
    Confidence,
    Finding,
    Inconclusive,
    Judgement,
    Measured,
    NotApplicable,
    Options,
    Severity,
    rule,
)
from auditor.evidence import (
    EmbeddingLookups,
    GradientReach,
    IgnoredInput,
    InputUse,
    Overfit,
    PairedReplay,
    RemedyKind,
    Unreached,
    UnreadPlaces,
)
from auditor.paired import Comparison, compare, untrue
from auditor.series import diverged, finite, middle, tail, width

from ..words import count, listing, named, number, percent


class Limits(Options):
    max_change: float = Field(
        1e-6, gt=0, lt=1, description="Largest change of the outputs, relative, that counts as none: rounding."
    )
    min_steps: int = Field(10, ge=1, description="Steps that have to have trained the model before it is looked at.")
    min_gain: float = Field(
        0.03, gt=0, lt=1, description="Share of the loss without inputs that the inputs have to remove."
    )
    min_fall: float = Field(
        0.1, gt=0, lt=1, description="Share of the first loss that is gone once something is learned."
    )
    max_p_value: float = Field(0.05, gt=0, lt=1, description="Largest p-value of the paired test for that.")
    min_arm_steps: int = Field(100, ge=20, description="Steps of both arms before no difference means anything.")
    min_rows: int = Field(4, ge=2, description="Rows of an embedding of which one alone is asked for.")
    min_lookups: int = Field(256, ge=1, description="Lookups in which no other row was asked for.")
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "MOD104",
    "input-independence",
    severity=Severity.ERROR,
    explains=("cannot-overfit", "majority-class-collapse", "loss-plateau", "class-imbalance"),
    fix="""Follow one batch through the forward pass and find where two samples become the same:
    `assert not torch.equal(model(x), model(x.flip(0)))`; then repeat it for every intermediate tensor.""",
    remedies=(RemedyKind.NO_SINGLE_NORMS,),
    references=(
        "https://karpathy.github.io/2019/04/25/recipe/",
        "https://arxiv.org/abs/1611.03530",
    ),
)
def input_independence(
    use: InputUse, overfit: Overfit | None, reach: GradientReach | None, limits: Limits
) -> Judgement:
    """The model learns no more from its inputs than it would learn without them.

    ## What it does

    Trains on one pinned batch twice, from the same weights, with the same targets and the same random numbers: once
    with its inputs, and once with the first sample's inputs in place of everybody's. And it looks whether the trained
    model's outputs change at all when the inputs are exchanged.

    ## Why is it bad?

    A model that does not see its inputs still has a loss that falls: it learns how often each class occurs, or the mean
    of the target. That looks like a hard task or a bad learning rate. The cause is elsewhere: the initial instead of
    the last hidden state is read, a normalization removes the signal, a variable is overwritten, all units are dead, or
    inputs and targets are shuffled apart.

    ## How it is measured

    By experiment. It fails, exactly, when after some steps of training no output changes by more than rounding
    (`max-change`), in training mode or in evaluation mode, though every sample gets another one's inputs.

    Of a model with several inputs, each is exchanged by itself too. It fails when that changes no output by one bit,
    and weights that an optimizer holds never had a gradient: what was computed from that input is used nowhere.

    So are the places along each axis of an input, by halves. It is a warning when no output changes by one bit but for
    one place in eight, or fewer: one step of a sequence is all that is read.

    An embedding of `min-rows` rows or more that was asked for one and the same row in `min-lookups` lookups is a
    warning where the model is called with no integers: what it is asked for was cut from fractions.

    Otherwise the two arms are compared by a paired one-sided test (`max-p-value`) and an effect size (`min-gain`). When
    the inputs do not help within `min-arm-steps`, the loss did fall (`min-fall`), and a few samples could not be
    learned by heart at any learning rate either, that is a warning.

    ## When it may be wrong

    - Zero-initialised heads and gates do not see their input at first: the model is trained before it is looked at.
    - Targets that the model makes from its inputs (autoencoders inside the model, self-supervision, contrastive losses)
      are not applicable, as they change with the inputs.
    - A model that is meant to read the last step alone, of windows that hold more, is warned of.
    - A model that is given the target besides (teacher forcing) may pass, as one of its inputs does help.
    - If nothing is learned within the steps, with or without inputs, it is inconclusive.

    ## How to fix

    ```python
    out, (hn, cn) = self.lstm(x, (h0, c0))
    logits = self.head(hn[-1])                  # not h0[-1]

    a, b = model(x), model(x.flip(0))
    assert (a - b).abs().max() > 0              # does the output depend on the input?
    ```
    """
    lone = [each for each in use.one_row if each.rows >= limits.min_rows and each.lookups >= limits.min_lookups]
    if lone:
        yield Measured(1.0, float(lone[0].rows), f"{named(lone[0].name)} is asked for one of its {lone[0].rows} rows")
        yield from map(_one_row, lone)
        return
    _require_usable(use, limits)
    change = use.output_change if use.output_change is not None and math.isfinite(use.output_change) else None
    if change is not None and change <= limits.max_change and use.examined + 1 >= limits.min_steps:
        yield Measured(change, limits.max_change, "exchanging the inputs does not change the outputs")
        if not _moves(use.real):
            raise Inconclusive("the outputs do not depend on the inputs, but nothing was learned yet either")
        yield _independent(use, change, limits)
        return
    lost = [each for each in reach.unreached if not each.moved] if reach is not None else []
    ignored = [each for each in use.ignored if not _tells_about_others(each.name)]
    if ignored and lost and use.examined + 1 >= limits.min_steps:
        yield Measured(0.0, limits.max_change, f"exchanging {_called(ignored[0])} does not change the outputs")
        yield _ignored(use, ignored, lost)
        return
    if use.examined + 1 >= limits.min_steps and (unread := list(_unread(use))):
        yield from unread
        return
    if use.refused and not use.constant:
        raise Inconclusive(f"the model cannot be called with one sample's inputs for all: {use.refused}")
    if not use.loss_function and not use.constant:
        if change is None:
            raise NotApplicable("no loss function with a target was seen")
        yield Measured(change, limits.max_change, "exchanging the inputs changes the outputs")
        return
    look = compare(PairedReplay(start="initial", control=use.constant, treated=use.real))
    if look.steps < limits.min_steps:
        raise Inconclusive(f"needs {count(limits.min_steps, 'step')} with and without inputs, saw {look.steps}")
    yield Measured(look.gain, limits.min_gain, _ends(look, use))
    if look.gain >= limits.min_gain and look.p_value <= limits.max_p_value:
        return
    if overfit is not None and any(arm.reached for arm in overfit.arms):
        return  # learned by heart, so the inputs were seen
    if use.same_targets is not True:
        raise NotApplicable("the targets are made from the inputs, so nothing can be learned without inputs to compare")
    if use.distinct_targets is False:
        raise Inconclusive("all samples of the pinned batch have the same target: no input is needed to learn it")
    if look.control_diverged or look.treated_diverged:
        raise Inconclusive("the loss did not stay finite; see nonfinite-loss and lr-too-high")
    if look.steps < limits.min_arm_steps or max(look.control_fall, look.treated_fall) < limits.min_fall:
        raise Inconclusive(f"{_ends(look, use)}: too little was learned to tell. {_needed(look, limits)}")
    if overfit is None or not _fits_no_better(overfit, look, limits):
        raise Inconclusive(f"{_ends(look, use)}, but whether the samples can be learned by heart is not settled")
    yield _useless(use, overfit, look, limits)


def _require_usable(use: InputUse, limits: Limits) -> None:
    if untrue(use.fidelity, limits.max_fidelity):
        raise Inconclusive("the replay of your own loop gave other losses than were observed")
    if use.changed_inputs < 1:
        raise NotApplicable("the model is called with no tensor that has one row a sample")
    if not use.distinct_inputs:
        raise Inconclusive("all samples of the pinned batch have the same inputs")


def _moves(losses: tuple[float, ...]) -> bool:
    kept = finite(losses)
    return len(kept) > 1 and width(kept) > 1e-9 * max(abs(kept[0]), 1e-30)


def _ends(look: Comparison, use: InputUse) -> str:
    return (
        f"loss on {count(use.samples, 'sample')} after {count(look.steps, 'step')}: {number(look.treated_end)} with "
        f"their inputs, {number(look.control_end)} without, from {number(look.first)}"
    )


def _needed(look: Comparison, limits: Limits) -> str:
    """How many steps would decide, at the pace seen."""
    pace = max(look.control_fall, look.treated_fall)
    if not 0 < pace < limits.min_fall:
        return f"It takes at least {count(limits.min_arm_steps, 'step')}"
    steps = max(limits.min_arm_steps, math.ceil(min(1e6, look.steps * limits.min_fall / pace)))
    return f"At this pace it takes some {count(steps, 'step')}"


def _fits_no_better(overfit: Overfit, look: Comparison, limits: Limits) -> bool:
    """A few samples, learned at several rates, end no lower than without inputs."""
    arms = [arm for arm in overfit.arms if arm.losses and not diverged(arm.losses)]
    if len({arm.rate_factor for arm in overfit.arms}) < 2 or not arms:
        return False
    best = min(middle(tail(arm.losses)) for arm in arms)
    return best > (1 - limits.min_fall) * look.control_end


def _independent(use: InputUse, change: float, limits: Limits) -> Finding:
    return Finding(
        message=(
            f"the outputs of {use.module or 'the model'} do not depend on its inputs: after "
            f"{count(use.examined, 'training step')} no output changes when every sample gets another one's inputs"
        ),
        where=use.module,
        location=use.model_location or use.location,
        measured=change,
        limit=limits.max_change,
        confidence=Confidence.CONFIRMED,
        detail=tuple(_arms(use)),
    )


def _one_row(each: EmbeddingLookups) -> Finding:
    return Finding(
        message=(
            f"{named(each.name)} has {each.rows} rows and is asked for row {each.lowest} in all of "
            f"{count(each.lookups, 'lookup')}: its ids are cut from numbers with fractions, and nothing of them is left"
        ),
        where=each.name,
        location=each.location,
        measured=1.0,
        limit=float(each.rows),
        severity=Severity.WARNING,
        confidence=Confidence.CONFIRMED,
        fix="Keep the columns of codes as integers, and scale the others only: `codes = rows[:, CODES].long()` before "
        "any scaling.",
    )


def _unread(use: InputUse) -> Iterator[Measured | Finding]:
    """Little of an input is read; of inputs that tell of others, little may be enough."""
    told = (each for each in use.unread if 0 < each.axis < len(each.shape) and each.shape[each.axis] > 0)
    each = next((each for each in told if not _tells_about_others(each.name)), None)
    if each is None:
        return
    whole = each.shape[each.axis]
    noun = _place(each)
    read = listing([str(place) for place in each.read], 6)
    called = repr(each.name) if each.name else f"the input of shape {'x'.join(map(str, each.shape))}"
    text = f"of the {count(whole, noun)} of {called} the outputs depend on {noun} {read} alone"
    yield Measured(len(each.read) / whole, 0.125, text)
    yield Finding(
        message=(
            f"{text}: after {count(use.examined, 'training step')} no output changes when every sample gets another "
            "one's values everywhere else"
        ),
        where=use.module,
        location=use.model_location or use.location,
        measured=len(each.read) / whole,
        limit=0.125,
        severity=Severity.WARNING,
        confidence=Confidence.CONFIRMED,
        fix="Look where the input is indexed: a loop over steps that reads `x[:, 0]` and not `x[:, t]`, the output of "
        "a causal layer at the first position, a slice that was meant for another axis.",
    )


def _place(each: UnreadPlaces) -> str:
    if len(each.shape) == 2:
        return "column"
    return "step" if len(each.shape) == 3 and each.axis == 1 else "place"


def _tells_about_others(name: str) -> bool:
    """Masks and lengths of inputs that all are full say nothing."""
    return any(word in name.lower() for word in ("mask", "length", "lens", "position", "label", "target"))


def _called(each: IgnoredInput) -> str:
    return f"the input {each.name!r}" if each.name else f"an input of shape {'x'.join(map(str, each.shape))}"


def _ignored(use: InputUse, ignored: list[IgnoredInput], lost: list[Unreached]) -> Finding:
    layers = listing([named(each.name) for each in lost], 3)
    return Finding(
        message=(
            f"the outputs of {use.module} do not depend on {_called(ignored[0])}: after "
            f"{count(use.examined, 'training step')} no output changes when every sample gets another one's, and "
            f"{layers} never had a gradient"
        ),
        where=use.module,
        location=use.model_location or use.location,
        measured=0.0,
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        fix="Follow that input through the forward pass: what is computed from it has to be handed on, as in "
        "`out, _ = self.rnn(words, state)`.",
        detail=tuple(f"{_called(each)} has no effect" for each in ignored[1:]),
    )


def _useless(use: InputUse, overfit: Overfit, look: Comparison, limits: Limits) -> Finding:
    return Finding(
        message=(
            f"the inputs do not help: after {count(look.steps, 'step')} on {count(use.samples, 'sample')} the loss is "
            f"{number(look.treated_end)} with them and {number(look.control_end)} with one sample's inputs for all"
        ),
        where=use.loss_function,
        location=use.location,
        measured=look.gain,
        limit=limits.min_gain,
        severity=Severity.WARNING,
        confidence=Confidence.CONFIRMED,
        detail=(
            f"at {count(len({arm.rate_factor for arm in overfit.arms}), 'learning rate')} the samples could not be "
            "learned by heart either",
        ),
    )


def _arms(use: InputUse) -> list[str]:
    ends = [middle(tail(arm)) for arm in (use.real, use.constant) if arm]
    if len(ends) < 2:
        return []
    closeness = percent(abs(ends[0] - ends[1]) / max(abs(ends[1]), 1e-12))
    return [f"loss {number(ends[0])} with the inputs, {number(ends[1])} with one sample's for all: {closeness} apart"]
