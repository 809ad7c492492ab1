"""The experiments, and the one order in which they are tried within the time budget.

1. What explains a failure that was seen already: the first value that is not finite.
2. The check that rewinding works at all. What follows rests on it.
3. Looks at the model or at single steps, a handful of steps each: do two evaluations agree, what do the modes change,
   does one sample or a later token reach an output, does the loss scale matter?
4. Whether the loop can learn: a tiny subset by heart, and with its inputs taken away.
5. What keeps it from learning, by paired replays: the rate too high, the early layers, the initial weights, what
   enters recurrent layers, the precision of the weights, divided losses, the penalty, the scale of inputs and of
   targets, the places of tokens, the order of the batches, the weights of the classes, the rate too low. Most end at
   once where nothing suspicious was observed.
6. What only measures: the noise of the batches. And what takes the most steps: learning shuffled labels, in a loop
   that has learned nothing so far.
7. What may drive the loop into divergence, or change the shape of its batches, on purpose: the sweep comes last.

Each may use a share of the time that is left when it starts. One that no selected rule asks for is not run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.probe.experiments.calmed_recurrence import calmed_recurrence
from auditor.probe.experiments.class_weighted import class_weighted
from auditor.probe.experiments.cross_sample import cross_sample
from auditor.probe.experiments.divided_accumulation import divided_accumulation
from auditor.probe.experiments.dropout_shift import dropout_shifts
from auditor.probe.experiments.from_memory import fed_from_memory, no_waiting
from auditor.probe.experiments.frozen_early import frozen_early
from auditor.probe.experiments.full_precision import full_precision
from auditor.probe.experiments.graph_cuts import graph_cuts
from auditor.probe.experiments.held_weights import held_weights
from auditor.probe.experiments.higher_rate import higher_rate
from auditor.probe.experiments.input_use import input_use
from auditor.probe.experiments.label_control import label_control
from auditor.probe.experiments.loss_scale import (
    no_scale_to_change,
    nothing_to_scale,
    scale_change,
    underflow,
)
from auditor.probe.experiments.lower_rate import lower_rate
from auditor.probe.experiments.modes import evaluation_noise, mode_effect
from auditor.probe.experiments.nonfinite import trace_nonfinite
from auditor.probe.experiments.order_control import order_control
from auditor.probe.experiments.overfit import overfit
from auditor.probe.experiments.penalty_off import penalty_off
from auditor.probe.experiments.placed_tokens import placed_tokens
from auditor.probe.experiments.rate_ahead import rate_ahead
from auditor.probe.experiments.rate_sweep import rate_sweep
from auditor.probe.experiments.reinitialized import reinitialized
from auditor.probe.experiments.repeats import step_repeats
from auditor.probe.experiments.rewind_check import rewind_check
from auditor.probe.experiments.standardized import standardized_inputs
from auditor.probe.experiments.standardized_targets import standardized_targets
from auditor.probe.experiments.token_influence import token_influence
from auditor.probe.experiments.zero_starts import zero_starts
from auditor.probe.replay import Experiment

if TYPE_CHECKING:
    from auditor.probe.probe import Probe


@dataclass
class Planned:
    """An experiment that is still to come. `part` is '' for one that only guards the others."""

    part: str
    name: str
    steps: int  # a guess, for the progress line
    share: float  # of the time that is left when it starts, at most
    start: Callable[[], Experiment]


def plan(probe: Probe) -> list[Planned]:
    """Experiments that the wanted parts ask for, in order."""
    order = [
        ("nonfinite", "trace the first non-finite value", 20, 0.5, trace_nonfinite),
        ("evaluation_noise", "evaluate one batch twice", 1, 0.3, evaluation_noise),
        ("step_repeats", "repeat the first steps", 6, 0.3, step_repeats),
        ("mode_effect", "compare the modes of the model", 40, 0.4, mode_effect),
        ("scale_change", "halve the loss scale", 2, 0.3, scale_change),
        ("underflow", "scale the loss", 16, 0.3, underflow),
        ("graph_cuts", "disturb weights without a gradient", 5, 0.3, graph_cuts),
        ("zero_starts", "start away from zero", 1, 0.3, zero_starts),
        ("cross_sample", "replace single samples", 1, 0.3, cross_sample),
        ("token_influence", "replace tokens", 1, 0.3, token_influence),
        ("dropout_shifts", "compare with and without dropout", 3, 0.3, dropout_shifts),
        ("fed_from_memory", "feed the loop from memory", 16, 0.3, fed_from_memory),
        ("overfit", "overfit a tiny subset", 120, 0.45, overfit),
        ("input_use", "learn without the inputs", 60, 0.4, input_use),
        ("lower_rate", "replay at a quarter of the rate", 120, 0.6, lower_rate),
        ("frozen_early", "freeze the early layers", 60, 0.5, frozen_early),
        ("reinitialized", "replay from other initial weights", 100, 0.6, reinitialized),
        ("calmed_recurrence", "calm recurrent layers", 480, 0.6, calmed_recurrence),
        ("full_precision", "replay with weights in float32", 960, 0.6, full_precision),
        ("divided_accumulation", "replay with divided losses", 120, 0.6, divided_accumulation),
        ("penalty_off", "replay without the weight penalty", 82, 0.6, penalty_off),
        ("standardized_inputs", "replay with standardized inputs", 40, 0.7, standardized_inputs),
        ("standardized_targets", "replay with standardized targets", 40, 0.7, standardized_targets),
        ("placed_tokens", "tell tokens their places", 480, 0.6, placed_tokens),
        ("order_control", "replay with mixed batches", 152, 0.7, order_control),
        ("class_weighted", "replay with class weights", 480, 0.6, class_weighted),
        ("higher_rate", "replay at higher rates", 120, 0.6, higher_rate),
        ("rate_ahead", "replay at the rate to come", 480, 0.6, rate_ahead),
        ("held_weights", "hold the weights", 120, 0.7, held_weights),
        ("label_control", "learn shuffled labels", 600, 0.5, label_control),
        ("rate_sweep", "sweep the learning rate", 100, 1.0, rate_sweep),
    ]

    def planned(part: str, name: str, steps: int, share: float, experiment: Callable[[Probe], Experiment]) -> Planned:
        return Planned(part, name, steps, share, lambda: experiment(probe))

    pointless = {
        "scale_change": no_scale_to_change(probe),
        "underflow": nothing_to_scale(probe),
        "fed_from_memory": no_waiting(probe),
    }
    for part, reason in pointless.items():
        if reason and probe.spec.wants(part):  # known without a step, whether or not rewinding works
            probe.sink.absent(part, "not-applicable", reason)
    chosen = [planned(*entry) for entry in order if probe.spec.wants(entry[0]) and not pointless.get(entry[0])]
    tracing = [entry for entry in chosen if entry.part == "nonfinite"]
    others = [entry for entry in chosen if entry.part != "nonfinite"]
    if not probe.saw_nonfinite():
        tracing = []
    if not others and not probe.spec.trials:
        return tracing
    return [*tracing, Planned("", "check that rewinding works", 3, 0.5, lambda: rewind_check(probe)), *others]
