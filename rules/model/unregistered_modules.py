"""MOD101: layers in a plain list or dict, which the optimizer never gets to see."""

from __future__ import annotations

from auditor.declare import Confidence, Finding, Inconclusive, Judgement, Measured, NotApplicable, Severity, rule
from auditor.evidence import HiddenModule, HiddenModules, Remedy, RemedyKind

from ..symptoms import NOT_LEARNING
from ..words import count, listing, percent


@rule(
    "MOD101",
    "unregistered-modules",
    severity=Severity.ERROR,
    explains=NOT_LEARNING,
    fix="""Keep the layers in a container that registers them: `self.blocks = nn.ModuleList(blocks)`, `nn.ModuleDict` or
    `nn.ParameterList`, before the optimizer is built.""",
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.ModuleList.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.ModuleDict.html",
    ),
    remedies=(RemedyKind.ADD_PARAMETERS,),
)
def unregistered_modules(hidden: HiddenModules) -> Judgement:
    """Layers are kept in a plain list, dict or object, so the optimizer never gets to see them.

    ## What it does

    Walks the attributes of every module of the trained models and looks for layers and parameters in lists, tuples,
    dicts and objects of your own classes that `named_parameters()` does not name, and for plain tensors that require a
    gradient without being parameters.

    ## Why is it bad?

    `model.parameters()` goes through registered modules only. What lies in a plain list keeps the random weights that
    it was built with: it is not trained, not saved with `state_dict()`, not moved by `.to(device)`, not switched by
    `eval()`. Training runs, and the result is worse than the model could be, without a word of warning.

    ## How it is measured

    By identity. An attribute fails when its weights require a gradient, *got* one from a backward pass of the training
    loop, are held by no optimizer, and did not change during the observed steps. So they take part in the forward pass
    and in the gradient, and still never learn.

    ## When it may be wrong

    - A teacher, a loss network or a moving average that is hidden on purpose (`self.teacher = [teacher]`) passes when
      it runs without gradients, is in evaluation mode, had weights loaded into it, or is updated by hand.
    - A discriminator that a generator refers to passes: another optimizer holds it. So do lists of layers that are
      registered a second time elsewhere.
    - A fixed filter bank passes with `requires_grad_(False)`, which also saves its gradients. Without it, it is
      reported.

    ## How to fix

    ```python
    self.blocks = nn.ModuleList([Block(width) for _ in range(depth)])
    self.heads = nn.ModuleDict({task: nn.Linear(width, n) for task, n in tasks.items()})
    optimizer = torch.optim.Adam(model.parameters())   # built afterwards
    ```
    """
    if hidden.steps < 1:
        raise Inconclusive("needs 1 step with gradients, saw none")
    if not hidden.found and not hidden.registered:
        raise NotApplicable("the trained models have no parameters of their own")
    lost = [each for each in hidden.found if _is_lost(each)]
    elements = sum(each.parameters for each in lost)
    seen = sum(each.parameters for each in hidden.found)
    text = f"{count(seen, 'trainable weight')} outside named_parameters(), {elements or 'none'} of them untrained"
    yield Measured(float(elements), 0.0, text if hidden.found else "every layer is registered")
    for each in lost:
        yield _finding(each, hidden)


def _is_lost(each: HiddenModule) -> bool:
    used = each.parameters > 0 and each.reached > 0
    meant = each.optimized or each.moved or each.loaded or not each.training
    return used and not meant


def _finding(each: HiddenModule, hidden: HiddenModules) -> Finding:
    what = f"{count(each.modules, 'layer')} ({listing(each.kinds, 3)})" if each.modules else "parameters"
    whole = each.parameters + max(hidden.registered, 0)
    share = f", {percent(each.parameters / whole)} of the model" if whole else ""
    place = "is" if each.container == "Tensor" else f"keeps {what} with"
    return Finding(
        message=(
            f"{each.holder} {place} {count(each.parameters, 'weight')}{share} in a plain "
            f"{each.container}: they get gradients, but no optimizer holds them and they never change"
        ),
        where=each.holder,
        location=each.location,
        measured=float(each.parameters),
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        detail=(
            f"a gradient had arrived in them at {each.reached} of {count(hidden.steps, 'watched step')}",
            "model.parameters(), state_dict(), to(device) and eval() do not reach them either",
        ),
        remedies=(Remedy(kind=RemedyKind.ADD_PARAMETERS, subject=each.holder, site=each.location),),
    )
