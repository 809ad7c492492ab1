"""INI101: units of a layer start equal and stay equal."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
from auditor.evidence import CopiedWeights, LayerSymmetry, Program, Remedy, RemedyKind, Symmetry, ZeroStart, ZeroStarts
from auditor.paired import untrue

from ..symptoms import NOT_LEARNING
from ..words import count, listing, named, number, percent

LOOKUP_TABLES = ("Embedding", "EmbeddingBag")  # their rows are entries, not units


class Limits(Options):
    max_share: float = Field(0.5, gt=0, le=1, description="Largest share of a layer's units that may equal another.")
    max_parted: float = Field(
        1e-3, gt=0, lt=1, description="Largest distance between copies, as a share of the way they went, in common."
    )
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")
    min_steps: int = Field(3, ge=1, description="Steps after which equality counts: most zero starts end with step 2.")


@rule(
    "INI101",
    "symmetric-init",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "dead-units", "init-scale"),
    fix="""Start the weight from random numbers, so that every unit learns something else:
    `nn.init.kaiming_normal_(layer.weight)`, or delete the constant initialisation: PyTorch's default is random.""",
    references=(
        "https://www.deeplearningbook.org/contents/optimization.html",
        "https://proceedings.mlr.press/v9/glorot10a.html",
        "https://docs.pytorch.org/docs/stable/nn.init.html",
    ),
    remedies=(RemedyKind.REINITIALIZE,),
)
def symmetric_init(symmetry: Symmetry, zeros: ZeroStarts | None, program: Program | None, limits: Limits) -> Judgement:
    """Units of a layer start with equal weights and never come apart.

    ## What it does

    Compares the rows of every weight matrix or kernel (one row, with its bias, is one unit) with each other before
    the first step and after the last observed one. Of a matrix that belongs to none of torch's layers, also the
    columns: in `x @ weight` they are the units. Of an embedding the columns only: its rows are entries.

    ## Why is it bad?

    Units with equal weights compute the same output, receive the same gradient and are moved by the same step, for
    ever. A layer of 256 equal units has the capacity of one, whatever the optimizer, the learning rate or the number
    of epochs.

    ## How it is measured

    By identity. A unit is a duplicate when its row is bit-equal to an earlier row before step 0 and still equals one
    (to 1e-6) after the observed steps. A layer fails when more than `max-share` of the units that could be duplicates
    are, at both times, although gradient reached the weight and moved it. It also fails when every weight of the
    network is in that state and none receives any gradient: such a network cannot move at all.

    In the same way, whole layers are compared with each other. Weights of several layers (experts, towers, members of
    an ensemble) fail that were bit-equal before step 0, not constant, have moved under their gradients, and are no
    further from each other than `max-parted` of that way: they are one layer, computed several times.

    Weights that began at zero and whose gradient was zero at every update, though others were trained, are put to the
    test: the first step is replayed from random numbers in their place. Where they have a gradient then, zero is a
    place without slope for them, as for factors whose product alone reaches the loss; none of them ever leaves it.

    ## When it may be wrong

    - Zero-initialised residual gates, LoRA's B, adaLN-zero, zero convolutions and zero heads start equal and come
      apart within two steps: they pass, because equality has to last. Where they are all that is equal (a rate so
      small that no row moved by 1e-6), they are left alone too.
    - Layers with one unit, equal rows of embedding tables, weights that nothing has trained (frozen, or an expert that
      was not routed to) are not judged.
    - Layers that were copied from one, as in `nn.TransformerEncoder`, part in the first step, as each gets another
      input: they pass.
    - A learning rate that is still 0 (warm-up) proves nothing: the answer is inconclusive.

    ## How to fix

    Remove the constant initialisation, or make it random. Biases may start at zero, weights may not.

    ```python
    def init_weights(m):
        if isinstance(m, nn.Linear):
            nn.init.kaiming_normal_(m.weight)  # not nn.init.constant_(m.weight, 0.05)
            nn.init.zeros_(m.bias)
    ```
    """
    together = [each for each in symmetry.copies if _never_parted(each, limits)]
    if together and symmetry.steps >= limits.min_steps:
        yield _copies(together, symmetry.steps, limits)
    asleep = _asleep(zeros, limits)
    if asleep:
        yield _resting(asleep, zeros.steps if zeros else 0)
    tables = _tables(program)
    rows = [each for each in symmetry.layers if each.units > 1]
    layers = [each for each in rows if each.table or each.name.removesuffix(".weight") not in tables]
    if not layers:
        raise NotApplicable("no weight has more than one output unit")
    worst = max(layers, key=_lasting_share)
    yield Measured(
        _lasting_share(worst),
        limits.max_share,
        f"at most {percent(_lasting_share(worst))} of a layer's units ({named(worst.name)}) start and stay equal to "
        "another",
    )
    slept = {each.name for each in asleep}
    suspects = [each for each in layers if _lasting_share(each) > limits.max_share and each.name not in slept]
    if not suspects:
        return
    if symmetry.steps < limits.min_steps:
        raise Inconclusive(
            f"units of {named(worst.name)} are equal, but only {count(symmetry.steps, 'step')} were seen: zero starts "
            f"part after 2, this needs {limits.min_steps}"
        )
    everything = len(suspects) == len(layers)
    stuck = everything and not any(each.gradient_nonzero or each.moved for each in symmetry.layers)
    trained = [each for each in suspects if each.gradient_nonzero and each.moved]
    if stuck and len(suspects) > 1:
        yield _finding(suspects, symmetry.steps, limits, "no gradient reaches any weight, so they can never part")
    elif trained and (everything or not all(each.zero_start for each in trained)):
        yield _finding(trained, symmetry.steps, limits, "they receive the same gradient, so they can never part")
    elif stuck or any(each.gradient_nonzero and not each.moved for each in suspects):
        raise Inconclusive(
            f"units of {listing([named(each.name) for each in suspects])} start equal, but the weights did not move "
            f"in {count(symmetry.steps, 'step')} (a warm-up from a rate of 0?): probe more steps"
        )


