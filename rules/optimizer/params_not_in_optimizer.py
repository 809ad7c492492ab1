"""OPT103: parameters receive gradients and are in no optimizer."""

from __future__ import annotations

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
from auditor.evidence import LeftOut, Ownership, Remedy, RemedyKind

from ..symptoms import NOT_LEARNING
from ..words import count, listing, named, percent


class Limits(Options):
    max_share: float = Field(
        0.01, ge=0, lt=1, description="Largest share of the trainable numbers that may be in no optimizer."
    )
    min_steps: int = Field(3, ge=1, description="Optimizer steps that have to be seen.")


@rule(
    "OPT103",
    "params-not-in-optimizer",
    severity=Severity.ERROR,
    explains=NOT_LEARNING,
    fix="""Hand every part that is to be trained to the optimizer:
    `torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], lr=1e-3)`; freeze the others with
    `requires_grad_(False)`.""",
    references=(
        "https://docs.pytorch.org/docs/stable/optim.html#constructing-it",
        "https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad",
    ),
    remedies=(RemedyKind.ADD_PARAMETERS,),
)
def params_not_in_optimizer(ownership: Ownership, limits: Limits) -> Judgement:
    """Some parameters get gradients at every step and no optimizer holds them: they stay as they were drawn.

    ## What it does

    Compares, by identity, the parameters at the leaves of the executed graph with those in the groups of all
    optimizers together.

    ## Why is it bad?

    The part that was left out keeps its random weights. The rest of the network learns around it, so the loss falls
    and nothing looks broken; it only never gets as good as it should. Half of the backward pass is computed for
    nothing.

    ## How it is measured

    Exactly: the leaves that `backward()` reaches in the sampled steps, less all parameters that any optimizer of the
    script holds, and only those whose gradient is not zero. Left out of that count are modules that

    - change anyway: an update by hand, an optimizer of one's own, a moving average;
    - were given weights: `load_state_dict`, a pretrained checkpoint, a copy of a trained model. There a missing
      entry is how feature extraction, perceptual losses and reference models are written.

    It fails when what remains makes up more than `max-share` of the trainable numbers. Of a script that trains in
    stages (another optimizer takes over, a layer is replaced), each stage that the probe sees is looked at by itself.

    ## When it may be wrong

    - Several optimizers (GAN, actor and critic) count together. Frozen parameters, LoRA's base and averaged copies get
      no gradient and do not count.
    - Random features that are left untrained on purpose, but not frozen, are reported: freeze them, which also saves
      their backward pass.
    - Parameters that the loop adds to an optimizer only later than the observation lasts are reported.

    ## How to fix

    ```python
    parameters = itertools.chain(encoder.parameters(), decoder.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    ```
    """
    if ownership.own_tensors:
        raise NotApplicable("the optimizer holds no parameters of a model but tensors of its own, as for an input")
    if ownership.steps < limits.min_steps:
        raise Inconclusive(f"needs {count(limits.min_steps, 'step')}, saw {ownership.steps}")
    forgotten = [each for each in ownership.left_out if not each.moved and not each.loaded and each.parameters > 0]
    lost = sum(each.parameters for each in forgotten)
    share = lost / max(1, lost + max(0, ownership.trained))
    yield Measured(share, limits.max_share, f"{lost} of the trainable numbers are in no optimizer")
    if share > limits.max_share:
        yield _finding(ownership, forgotten, lost, share, limits)


def _finding(ownership: Ownership, forgotten: list[LeftOut], lost: int, share: float, limits: Limits) -> Finding:
    parts = _parts(forgotten)
    one = len(parts) == 1
    held = " and ".join(ownership.optimizers) or "the optimizer"
    detail = [f"{each.name} ({each.kind}): {', '.join(each.tensors)}" for each in forgotten[:6]]
    return Finding(
        message=(
            f"{listing(parts)} {'gets' if one else 'get'} gradients but {'is' if one else 'are'} in no optimizer: "
            f"{lost} numbers, {percent(share)} of what could be trained, stay as they were initialized"
        ),
        where=parts[0],
        location=ownership.optimizer_location or forgotten[0].location,
        measured=share,
        limit=limits.max_share,
        confidence=Confidence.CONFIRMED,
        since=ownership.since or None,
        detail=(*detail, f"the parameters given to {held} are others"),
        remedies=(
            Remedy(kind=RemedyKind.ADD_PARAMETERS, subject=_owner(forgotten), site=ownership.optimizer_location),
        ),
    )


def _owner(forgotten: list[LeftOut]) -> str:
    """What all of them belong to; '' for several."""
    heads = {each.name.partition(".")[0] for each in forgotten}
    return heads.pop() if len(heads) == 1 else ""


def _parts(forgotten: list[LeftOut]) -> list[str]:
    """Layers by what contains them where several share it: 'decoder' for decoder.fc1 and decoder.fc2."""
    heads: dict[str, list[str]] = {}
    for each in forgotten:
        heads.setdefault(each.name.split(".")[0], []).append(each.name)
    return [named(names[0]) if len(names) == 1 else named(head) for head, names in heads.items()]
