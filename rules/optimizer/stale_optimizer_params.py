"""OPT104: the optimizer holds parameters that the model no longer has."""

from __future__ import annotations

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
from auditor.evidence import Ownership, RemedyKind, StaleGroup

from ..symptoms import NOT_LEARNING
from ..words import count, listing, named, percent


class Limits(Options):
    max_share: float = Field(
        0.01, ge=0, lt=1, description="Largest share of the trainable numbers that the optimizer may miss."
    )
    min_steps: int = Field(3, ge=1, description="Optimizer steps that have to be seen.")


@rule(
    "OPT104",
    "stale-optimizer-params",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "params-not-in-optimizer", "params-not-updated", "update-ratio"),
    fix="""Build the optimizer last, when the model is complete: `model.fc = nn.Linear(512, 10)`, `model.to(device)`,
    and only then `optimizer = torch.optim.SGD(model.parameters(), lr=0.1)`.""",
    references=(
        "https://docs.pytorch.org/docs/stable/optim.html#constructing-it",
        "https://github.com/huggingface/accelerate/issues/2665",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.load_state_dict",
    ),
    remedies=(RemedyKind.ADD_PARAMETERS,),
)
def stale_optimizer_params(ownership: Ownership, limits: Limits) -> Judgement:
    """The optimizer was built before the model was changed: it steps parameters that nothing uses any more.

    ## What it does

    Looks, by identity, for parameters in an optimizer that belong to no module in use, while parameters that are in use
    belong to no optimizer.

    ## Why is it bad?

    `step()` moves tensors that nothing reads, and the ones that the model computes with never move. If all of the model
    was made anew, nothing is trained; if only the head was replaced, the network is trained around a random head. No
    error is raised, and `zero_grad()` on the optimizer does not reach the new gradients either.

    ## How it is measured

    Exactly. A parameter is stale when it never had a gradient at any step of its optimizer, is not in the executed
    graph, and belongs to no model that has a part in that graph. It fails when an optimizer holds such parameters and,
    at the same time, more than `max-share` of the trainable numbers receive gradients without being in any optimizer.
    Both together come about when a layer was replaced, the model was built again, or its parameters were exchanged
    (`load_state_dict(assign=True)`, weight normalization, sharding) after the optimizer was made. Where parameters or
    optimizers come in later, as between two rounds of training, or an optimizer finds no gradient any more, as after a
    copy has taken the place of the model, what follows is looked at by itself, as far as the probe looks on.

    ## When it may be wrong

    - Parts of the model that take no part in a step (unused branches, experts) still belong to it: they are not stale.
    - Stale parameters alone do no harm, and pass: in cross-validation an optimizer may outlive its model.
    - An update by hand moves the new parameters: they are not counted as missed.

    ## How to fix

    ```python
    model = Net()
    model.fc = nn.Linear(512, 10)
    model.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ```
    """
    if ownership.steps < limits.min_steps:
        raise Inconclusive(f"needs {count(limits.min_steps, 'step')}, saw {ownership.steps}")
    fresh = [each for each in ownership.left_out if not each.moved and each.parameters > 0]
    stale = [group for group in ownership.stale if group.parameters > 0]
    missed = sum(each.parameters for each in fresh) if stale else 0
    share = missed / max(1, missed + max(0, ownership.trained))
    yield Measured(
        share,
        limits.max_share,
        f"{sum(group.parameters for group in stale)} numbers in the optimizers belong to no module in use",
    )
    if not stale or not fresh or share <= limits.max_share:
        return
    worst = max(stale, key=lambda group: group.parameters)
    yield _finding(ownership, worst, [named(each.name) for each in fresh], missed, share, limits)


def _finding(
    ownership: Ownership, group: StaleGroup, names: list[str], missed: int, share: float, limits: Limits
) -> Finding:
    what = "nothing but parameters" if group.all_of_it else f"{count(group.tensors, 'tensor')}"
    shapes = ", ".join("x".join(map(str, shape)) or "scalar" for shape in group.shapes)
    return Finding(
        message=(
            f"{group.optimizer} holds {what} that no module in use has, and misses {listing(names)}: it was built "
            f"before the model was changed, so {percent(share)} of the trainable numbers are never updated"
            f"{f' from step {ownership.since} on' if ownership.since else ''}"
        ),
        where=group.optimizer,
        location=group.location,
        measured=share,
        limit=limits.max_share,
        confidence=Confidence.CONFIRMED,
        since=ownership.since or None,
        detail=(
            f"stale: {count(group.tensors, 'tensor')} of shapes {shapes}, {group.parameters} numbers",
            f"in use and in no optimizer: {missed} numbers in {listing(names)}",
        ),
    )