def _never_parted(each: CopiedWeights, limits: Limits) -> bool:
    return (
        len(each.names) > 1
        and each.gradient_nonzero
        and each.moved > 0
        and each.apart <= limits.max_parted * each.moved
    )


def _asleep(zeros: ZeroStarts | None, limits: Limits) -> list[ZeroStart]:
    if zeros is None or zeros.steps < limits.min_steps or untrue(zeros.fidelity, limits.max_fidelity):
        return []
    return [each for each in zeros.weights if each.woken]


def _resting(asleep: Sequence[ZeroStart], steps: int) -> Finding:
    worst = max(asleep, key=lambda each: math.prod(each.shape))
    names = listing([named(each.name) for each in asleep], 3)
    return Finding(
        message=(
            f"all weights of {names} start at zero and still are after {count(steps, 'step')}: their gradient is "
            "exactly zero there, and it is not where they start from random numbers, so they can never leave it"
        ),
        where=worst.name,
        location=worst.location,
        measured=1.0,
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        fix="Start them from small random numbers, `0.1 * torch.randn(...)` or `nn.init.normal_(weight, std=0.01)`."
        " Of two factors whose product is used, one at most may start at zero.",
        remedies=(Remedy(kind=RemedyKind.REINITIALIZE, layers=tuple(each.name for each in asleep)),),
    )


def _copies(found: Sequence[CopiedWeights], steps: int, limits: Limits) -> Finding:
    worst = max(found, key=lambda each: (len(each.names), math.prod(each.shape)))
    return Finding(
        message=(
            f"{count(len(worst.names), 'layer')} began as copies of each other ({listing(worst.names, 3)}), and after "
            f"{count(steps, 'step')} they still are: they get the same gradients, so they can never part"
        ),
        where=worst.names[0],
        location=worst.location,
        measured=worst.apart / worst.moved,
        limit=limits.max_parted,
        remedies=(Remedy(kind=RemedyKind.REINITIALIZE, layers=tuple(name for each in found for name in each.names)),),
        confidence=Confidence.CONFIRMED,
        fix="Build every one of them anew, with random numbers of its own: `nn.ModuleList(Expert() for _ in range(n))`,"
        " not copies of one.",
        detail=tuple(f"{', '.join(each.names[:8])}: {number(each.apart)} apart" for each in found[:8]),
    )


def _tables(program: Program | None) -> set[str]:
    models = program.models if program else ()
    return {each.name for model in models for each in model.layers if each.kind in LOOKUP_TABLES}


def _lasting_share(weight: LayerSymmetry) -> float:
    """Share of the units that could equal an earlier one and did, at the start and at the end."""
    return min(weight.duplicates_start, weight.duplicates_end) / (weight.units - 1)


def _finding(layers: Sequence[LayerSymmetry], steps: int, limits: Limits, reason: str) -> Finding:
    worst = max(layers, key=lambda each: (_lasting_share(each), each.units))
    equal = min(worst.duplicates_start, worst.duplicates_end) + 1
    others = [each for each in layers if each is not worst]
    detail = [
        f"{each.name}: {each.duplicates_start} of {each.units} units equal an earlier one at the start, "
        f"{each.duplicates_end} after {count(steps, 'step')}"
        for each in (worst, *others[:8])
    ]
    if len(others) > 8:
        detail.append(f"and {len(others) - 8} more layers")
    return Finding(
        message=(
            f"{equal} of the {worst.units} units of {named(worst.name)} share their weights with another at the start "
            f"and still do after {count(steps, 'step')}: {reason}"
        ),
        where=worst.name,
        location=worst.location,
        measured=_lasting_share(worst),
        limit=limits.max_share,
        remedies=(Remedy(kind=RemedyKind.REINITIALIZE, layers=(worst.name, *(layer.name for layer in others))),),
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
    )
