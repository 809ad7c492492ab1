"""What a remedy does, in words."""

from __future__ import annotations

from collections.abc import Iterable

from auditor.evidence import Remedy, RemedyKind

_WORDS = {
    RemedyKind.RATE: "the learning rate times {amount}",
    RemedyKind.WARM_UP: "a warm-up over {amount} steps",
    RemedyKind.CLIP: "gradients clipped at a norm of {amount}",
    RemedyKind.STANDARDIZE_INPUTS: "standardized inputs",
    RemedyKind.CLEAN_INPUTS: "finite values for those that are not",
    RemedyKind.STANDARDIZE_TARGETS: "standardized targets",
    RemedyKind.REINITIALIZE: "weights drawn anew{layers}",
    RemedyKind.LEAKY_UNITS: "leaky ReLU",
    RemedyKind.CLASS_WEIGHTS: "class weights",
    RemedyKind.LEAVE_OUT: "without the {subject}",
    RemedyKind.SIGMOID: "a sigmoid instead of the softmax",
    RemedyKind.SOFTMAX_AXIS: "the softmax along axis {amount}",
    RemedyKind.LOG_PROBABILITIES: "the input in the form that the loss needs",
    RemedyKind.GUARD: "{subject} kept away from its bad point",
    RemedyKind.MATCH_SHAPES: "targets in the shape of the predictions",
    RemedyKind.ADD_PARAMETERS: "all parameters in the optimizer",
    RemedyKind.HOLD_RATE: "the learning rate held at its highest",
    RemedyKind.STEP_SCHEDULE: "the schedule stepped at every update",
    RemedyKind.DIVIDE_LOSS: "the loss divided by {amount}",
    RemedyKind.ZERO_GRADIENTS: "gradients zeroed once an update",
    RemedyKind.TRAINING_MODE: "the model in training mode",
    RemedyKind.SHUFFLE: "shuffled samples",
    RemedyKind.EVALUATION_MODE: "the model in evaluation mode while it is evaluated",
    RemedyKind.QUIET_EVALUATION: "no dropout in evaluation mode",
    RemedyKind.CAUSAL_MASK: "a causal mask",
    RemedyKind.PADDING_MASK: "padding masked in attention and pooling",
    RemedyKind.IGNORE_LABELS: "labels of {amount} left out of the loss",
    RemedyKind.IGNORE_PADDING: "padding left out of the loss",
    RemedyKind.SHIFT_LABELS: "labels shifted to the next token",
    RemedyKind.REPAIR_LABELS: "labels between 0 and 1",
    RemedyKind.KEEP_GRAPH: "the graph kept where it is cut",
    RemedyKind.CLIP_UNSCALED: "gradients clipped after their unscaling",
    RemedyKind.NONLINEARITY: "a ReLU{layers}",
    RemedyKind.FULL_PRECISION: "weights in float32",
    RemedyKind.SCALE_LOSS: "the loss scaled by {amount} for its backward",
    RemedyKind.ONE_SCALE: "a loss scale of 1",
    RemedyKind.TIE_WEIGHTS: "one weight{layers}",
    RemedyKind.NO_DROPOUT: "without dropout",
    RemedyKind.NO_PENALTY: "without weight decay and penalties",
    RemedyKind.NO_AUXILIARY: "without the terms beside the loss function",
    RemedyKind.PAIRED_METRIC: "the metric in pairs",
    RemedyKind.BATCH_FIRST: "layers that take the batch first",
    RemedyKind.SWAP_AXES: "axes transposed where they are viewed in another order",
    RemedyKind.OWN_DERIVATIVE: "the derivative of its forward for {subject}",
    RemedyKind.GROUP_NORM: "group norm instead of batch norm",
    RemedyKind.NO_SINGLE_NORMS: "without the norms over a single value",
    RemedyKind.LEARN_LAYERS: "trained weights{layers}",
    RemedyKind.FROZEN_NORMS: "frozen norms in evaluation mode",
    RemedyKind.DROP_KNOWN: "without the samples of {subject} that are training samples",
    RemedyKind.DROP_TWINS: "without the samples of {subject} that have a twin in training",
    RemedyKind.DROP_GROUPS: "without the samples of {subject} whose group is in training",
    RemedyKind.RELU_UNITS: "ReLU instead of the bounded activations between layers",
}


_UNSPECIFIED = {
    RemedyKind.RATE: "another learning rate",
    RemedyKind.WARM_UP: "a warm-up",
    RemedyKind.CLIP: "clipped gradients",
    RemedyKind.DIVIDE_LOSS: "a divided loss",
    RemedyKind.SCALE_LOSS: "a scaled loss",
    RemedyKind.IGNORE_LABELS: "labels of padding left out of the loss",
    RemedyKind.SOFTMAX_AXIS: "the softmax along another axis",
    RemedyKind.LEAVE_OUT: "without the call",
    RemedyKind.GUARD: "the operation kept away from its bad point",
    RemedyKind.OWN_DERIVATIVE: "the derivative of its forward for the function",
    RemedyKind.DROP_KNOWN: "without the held-out samples that are training samples",
    RemedyKind.DROP_TWINS: "without the held-out samples that have a twin in training",
    RemedyKind.DROP_GROUPS: "without the held-out samples whose group is in training",
}


def describe(remedies: Iterable[Remedy], base: Iterable[Remedy] = ()) -> str:
    """'the learning rate times 0.25 and class weights, on top of standardized inputs'."""
    words = " and ".join(map(_words, remedies))
    return f"{words}, on top of {under}" if (under := describe(base) if base else "") else words


def _words(remedy: Remedy) -> str:
    if remedy.kind in _UNSPECIFIED and remedy.amount is None and not remedy.subject:
        return _UNSPECIFIED[remedy.kind]
    return _WORDS[remedy.kind].format(
        amount=f"{remedy.amount:g}" if remedy.amount is not None else "",
        layers=f" in {', '.join(remedy.layers)}" if remedy.layers else "",
        subject=remedy.subject,
    )
