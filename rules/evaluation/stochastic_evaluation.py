"""EVL103: dropout, or a draw of samples, stays on in evaluation mode: the same input gives another output each time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import Field

from auditor.declare import (
    Confidence,
    Finding,
    Judgement,
    Measured,
    NotApplicable,
    Options,
    Severity,
    rule,
)
from auditor.evidence import EvaluationNoise, Location, MeanDraw, ModelModes, Modes, RemedyKind
from auditor.paired import compare

from ..words import count, listing, number, percent

FUNCTIONS = {"scaled_dot_product_attention": "F.scaled_dot_product_attention"}


class Limits(Options):
    max_difference: float = Field(
        0.0, ge=0, description="Largest RMS difference of two evaluations of one batch, over the outputs' spread."
    )
    min_gain: float = Field(
        0.1, gt=0, lt=1, description="Share of a held-out loss that the mean of normal draws removes, for a note."
    )
    max_p_value: float = Field(0.01, gt=0, lt=1, description="Of this gain, over groups of held-out samples.")


@dataclass(frozen=True)
class _Site:
    """A dropout call that stays on in evaluation mode."""

    function: str
    module: str
    given: str
    location: Location | None
    calls: int = 0
    p: float = 0.0


@rule(
    "EVL103",
    "stochastic-evaluation",
    severity=Severity.ERROR,
    fix="""Tell the function in which mode the module is: `F.dropout(x, p, training=self.training)`, and
    `dropout_p=p if self.training else 0.0` for `F.scaled_dot_product_attention`; or use an `nn.Dropout` that is built
    in `__init__`.""",
    remedies=(RemedyKind.QUIET_EVALUATION,),
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html",
        "https://github.com/karpathy/nanoGPT/issues/240",
    ),
)
def stochastic_evaluation(modes: Modes, noise: EvaluationNoise | None, limits: Limits) -> Judgement:
    """Dropout stays on in evaluation mode: the same input gives another output each time.

    ## What it does

    Evaluates one batch twice in evaluation mode, with different random numbers, and a third time with the first ones.
    Where the outputs differ, it names the operation that draws.

    ## Why is it bad?

    `F.dropout(x, p)` drops by default, whatever the mode of the module: its `training` argument is True. So does
    attention with a constant `dropout_p`, and an `nn.Dropout` that is made anew in the forward. `model.eval()` does not
    reach them. Every evaluation and every prediction in production is made by a randomly damaged model.

    ## How it is measured

    By experiment and by identity. The experiment fails when two evaluations differ by more than `max-difference` while
    the random numbers differ, and are equal bit for bit while they do not, and a dropout operation is what draws. The
    identity is a call of a dropout function, by a module that was in evaluation mode, which dropped all the same.

    Where normal noise is drawn instead, and the script works out a loss function on held-out data from the outputs, the
    model is trained for some steps and that loss is worked out again, of single draws and with the mean of what is
    drawn in their place. A gain of at least `min-gain`, at `max-p-value`, is a note.

    ## When it may be wrong

    - Models that draw noise or samples (variational autoencoders, diffusion, noise layers) are stochastic by design;
      they pass, and the text names the operation. Those that are to give back what they are given are not measured.
      What is drawn on purpose, for an estimate over many draws, may be noted all the same.
    - Dropout by hand, stochastic depth for example, is known by its arithmetic: a mask that is drawn with a constant
      share, times states that are divided by this share. It is a warning, because it may be left on on purpose.
    - Dropout that is on on purpose passes: `training=True` written out, a model whose dropout layers are switched
      on one by one, or several passes over the same input (Monte Carlo dropout).
    - A `training` given by an expression that was true in evaluation mode is a warning, because it may be a switch.
    - If the script never evaluates, the finding is a warning.

    ## How to fix

    ```python
    class Attention(nn.Module):
        def forward(self, q, k, v):
            weights = F.dropout(F.softmax(q @ k.transpose(-2, -1), dim=-1), 0.1, training=self.training)
            return weights @ v
    ```
    """
    sites = _sites(modes, noise)
    experiment = noise is not None and noise.repeats and noise.difference > limits.max_difference
    if noise is not None:
        drawn = listing([draw.operation for draw in noise.draws], 3) if noise.difference else ""
        yield Measured(
            noise.difference,
            limits.max_difference,
            f"two evaluations of one batch differ by {percent(noise.difference)} of the outputs' spread"
            + (f"; {drawn} draw{'s' if len(noise.draws) == 1 else ''} random numbers" if drawn else ""),
        )
    elif modes.dropout_calls:
        worst = max(modes.dropout_calls, key=lambda call: call.active)
        yield Measured(worst.active, 0, f"{worst.active} of {count(worst.calls, 'dropout call')} dropped in evaluation")
    elif not any(model.evaluation_forwards for model in modes.models):
        raise NotApplicable("no evaluation was seen, and the loop cannot be replayed to make one")
    else:
        yield Measured(0, 0, "no dropout function dropped elements in evaluation mode")
    if _monte_carlo(modes.models):
        return
    for site in sites:
        if site.given in ("literal", ""):
            continue
        if noise is not None and not experiment and noise.difference <= limits.max_difference:
            continue  # it was called, and changed nothing
        yield _finding(site, modes, noise, limits)
    if noise is not None and noise.mean_draw is not None:
        yield from _noted(noise, noise.mean_draw, limits)


def _noted(noise: EvaluationNoise, measured: MeanDraw, limits: Limits) -> Iterator[Finding]:
    seen = compare(measured.groups, whole=True)
    gain = 1 - measured.mean / measured.drawn if measured.drawn > 0 else 0.0
    if min(gain, seen.gain) < limits.min_gain or seen.p_value > limits.max_p_value:
        return
    draw = noise.draws[0]
    yield Finding(
        message=(
            f"{draw.module or 'the model'} draws samples in evaluation mode ({draw.operation}): after "
            f"{count(measured.steps, 'step')}, the held-out loss is {number(measured.drawn)}, and "
            f"{number(measured.mean)} with the mean of what it draws, {percent(gain)} less"
        ),
        where=draw.module,
        location=draw.location,
        measured=gain,
        limit=limits.min_gain,
        severity=Severity.NOTE,
        confidence=Confidence.SUSPECTED,
        detail=(
            f"of {count(measured.samples, 'held-out sample')}; {percent(noise.difference)} of the outputs' spread lie "
            "between two evaluations of one batch",
        ),
        fix="Draw in training alone: `return mu if not self.training else mu + torch.randn_like(mu) * std`; or "
        "average the predictions over several draws.",
    )


def _sites(modes: Modes, noise: EvaluationNoise | None) -> list[_Site]:
    """Of the evaluations that the script made, and of the one that the audit made."""
    found: dict[tuple[str, int], _Site] = {}
    for call in modes.dropout_calls:
        if call.active > 0:
            site = _Site(call.function, call.module, call.given, call.location, call.active, call.p)
            found[_key(site)] = site
    for draw in noise.draws if noise is not None else ():
        if draw.dropout:
            site = _Site(draw.operation, draw.module, draw.given, draw.location)
            found.setdefault(_key(site), site)
    return list(found.values())


def _key(site: _Site) -> tuple[str, int]:
    return (site.location.file, site.location.line) if site.location else (site.module, 0)


def _monte_carlo(models: tuple[ModelModes, ...]) -> bool:
    return any(model.repeated_evaluations > 0 for model in models)


def _finding(site: _Site, modes: Modes, noise: EvaluationNoise | None, limits: Limits) -> Finding:
    function = FUNCTIONS.get(site.function, f"F.{site.function}")
    evaluated = any(model.evaluation_forwards for model in modes.models)
    why = {
        "default": f"{function} is called without training=self.training",
        "expression": f"{function} is called with a `training` that is true in evaluation mode",
        "rate": f"{function} is called with a dropout_p that does not depend on the mode",
        "mask": f"{site.module or 'the model'} draws a mask of its own whatever the mode, without self.training",
        "module": "a Dropout module is made anew in the forward, and a new module is in training mode",
    }[site.given]
    told = ""
    if noise is not None and noise.difference > 0:
        told = f": two evaluations of one batch differ by {percent(noise.difference)} of the outputs' spread"
    elif site.calls:
        told = f": it dropped elements in {count(site.calls, 'call')}"
    detail = []
    if site.p > 0:
        detail.append(f"it drops a share of {number(site.p)}")
    if site.calls:
        detail.append(f"seen in the script's own evaluation, {count(site.calls, 'call')}")
    if not evaluated:
        detail.append("the script made no evaluation in the observed steps")
    sure = site.given not in ("expression", "mask") and evaluated
    return Finding(
        message=f"dropout stays on in evaluation mode, because {why}{told}",
        where=site.module,
        location=site.location,
        measured=noise.difference if noise is not None else float(site.calls),
        limit=limits.max_difference,
        severity=Severity.ERROR if sure else Severity.WARNING,
        confidence=Confidence.CONFIRMED if sure else Confidence.SUSPECTED,
        detail=tuple(detail),
    )
