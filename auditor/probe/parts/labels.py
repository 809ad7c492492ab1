"""Class labels as the loss function receives them, and how each class is predicted at the end of the observation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.utils.data import WeightedRandomSampler

from auditor.evidence import Labels, Location
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.losscall import LossCall
from auditor.probe.parts.initial_loss import label_counts
from auditor.probe.program import chosen, sampler_of

MAX_CLASSES = 4096
CHECKED = 8  # steps whose masks are checked for values between 0 and 1
SMALLEST = 8  # predictions in a batch, for it to tell that all are the same
MOST_PLACES = 2**16  # of one batch of masks
MOST_WAITING = 2**18  # labels kept before they are counted


class LabelsCollector(Collector):
    name = "labels"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._key: tuple[str, Location | None] | None = None
        self._call: dict[str, Any] = {}
        self._counts: torch.Tensor | None = None
        self._held_out: torch.Tensor | None = None
        self._late: torch.Tensor | None = None  # (3, classes): labels, hits, predictions
        self._waiting: list[tuple[torch.Tensor, bool]] = []  # (2, n) labels and predictions; of the late steps?
        self._waiting_size = 0
        self._given: set[int] = set()  # addresses of what the model was called with last
        self._soft: list[torch.Tensor] = []  # 0-d each: a mask holds other values than 0 and 1
        self._late_batches = self._uniform_batches = 0
        self._row_counts: set[int] = set()  # sizes that a per-sample batch dimension of the model's input can have

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._given = {tensor.data_ptr() for tensor in tensors((args, kwargs))}
        if self.step == 0:
            self._row_counts.update(size for tensor in tensors((args, kwargs)) for size in tensor.shape[:2])

    def loss_called(self, call: LossCall) -> None:
        if not _has_classes(call) or (_is_mask(call) and call.target.data_ptr() in self._given):
            return  # what is to be reconstructed is no class
        if _is_mask(call) and self.step < CHECKED:
            target = call.target.detach()
            self._soft.append(((target != 0) & (target != 1)).any())
        if self._key is None:
            self._key = (call.name, call.location)
            self._call = {
                "classes": call.classes if call.class_labels else 2,
                "weighted": any(call.options.get(name) is not None for name in ("weight", "pos_weight")),
                "weights": _class_weights(call),
                "per_position": call.target.dim() > 1 and (call.class_labels or call.target.shape[-1] > 1),
                "ignore": call.ignore_index if call.class_labels else None,
                "rows": call.target.shape[0] if call.target.dim() else 1,
                "in_model": call.in_model,
            }
        if self._key != (call.name, call.location) or self._call["classes"] != (
            call.classes if call.class_labels else 2
        ):
            return
        self._waiting.append((_answers(call), self.step >= self.probe.director.steps_to_observe * 2 // 3))
        self._waiting_size += call.target.numel()
        if self._waiting_size > MOST_WAITING:
            self._count()

    def _count(self) -> None:
        """Counting takes a dozen small operations: it is done for many steps at once, and on the device."""
        for late in (False, True):
            answers = [answer for answer, is_late in self._waiting if is_late is late]
            if not answers:
                continue
            table = _table(torch.cat(answers, dim=1), self._call["classes"])
            self._counts = table[0] if self._counts is None else self._counts + table[0]
            if late:
                self._note_uniform(answers)
                self._late = table if self._late is None else self._late + table
        self._waiting, self._waiting_size = [], 0

    def _note_uniform(self, answers: list[torch.Tensor]) -> None:
        """Batches in which one class is predicted for everything."""
        large = [answer[1] for answer in answers if answer.shape[1] >= SMALLEST]
        self._late_batches += len(large)
        if large:
            self._uniform_batches += int(torch.stack([(each == each[0]).all() for each in large]).sum())

    def evaluation_loss(self, call: LossCall) -> None:
        if (
            self._key is not None
            and _has_classes(call)
            and self._call["classes"] == (call.classes if call.class_labels else 2)
        ):
            counts = label_counts(call)
            self._held_out = counts if self._held_out is None else self._held_out + counts

    def constant_level(self) -> float | None:
        """Loss of a constant answer that knows the labels' shares; None unless each sample has one unweighted label."""
        try:
            found = self.part()
        except Unavailable:
            return None
        total = sum(found.counts)
        if found.per_position or found.weighted_loss or total < 1 or self._call["in_model"]:
            return None
        shares = [amount / total for amount in found.counts if amount > 0]
        entropy = -sum(share * math.log(share) for share in shares)
        return entropy if entropy > 0 else None

    def weights(self) -> torch.Tensor | None:
        """(classes,), inverse to the counts of the observed steps; None where fewer than two classes were seen."""
        if self._waiting:
            self._count()
        if self._counts is None or int((self._counts > 0).sum()) < 2 or self._shares():
            return None
        counts = self._counts.cpu().float()
        seen = counts > 0
        return torch.where(seen, counts.sum() / seen.sum() / counts.clamp(min=1), torch.zeros_like(counts))

    def _shares(self) -> bool:
        """The masks hold values between 0 and 1. Fetches."""
        return bool(self._soft) and bool(torch.stack(self._soft).any())

    def part(self) -> Labels:
        if self._waiting:
            self._count()
        if self._key is None or self._counts is None:
            raise Unavailable("no loss with class labels was called in training")
        if self._shares():
            raise Unavailable("the loss takes shares in place of class labels")
        loader = next((record for record in self.probe.program.loaders if record.training_credits), None)
        counts, complete = self._counts.tolist(), False
        whole = _dataset_labels(loader.loader.dataset, chosen(loader.loader)) if loader is not None else None
        classes = self._call["classes"]
        if whole is not None and whole.numel() and int(whole.min()) >= 0 and int(whole.max()) < classes:
            counts, complete = torch.bincount(whole, minlength=classes).tolist(), True
        late = self._late.tolist() if self._late is not None else [[], [], []]
        return Labels(
            classes=classes,
            counts=tuple(counts),
            complete=complete,
            held_out_counts=tuple(self._held_out.tolist()) if self._held_out is not None else (),
            seen=tuple(late[0]),
            hits=tuple(late[1]),
            predicted=tuple(late[2]),
            late_batches=self._late_batches,
            uniform_batches=self._uniform_batches,
            weighted_loss=self._call["weighted"],
            class_weights=tuple(self._call["weights"].tolist()) if self._call["weights"] is not None else (),
            weighted_sampler=loader is not None and isinstance(sampler_of(loader.loader), WeightedRandomSampler),
            per_position=self._per_position(),
            ignore_index=self._call["ignore"],
            location=self._key[1],
            data_location=loader.location if loader is not None else None,
        )

    def _per_position(self) -> bool:
        """Dense labels, also when they were flattened: as many as no leading dimension of the input has."""
        flattened = bool(self._row_counts) and self._call["rows"] > max(self._row_counts)
        return bool(self._call["per_position"]) or flattened


