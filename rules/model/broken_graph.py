"""MOD102: the graph is cut between weights and the loss, so they never get a gradient."""

from __future__ import annotations

import math

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
from auditor.evidence import CutRecurrence, GradientReach, GraphCut, GraphCuts, Location, Remedy, RemedyKind
from auditor.paired import untrue

from ..symptoms import NOT_LEARNING
from ..words import count, listing, named, number, percent


class Limits(Options):
    min_calls: int = Field(3, ge=3, description="Calls of a recurrence within one step.")
    min_steps: int = Field(5, ge=1, description="Steps of an optimizer that have to pass without a gradient.")
    min_change: float = Field(
        1e-6, gt=0, description="Smallest relative change of the loss that shows it to depend on the weights."
    )
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "MOD102",
    "broken-graph",
    severity=Severity.ERROR,
    explains=NOT_LEARNING,
    fix="""Stay in tensors from the weights to the loss: no `.item()`, `.data`, `.detach()`, `.numpy()` or
    `torch.tensor(x)` on the way; to join numbers use `torch.stack([a, b])`.""",
    remedies=(RemedyKind.KEEP_GRAPH,),
    references=(
        "https://docs.pytorch.org/docs/stable/notes/autograd.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.Tensor.detach.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.stack.html",
    ),
)
def broken_graph(reach: GradientReach, cuts: GraphCuts | None, limits: Limits) -> Judgement:
    """The loss depends on weights that no gradient ever reaches, because the graph is cut in between.

    ## What it does

    Looks for parameters that an optimizer holds and that had no gradient at any step, disturbs them, and sees whether
    the loss changes.

    ## Why is it bad?

    Autograd follows tensors. A value that went through `.item()`, `.data`, `.detach()`, numpy or `torch.tensor(...)`
    comes back as a constant: whatever lies before it gets no gradient and never learns. The optimizer skips such
    weights silently, and as long as anything else has a gradient, `backward()` does not complain.

    ## How it is measured

    By experiment. First, exactly: for `min-steps` steps of its optimizer, `.grad` was None at every update. A gradient
    of zeros is a gradient. Then the first step is replayed from the initial weights on the same batch with the same
    random numbers, once as it is and once with those weights disturbed. If the loss moves by more than `min-change`, it
    depends on them. A formula over tensors, without a loader or a model that is called, is replayed by putting back the
    random numbers that it draws its batch with; where that does not repeat the loss exactly, the rule is inconclusive.
    The operations of the replayed forward tell which one took a tensor with a graph and gave one
    without.

    And a recurrence that is stepped by hand fails, exactly, where a module is called `min-calls` times or more before
    backward(), each time on what it has returned itself, always without the graph of that, and most of its results
    have no gradient: the loss is computed from the last one. For modules other than torch's own recurrent layers that
    is a warning. Where the loss uses every result, gradients may be cut off after one step on purpose: it passes.

    ## When it may be wrong

    - Heads, experts and poolers whose output is not used pass: the loss does not depend on them. So do weights that
      are moved by hand (moving averages, target networks, codebooks), and parts with `requires_grad=False`.
    - In GANs, with target networks and with stop-gradients (SimSiam, VQ) the same weights get their gradient elsewhere.
    - A block under `torch.no_grad()` is a warning, as it was written on purpose, and passes where weights were loaded
      into the model or the block is in evaluation mode: a frozen backbone. Leave it out of the optimizer.
    - Something that is cut off for the first epochs only, in a training by stages, is reported.

    ## How to fix

    ```python
    scale = torch.stack([net.a, net.b]).mean()   # not torch.tensor([net.a.item(), net.b.item()])
    loss = criterion(head(features), y)          # not head(features.detach())
    loss.backward()
    ```
    """
    through_time = [each for each in reach.recurrences if _is_cut(each, limits)]
    for recurrence in through_time:
        yield _through_time(recurrence)
    waiting = [each for each in reach.unreached if each.steps >= limits.min_steps and not each.moved]
    if reach.steps < limits.min_steps:
        raise Inconclusive(f"needs {count(limits.min_steps, 'step')} of one optimizer, saw {max(0, reach.steps)}")
    if reach.parameters <= 0:
        raise NotApplicable("the optimizers hold no parameter that requires a gradient")
    elements = sum(each.parameters for each in waiting)
    if not waiting:
        yield Measured(
            float(len(through_time)), limits.min_change, "every weight that an optimizer holds had a gradient"
        )
        return
    missing = f"{count(elements, 'weight')} in {listing([named(each.name) for each in waiting], 3)} had no gradient"
    if cuts is None:
        raise Inconclusive(f"{missing}; whether the loss depends on them was not tried (experiments are needed)")
    if untrue(cuts.fidelity, limits.max_fidelity):
        raise Inconclusive(f"{missing}; the replay gave other losses than were observed")
    if not cuts.cuts:
        raise Inconclusive(f"{missing}; none of them was disturbed")
    strongest = max(cuts.cuts, key=_change)
    yield Measured(
        _change(strongest),
        limits.min_change,
        f"{missing}; disturbing those in {_layers(strongest)} moved the loss by {percent(_change(strongest))}",
    )
    for cut in cuts.cuts:
        if _change(cut) > max(limits.min_change, 10 * abs(cut.noise)) and not _frozen_on_purpose(cut):
            yield _finding(cut, reach, limits)


