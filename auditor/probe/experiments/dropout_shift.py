"""The input of every batch norm in a training forward, with dropout and without it, everything else the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from auditor.evidence import DropoutShift, DropoutShifts, Location
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.locate import user_location
from auditor.probe.operations import short_name
from auditor.probe.replay import Experiment, NotRun, Replay

if TYPE_CHECKING:
    from auditor.probe.examination import Examination
    from auditor.probe.probe import Probe

STEPS = 3  # before the model is looked at
REPEATS = 4
DROPOUTS = frozenset(
    f"{kind}dropout{suffix}"
    for kind in ("", "alpha_", "feature_", "feature_alpha_")
    for suffix in ("", "1d", "2d", "3d")
)


def dropout_shifts(probe: Probe) -> Experiment:
    norms = [
        module
        for _, model in probe.program.models()
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.training and module.running_mean is not None
    ]
    if not norms:
        raise NotRun("no batch norm is in training mode", "not-applicable")
    require_rewindable(probe)
    found: list[DropoutShifts] = []

    def look(examination: Examination, step: int) -> None:
        if step == STEPS - 1:
            found.append(_examine(probe, examination, norms))

    trail = yield Replay(steps=STEPS, label="with and without dropout", order=order(probe), examine=look)
    if trail.trouble:
        raise NotRun(f"the model could not be called on the side: {trail.trouble}")
    if not found:
        trail.require(STEPS)
        raise NotRun("the model was not called in the replayed steps")
    if not found[0].dropouts:
        raise NotRun("no dropout is active in the training forward", "not-applicable")
    return found[0]


class _Dropouts(TorchFunctionMode):
    """Notes the dropouts of a forward; with `off` they hand their input through."""

    def __init__(self, off: bool) -> None:
        super().__init__()
        self._off = off
        self.latest: tuple[Location | None, float] | None = None
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if short_name(func) in DROPOUTS:
            share = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
            training = kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else True))
            if training and share:
                self.calls += 1
                self.latest = (user_location(), float(share))
                if self._off:
                    return args[0] if args else kwargs["input"]
        return func(*args, **kwargs)


class _Variances:
    """Mean over channels of the variance of what every norm gets, and the dropout that came last before it."""

    def __init__(self, norms: list[nn.Module], mode: _Dropouts) -> None:
        self._mode = mode
        self.of: dict[int, float] = {}
        self.after: dict[int, tuple[Location | None, float] | None] = {}
        self._handles = [norm.register_forward_pre_hook(self._note) for norm in norms]

    def _note(self, norm: nn.Module, args: Any) -> None:
        given = args[0].detach().float()
        flat = given.movedim(1, 0).flatten(1)
        if id(norm) not in self.of and flat.shape[1] > 1:
            self.of[id(norm)] = float(flat.var(1).mean())
            self.after[id(norm)] = self._mode.latest

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()


def _examine(probe: Probe, examination: Examination, norms: list[_BatchNorm]) -> DropoutShifts:
    inside = {id(module) for module in examination.module.modules()}
    watched: list[nn.Module] = [norm for norm in norms if id(norm) in inside]
    sums: dict[int, list[float]] = {}
    after: dict[int, tuple[Location | None, float] | None] = {}
    calls = 0
    for repeat in range(REPEATS):
        pair = []
        for off in (False, True):
            mode = _Dropouts(off)
            variances = _Variances(watched, mode)
            try:
                with mode:
                    examination.outputs(training=True, seed=repeat + 1)
            finally:
                variances.close()
            pair.append(variances.of)
            calls = max(calls, mode.calls)
            after = after or variances.after
        for key in pair[0].keys() & pair[1].keys():
            held = sums.setdefault(key, [0.0, 0.0])
            held[0] += pair[0][key]
            held[1] += pair[1][key]
    names = probe.program.module_names()
    layers = []
    for norm in watched:
        total = sums.get(id(norm))
        before = after.get(id(norm))
        if total is None or before is None or not total[1] > 0:
            continue
        layers.append(
            DropoutShift(
                norm=names.get(id(norm), type(norm).__name__),
                p=before[1],
                ratio=total[0] / total[1],
                location=probe.program.location_of(norm),
                dropout_location=before[0],
            )
        )
    return DropoutShifts(
        samples=_rows(examination), dropouts=calls, norms=len(watched), repeats=REPEATS, layers=tuple(layers)
    )


def _rows(examination: Examination) -> int:
    from auditor.probe.batches import tensors

    return next((t.shape[0] for t in tensors((examination.args, examination.kwargs)) if t.dim()), 0)
