"""MOD106: a module's own train() or eval() takes the place of the one that switches modes."""

from __future__ import annotations

from auditor.declare import Confidence, Finding, Judgement, Measured, NotApplicable, Severity, rule
from auditor.evidence import OwnTrainMethod, Program, RemedyKind, Source


@rule(
    "MOD106",
    "shadowed-train-method",
    severity=Severity.ERROR,
    explains=("train-mode-in-evaluation", "stochastic-evaluation"),
    fix="Give the method another name, so that `train` stays what switches modes: `def fit(self, x, y): ...`.",
    remedies=(RemedyKind.EVALUATION_MODE,),
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.train",
        "https://docs.pytorch.org/docs/stable/notes/autograd.html#evaluation-mode-nn-module-eval",
    ),
)
def shadowed_train_method(source: Source, program: Program | None) -> Judgement:
    """A method called train or eval hides the one that switches the module's mode.

    ## What it does

    Reads the source for subclasses of `nn.Module` that define `train` or `eval` so that `train()`, `train(False)` or
    `eval()` can no longer be called on them, or no longer set the mode.

    ## Why is it bad?

    `model.eval()` is `model.train(False)`. With a method `train(self, x, y)` in the way, it raises, or starts to
    train on `False`, so nobody calls it: dropout and batch normalization stay in training mode when the model is
    tested, and the scores are those of a damaged network. A parent module that switches its children calls the same
    method.

    ## How it is measured

    From the source alone, by identity: the method's parameters do not allow the calls above, or its body neither calls
    `train` or `eval` of anything nor touches `training`. When the script was run, a class that no trained model
    contains is left out.

    ## When it may be wrong

    - Overriding `train(self, mode=True)` to keep parts frozen, and calling `super().train(mode)`, passes.
    - A class that only looks like a module by its name is not taken for one: its bases have to lead to `nn.Module`.
    - A base class from another library that has a `train` of its own by design is not known here.

    ## How to fix

    ```python
    class Net(nn.Module):
        def fit(self, x, y):
            self.train()
            ...
    ```
    """
    if not any(file.problem == "" for file in source.files):
        raise NotApplicable("there is no source that could be read")
    used = [method for method in source.train_methods if _is_used(method, program)]
    yield Measured(float(len(used)), 0.0, "no nn.Module has a train() or eval() of its own that hides the usual one")
    for method in used:
        call = "train(False)" if method.name == "train" else "eval()"
        yield Finding(
            message=(
                f"{method.owner}.{method.name}{method.signature} hides nn.Module.{method.name}: {call} no longer "
                "switches the mode of dropout and normalization"
            ),
            where=method.owner,
            location=method.location,
            measured=1.0,
            limit=0.0,
            confidence=Confidence.CONFIRMED,
        )


def _is_used(method: OwnTrainMethod, program: Program | None) -> bool:
    """What was run tells better than what was read."""
    return program is None or not program.module_kinds or method.owner in program.module_kinds