def _has_classes(call: LossCall) -> bool:
    if call.class_labels:
        return call.classes <= MAX_CLASSES
    if not call.binary_labels or call.input.shape != call.target.shape or not call.target.dim():
        return False
    return call.target.numel() == call.target.shape[0] or _is_mask(call)


def _is_mask(call: LossCall) -> bool:
    """Yes or no at every place of an image; a row of answers about one sample is no mask."""
    return call.binary_labels and call.target.dim() >= 3


def _class_weights(call: LossCall) -> torch.Tensor | None:
    """(classes,), not fetched. The weight of a positive answer is that of the second of two classes."""
    given = call.options.get("weight" if call.class_labels else "pos_weight")
    if not isinstance(given, torch.Tensor) or not given.is_floating_point():
        return None
    if not given.dim():
        given = given.reshape(1)
    if not call.class_labels:
        return torch.cat([torch.ones_like(given), given]).detach() if given.shape == (1,) else None
    return given.detach().clone() if given.shape == (call.classes,) else None


def _answers(call: LossCall) -> torch.Tensor:
    """(2, n): labels, negative where ignored, and predictions."""
    if call.class_labels:
        logits, labels = call.flat()
        if call.ignore_index >= 0:  # a negative label is not counted anyway
            labels = torch.where(labels == call.ignore_index, torch.full_like(labels, -1), labels)
        return torch.stack([labels.long(), logits.argmax(-1)])
    if _is_mask(call):
        every = max(1, call.target.numel() // MOST_PLACES) | 1  # odd, so that all columns have their turn
        return _yes_or_no(call, call.target.detach().reshape(-1)[::every], call.input.detach().reshape(-1)[::every])
    return _yes_or_no(call, call.target.detach().reshape(-1), call.input.detach().reshape(-1))


def _yes_or_no(call: LossCall, target: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    threshold = 0.0 if call.name.endswith("logits") else 0.5
    return torch.stack([(target > 0.5).long(), (given > threshold).long()])


def _table(answers: torch.Tensor, classes: int) -> torch.Tensor:
    """(3, classes): labels, right predictions per label, predictions; without synchronising."""
    labels, predicted = answers
    rest = torch.full_like(labels, classes)
    valid = (labels >= 0) & (labels < classes)
    columns = (
        torch.where(valid, labels, rest),
        torch.where(valid & (predicted == labels), labels, rest),
        torch.where(valid, predicted, rest),
    )
    counts = torch.zeros(3, classes + 1, dtype=torch.long, device=labels.device)
    return counts.scatter_add_(1, torch.stack(columns), torch.ones_like(labels).expand(3, -1))[:, :classes]


def _dataset_labels(dataset: Any, part: list[int] | None) -> torch.Tensor | None:
    """(n,) integer labels of a whole dataset where they lie ready; None where reading them would run user code."""
    indices = torch.as_tensor(part) if part is not None else None
    for _ in range(8):
        if not (hasattr(dataset, "dataset") and hasattr(dataset, "indices")):
            break
        inner = torch.as_tensor(list(dataset.indices))
        indices = inner if indices is None else inner[indices]
        dataset = dataset.dataset
    labels = getattr(dataset, "targets", None)
    if labels is None and isinstance(dataset, torch.utils.data.TensorDataset) and len(dataset.tensors) == 2:
        labels = dataset.tensors[1]
    try:
        found = torch.as_tensor(labels) if labels is not None else None
    except (TypeError, ValueError, RuntimeError):
        return None
    if found is None or found.is_complex():
        return None
    found = found.detach().cpu()
    if found.dim() == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.dim() != 1 or found.shape[0] != len(dataset):
        return None
    if found.is_floating_point():
        if not bool(((found == 0) | (found == 1)).all()):
            return None
        found = found.long()
    return found[indices] if indices is not None else found