def _is_cut(each: CutRecurrence, limits: Limits) -> bool:
    again = each.calls - 1
    return each.calls >= limits.min_calls and each.cut == again and not each.kept and 2 * each.reached <= again


def _through_time(each: CutRecurrence) -> Finding:
    return Finding(
        message=(
            f"{named(each.name)} is called {each.calls} times in a step, always on its own last result without the "
            f"graph: the loss has a gradient for {each.reached} of the results, so nothing is learned across time"
        ),
        where=each.name,
        location=each.location,
        measured=float(each.cut),
        limit=0.0,
        severity=None if each.cell else Severity.WARNING,
        confidence=Confidence.CONFIRMED,
        fix="Hand the state on as it is, `state = self.cell(x, state)`; detach it between two batches at most.",
    )


def _change(cut: GraphCut) -> float:
    return 0.0 if math.isnan(cut.change) else cut.change


def _frozen_on_purpose(cut: GraphCut) -> bool:
    return cut.operation == "no_grad" and (cut.loaded or not cut.training)


def _layers(cut: GraphCut) -> str:
    return listing([named(layer) for layer in cut.layers], 3) or "tensors of the optimizer"


def _finding(cut: GraphCut, reach: GradientReach, limits: Limits) -> Finding:
    where = "nothing that the loss was computed from carries a graph" if _all_rootless(reach) else _cause(cut)
    detail = [f"the loss moves by {percent(_change(cut))} when these weights are disturbed"]
    if cut.others:
        detail.append(f"also: {listing(cut.others)}")
    return Finding(
        message=(
            f"{count(cut.parameters, 'weight')} in {_layers(cut)} had no gradient in {count(reach.steps, 'step')}, "
            f"though the loss depends on them: {where}"
        ),
        where=cut.layers[0] if cut.layers else "",
        location=cut.location or _layer_location(cut, reach) or reach.backward_location,
        measured=_change(cut),
        limit=limits.min_change,
        severity=Severity.WARNING if cut.operation == "no_grad" else None,
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
        fix=_fix(cut),
        remedies=(Remedy(kind=RemedyKind.KEEP_GRAPH, subject=cut.operation, site=cut.location),),
    )


def _all_rootless(reach: GradientReach) -> bool:
    return (
        reach.rootless >= max(1, reach.steps) and sum(each.parameters for each in reach.unreached) >= reach.parameters
    )


def _cause(cut: GraphCut) -> str:
    if not cut.operation:
        return "the graph is cut on the way"
    line = f" in line {number(cut.location.line)}" if cut.location is not None else ""
    if cut.operation == "no_grad":
        return f"they are used under no_grad(){line}"
    return f"{cut.operation}(){line} gives a tensor without a graph"


def _layer_location(cut: GraphCut, reach: GradientReach) -> Location | None:
    return next((each.location for each in reach.unreached if each.name in cut.layers and each.location), None)


def _fix(cut: GraphCut) -> str | None:
    if cut.operation == "no_grad":
        return """Take the block out of `with torch.no_grad():` if it is to be trained; if not, say so with
        `block.requires_grad_(False)` and leave it out of the optimizer."""
    return None
