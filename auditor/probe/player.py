"""The player: one replay in progress. It rewinds, intervenes in the user's steps, and writes down their trail."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from auditor.probe.batches import map_tensors
from auditor.probe.callchange import ChangedCalls
from auditor.probe.examination import Examination
from auditor.probe.experiments.nonfinite import backward_with_check, set_anomaly_mode
from auditor.probe.experiments.outputs import accuracy, spread
from auditor.probe.feed import Feeding
from auditor.probe.losscall import LossCall
from auditor.probe.lossgraph import summed_beside_mean
from auditor.probe.lossscale import loss_scaled
from auditor.probe.modal import frozen
from auditor.probe.operations import FiniteCheck
from auditor.probe.penalties import without_penalties
from auditor.probe.randomness import RandomState, reseed
from auditor.probe.replay import Replay, Trail
from auditor.probe.steps import StepSeen, fetch

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

FETCH_EVERY = 10  # steps, on a device: each fetch waits for it


class Player:
    """Lives from `start` until `step_ended` returns the trail."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.request: Replay | None = None
        self.replayed = 0
        self._trail = Trail()
        self._limit = 0
        self._settling = 0
        self._losses: list[torch.Tensor | None] = []
        self._accuracies: dict[int, torch.Tensor] = {}
        self._spreads: dict[int, torch.Tensor] = {}
        self._balanced: dict[int, torch.Tensor] = {}
        self._data_losses: dict[int, torch.Tensor] = {}
        self._measured: dict[int, torch.Tensor] = {}
        self._loss_nodes: set[Any] = set()  # of the step at hand, where they are asked for
        self._class_weights: torch.Tensor | None = None
        self._check: FiniteCheck | None = None
        self._checking = False
        self._changed_groups: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._silenced: list[tuple[Any, float]] = []
        self._modes: list[tuple[torch.nn.Module, bool]] = []
        self._hook: Any = None
        self._calls: ChangedCalls | None = None

    # ------------------------------------------------------------------------------------------------ from start to end

    def start(self, request: Replay, limit: int) -> None:
        """Serve recorded data from now on. A loop that fetches ahead still holds old batches: it takes that many
        steps, which do not count, before the rewind."""
        feed = self._probe.feed
        self.request, self._limit, self.replayed = request, limit, 0
        self._trail = Trail(asked=request.steps, fewest=request.fewest)
        self._forget()
        self._class_weights = self._probe.class_weights()
        self._check = FiniteCheck(self._probe) if request.check_operations else None
        self._probe.dropout_off = not request.dropout
        feeding = Feeding(request.order, request.samples, request.pinned, request.batch_change)
        self._settling = feed.start_replay(feeding)
        if not request.dropout:
            self._silence_recurrent_dropout()
        if self._settling == 0:
            self._rewind()

    def _forget(self) -> None:
        self._losses, self._accuracies, self._spreads = [], {}, {}
        self._balanced, self._data_losses, self._measured = {}, {}, {}

    def _rewind(self) -> None:
        assert self._probe.initial is not None
        self._forget()  # steps that do not count leave figures too
        self._probe.initial.restore()
        if self.request is not None and self.request.prepare is not None:
            self.request.prepare()
        self._change_layer()
        self._change_calls()
        self._clear_gradients()
        self._set_boundary_noise()
        if self._check is not None:
            self._checking = True
            set_anomaly_mode(True)  # from the forward on, so that backward can tell the forward's line
            self._check.__enter__()  # type: ignore[no-untyped-call]  # whole steps: a loss may lie outside all modules

    def _change_layer(self) -> None:
        """A model that prepares its input itself would undo a change of it, or make another one of it."""
        request = self.request
        if request is None or request.changed_layer is None or request.input_change is None:
            return
        change = request.input_change

        def changed(_layer: torch.nn.Module, args: tuple[Any, ...]) -> Any:
            plain = args and isinstance(args[0], torch.Tensor) and not args[0].requires_grad
            return (change(args[0]), *args[1:]) if plain else None

        self._hook = request.changed_layer.register_forward_pre_hook(changed)

    def _change_calls(self) -> None:
        if self.request is not None and self.request.calls is not None:
            self._calls = ChangedCalls(self.request.calls, self._probe)
            self._calls.__enter__()  # type: ignore[no-untyped-call]

    @property
    def holds_zero_grad(self) -> bool:
        """The script's own calls that clear gradients are to do nothing."""
        return self.request is not None and self.request.zero_gradients and self._settling == 0

    def _clear_gradients(self) -> None:
        if self.holds_zero_grad:
            for parameter in self._probe.program.trained_parameters():
                if parameter.grad is not None:
                    parameter.grad.data.zero_()

    def step_ended(self, step: StepSeen, affordable: int) -> Trail | None:
        """The trail, when the replay is over."""
        request = self.request
        if request is None:
            return None
        if self._settling > 0:
            self._settling -= 1
            if self._settling == 0:
                self._rewind()
            return None
        self._losses.append(step.loss())
        figure = request.read() if request.read is not None else None
        if figure is not None:
            self._measured[self.replayed] = figure
        self._loss_nodes = set()
        self.replayed += 1
        last = self.replayed >= self._limit or affordable < 1
        if (
            last
            or self._losses[-1] is None
            or self._losses[-1].device.type == "cpu"
            or self.replayed % FETCH_EVERY == 0
        ):
            self._fetch()
            found = self._check is not None and bool(self._check.operation)
            stopped = found or (request.stop is not None and request.stop(self._trail.losses))
            if stopped or last:
                whole = stopped or self.replayed >= request.steps
                return self._finish("stopped" if stopped else ("completed" if whole else "time"))
        self._clear_gradients()
        self._set_boundary_noise()
        return None

    def script_ended(self) -> Trail:
        self._fetch()
        return self._finish("script-ended")

    def _fetch(self) -> None:
        """What the steps since the last time have left on the device, with one synchronisation."""
        trail = self._trail
        kept = (self._accuracies, self._spreads, self._balanced, self._measured, self._data_losses)
        series = (trail.losses, trail.accuracies, trail.spreads, trail.balanced, trail.measured, trail.data_losses)
        new = range(len(trail.losses), self.replayed)
        values = fetch([*self._losses[new.start :], *(each.get(index) for each in kept for index in new)])
        for number, fetched in enumerate(series):
            fetched.extend(values[number * len(new) : (number + 1) * len(new)])

    def _finish(self, ended: Any) -> Trail:
        self._probe.dropout_off = False
        for module, value in self._silenced:
            module.dropout = value
        self._silenced = []
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        if self._calls is not None:
            self._calls.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._calls = None
        if self.request is not None and self.request.undo is not None:
            self.request.undo()
        self.reset_mode()
        if self._check is not None and self._checking:
            self._checking = False
            self._check.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            set_anomaly_mode(False)
        self._trail.ended = ended
        self._trail.check = self._check
        self.request = None
        return self._trail

    # ------------------------------------------------------------------------------------------------ random numbers

    def first_forward(self) -> None:
        """Of a step in a loop without loader: the random numbers that the recorded step had there."""
        states = self._probe.forward_states
        if self.request is not None and states and not self._probe.feed.has_loader:
            self.set_noise(states[self.request.order(self.replayed) % len(states)], self.replayed)

    def set_noise(self, recorded: RandomState, position: int) -> None:
        """The random numbers for what the loop does next: the recorded ones, or the seed's own."""
        request = self.request
        if request is None:
            return
        if request.seed is None:
            recorded.restore()
        else:
            reseed(request.seed + position)

    def _set_boundary_noise(self) -> None:
        """A loop without loader draws its next batch from the random numbers in force now."""
        states = self._probe.boundary_states
        if self.request is None or not states or self._probe.feed.has_loader:
            return
        recorded = self.request.order(self.replayed) - 1
        if recorded >= 0:
            states[recorded % len(states)].restore()

    # --------------------------------------------------------------------------------------- interventions in a step

    def change_inputs(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        change = self.request.input_change if self.request is not None else None
        if self.request is not None and self.request.call_change is not None:
            args, kwargs = self.request.call_change(args, kwargs)
        if change is None or (self.request is not None and self.request.changed_layer is not None):
            return args, kwargs

        def changed(tensor: torch.Tensor) -> torch.Tensor:
            return tensor if tensor.requires_grad else change(tensor)

        return map_tensors(args, changed), map_tensors(kwargs, changed)

    def set_mode(self, module: torch.nn.Module) -> None:
        """For one training forward; the flags are as before after it. Without a request it is the mode of the recorded
        step: what the loop forgot to switch back, at its evaluations then or later, would stay switched in a replay."""
        self.reset_mode()
        request, recorded = self.request, self._probe.trained_modes
        if request is None or self._settling > 0:
            return
        if request.mode is not None:
            wanted = request.mode(self.replayed)
        elif len(set(recorded.values())) > 1 or id(module) in self._probe.trained_roots:
            wanted = recorded.get(request.order(self.replayed), module.training)
        else:
            return
        if request.mode is None and wanted == module.training:
            return
        for each in module.modules():
            if not frozen(each):
                self._modes.append((each, each.training))
                each.training = wanted

    def reset_mode(self) -> None:
        for module, training in self._modes:
            module.training = training
        self._modes = []

    def change_target(self, target: Any, in_model: bool) -> Any:
        change = self.request.target_change if self.request is not None else None
        if change is None or in_model or not isinstance(target, torch.Tensor) or target.requires_grad:
            return target
        return change(target)

    def examine(self, module: torch.nn.Module, args: Any, kwargs: Any, first: bool) -> None:
        """At the first training forward of a step, or at each. What the user's model raises ends the examination, not
        the loop."""
        request = self.request
        if request is None or request.examine is None or self._settling > 0 or self._trail.trouble:
            return
        if not first and not request.examine_each:
            return
        try:
            request.examine(Examination(module, args, kwargs), self.replayed)
        except Exception as error:
            self._trail.trouble = f"{type(error).__name__}: {str(error)[:200]}"

    def follows_modules(self) -> bool:
        """Whether the replay wants to know which module is running."""
        return self.request is not None and (self._check is not None or self.request.calls is not None)

    def run_backward(self, original: Callable[[], None], roots: tuple[torch.Tensor, ...]) -> None:
        if self._check is not None:
            backward_with_check(original, self._check)
            return
        request = self.request
        if request is not None and self._settling == 0 and not (request.penalty and request.auxiliary):
            if not request.auxiliary:
                ends = [root.grad_fn for root in roots if root.grad_fn is not None]
                self._trail.summed = max([self._trail.summed, *map(summed_beside_mean, ends)])
            with without_penalties(roots, self._trail.penalties, None if request.auxiliary else self._loss_nodes):
                original()
            return
        if request is None or self._settling > 0 or (request.loss_scale == 1 and request.after_backward is None):
            original()
            return
        with self._probe.paused():
            parameters = self._probe.program.trained_parameters()
        with loss_scaled(request.loss_scale, roots, parameters):
            original()
            if request.after_backward is not None:
                with self._probe.paused():
                    request.after_backward(self.replayed, parameters)

    def clip_begins(self, kind: str, limit: float) -> bool:
        """Whether the call is to do nothing."""
        if self.request is None or self._settling > 0:
            return False
        self._trail.clip_limits.append(limit)
        if self.request.instead_of_clipping is None or kind != "norm":
            return False
        self.request.instead_of_clipping(limit)
        return True

    def loss_called(self, call: LossCall) -> None:
        """Kept on the device, fetched between steps."""
        if self.request is not None and self.request.hear_loss is not None and self._settling == 0:
            self.request.hear_loss(call, self.replayed)
        figure = self.request.measure(call) if self.request is not None and self.request.measure is not None else None
        if figure is not None:
            self._measured[self.replayed] = figure
        if self.request is not None and not self.request.auxiliary and call.result.grad_fn is not None:
            self._loss_nodes.add(call.result.grad_fn)
        right, apart = accuracy(call), spread(call)
        if right is not None:
            self._accuracies[self.replayed] = right
            balanced = accuracy(call, self._class_weights) if self._class_weights is not None else None
            if balanced is not None:
                self._balanced[self.replayed] = balanced
        own, before = call.result.detach().float().sum(), self._data_losses.get(self.replayed)
        self._data_losses[self.replayed] = own if before is None else before + own
        if apart is not None:
            self._spreads[self.replayed] = apart

    def update_begins(self, optimizer: torch.optim.Optimizer) -> None:
        request = self.request
        if request is None or self._settling > 0:
            return
        if request.at_update is not None:
            request.at_update(self.replayed, self._probe.program.seen(optimizer).parameters)
        factor = request.rate(self.replayed)
        for index, group in enumerate(optimizer.param_groups):
            recorded = self._recorded_options(optimizer, index, request)
            self._changed_groups.append((group, {key: group[key] for key in recorded}))
            group.update(recorded)
            if "lr" in group:
                group["lr"] = _scaled(recorded["lr"], factor)
            if not request.weight_decay and "weight_decay" in group:
                group["weight_decay"] = _scaled(recorded["weight_decay"], 0.0)
        if len(self._trail.rates) <= self.replayed:
            self._trail.rates.append(float(optimizer.param_groups[0].get("lr", float("nan"))))

    def _recorded_options(self, optimizer: torch.optim.Optimizer, group: int, request: Replay) -> dict[str, Any]:
        """Hyper-parameters that a factor of 1 means: as recorded at that step (schedules change more than the rate), or
        those of the step with the highest rate."""
        recorded = self._probe.recorded_groups.get((id(optimizer), group), [])
        if not recorded:
            return {key: value for key, value in optimizer.param_groups[group].items() if key != "params"}
        if request.peak_rate:
            return max(recorded, key=lambda options: float(options.get("lr", 0.0)))
        return recorded[min(self.replayed, len(recorded) - 1)]

    def update_ended(self) -> None:
        for group, kept in self._changed_groups:
            group.update(kept)
        self._changed_groups = []

    def _silence_recurrent_dropout(self) -> None:
        """Dropout inside nn.LSTM and friends happens in native code: their attribute is the only handle."""
        for _, model in self._probe.program.models():
            for module in model.modules():
                if isinstance(module, torch.nn.RNNBase) and module.dropout > 0:
                    self._silenced.append((module, module.dropout))
                    module.dropout = 0.0


def _scaled(value: Any, factor: float) -> Any:
    """Rates held in tensors (capturable optimizers) stay tensors."""
    return value * factor if isinstance(value, torch.Tensor) else float(value) * factor
