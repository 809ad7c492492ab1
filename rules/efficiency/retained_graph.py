"""EFF102: the autograd graphs of all earlier steps are kept alive."""

from __future__ import annotations

from pydantic import Field

from auditor.declare import Confidence, Finding, Inconclusive, Judgement, Measured, Options, Severity, rule
from auditor.evidence import RetainedGraphs

from ..words import count, number


class Limits(Options):
    max_graphs: int = Field(8, ge=2, description="Most graphs of earlier steps that may be alive at the same time.")
    min_steps: int = Field(12, ge=4, description="Steps that have to be seen.")


@rule(
    "EFF102",
    "retained-graph",
    severity=Severity.WARNING,
    fix="Keep numbers instead of tensors with a graph: `losses.append(loss.item())`, or `loss.detach()` on a device.",
    references=(
        "https://docs.pytorch.org/docs/stable/notes/faq.html#my-model-reports-cuda-runtime-error-2-out-of-memory",
        "https://docs.pytorch.org/docs/stable/notes/autograd.html",
    ),
)
def retained_graph(graphs: RetainedGraphs, limits: Limits) -> Judgement:
    """Something keeps the autograd graphs of earlier steps alive, one more with every step.

    ## What it does

    Counts, after every step, of how many earlier steps the autograd graph is still there, and looks for the variable
    that holds them.

    ## Why is it bad?

    A loss that is stored as a tensor, `losses.append(loss)` or `total += loss`, stands for its whole graph: every node,
    and whatever tensors the nodes have saved and no backward has freed. Memory grows with every step until the run ends
    with an out-of-memory error, hours later; and what is stored must be freed node by node in the end.

    ## How it is measured

    By identity. A token is laid into the last node of the graph of every loss and every output of the model, and dies
    with it. Graphs of the last two steps do not count, because the variables of a loop live until they are assigned
    again. It fails when more than `max-graphs` graphs of older steps are alive at once, within at least `min-steps`
    steps.

    ## When it may be wrong

    - Gradients through several steps, as in meta-learning or truncated backpropagation through many windows, need the
      graphs of those steps. More than `max-graphs` of them at once is rare: raise the limit.
    - A collection of bounded size holds a bounded number of graphs. That costs memory, but does not grow without end.
    - After a backward without `retain_graph` the saved tensors are free, and what is left of a graph may be small. The
      details say what the memory did.

    ## How to fix

    ```python
    losses.append(loss.item())
    total += loss.detach()
    ```
    """
    if len(graphs.alive) < limits.min_steps:
        raise Inconclusive(f"needs {limits.min_steps} steps, saw {len(graphs.alive)}")
    most = max(graphs.alive)
    yield Measured(
        float(most), float(limits.max_graphs), f"graphs of at most {count(most, 'earlier step')} were alive at once"
    )
    if most <= limits.max_graphs:
        return
    step = graphs.alive.index(most) + 1
    what = {
        "collection": f"the collection {graphs.holder} holds tensors with a graph",
        "tensor": f"the sum {graphs.holder} is a tensor with a graph",
    }.get(graphs.holder_kind, "something holds tensors with a graph")
    yield Finding(
        message=(
            f"after {count(step, 'step')}, the autograd graphs of {count(most, 'earlier step')} are still alive: {what}"
        ),
        where=graphs.holder,
        location=graphs.location or graphs.backward_location,
        measured=float(most),
        limit=float(limits.max_graphs),
        confidence=Confidence.CONFIRMED,
        detail=tuple(_details(graphs)),
        fix=_fix(graphs),
    )


def _fix(graphs: RetainedGraphs) -> str | None:
    if graphs.holder_kind == "tensor":
        return f"Add numbers instead of tensors with a graph: `{graphs.holder} += loss.item()`."
    if graphs.holder_kind == "collection":
        return f"Keep numbers instead of tensors with a graph: `{graphs.holder}.append(loss.item())`, or detach them."
    return None


def _details(graphs: RetainedGraphs) -> list[str]:
    detail = [f"the graph of one loss has {count(graphs.nodes, 'node')}"] if graphs.nodes else []
    memory = graphs.memory
    if len(memory) > 12:
        third = len(memory) // 3
        grown = (memory[-1] - memory[third]) / (len(memory) - 1 - third) / 2**20
        kind = "resident memory" if graphs.device == "cpu" else f"memory allocated on the {graphs.device} device"
        detail.append(f"the {kind} grew by {number(max(0.0, grown))} MB a step over the last two thirds of the steps")
    return detail
