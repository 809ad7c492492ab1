"""The reference training loop, for files that have none. Taps and experiments see it like any user's loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from auditor.target import Target

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

DEFAULT_RATE = 1e-3
EPOCHS = 10**6  # the probe ends the loop


def train(target: Target, probe: Probe) -> None:
    """Epochs of training, each followed by an evaluation of every held-out set."""
    device = choose_device(probe.spec.device)
    model = target.model.to(device)
    loader = _loader(target.train, target.batch_size, shuffle=True, name="train", probe=probe)
    if loader is None:
        _train_on_examples(target, model, device, probe)
        return
    held_out = [
        _loader(data, target.batch_size, shuffle=False, name=name, probe=probe)
        for name, data in (("validation", target.validation), ("test", target.test))
    ]
    first = _pair(next(iter(loader)))
    loss_function = target.loss or default_loss(first[1], probe.notes)
    optimizer = _optimizer(target, model, probe.notes)
    for _ in range(EPOCHS):
        model.train()
        for batch in loader:
            inputs, labels = _to(_pair(batch), device)
            optimizer.zero_grad()
            loss = loss_function(_call(model, inputs), labels)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for other in held_out:
                for batch in other or ():
                    inputs, labels = _to(_pair(batch), device)
                    loss_function(_call(model, inputs), labels)


def _train_on_examples(target: Target, model: Any, device: torch.device, probe: Probe) -> None:
    """Without data there is no loss of the user's: one that pulls the outputs to a fixed random target still sends
    gradients through every layer, which is all that the rules about the model need."""
    if target.example_inputs is None:
        raise ValueError(
            "the target has neither training data nor example_inputs: there is nothing to run the model on"
        )
    probe.notes.append("No training data: the model was run on its example inputs; rules about data do not apply.")
    inputs = target.example_inputs if isinstance(target.example_inputs, tuple) else (target.example_inputs,)
    optimizer = _optimizer(target, model, probe.notes)
    goal: torch.Tensor | None = None
    model.train()
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        output = model(*_to(inputs, device))
        output = output[0] if isinstance(output, tuple | list) else output
        if goal is None:
            goal = torch.randn_like(output, dtype=torch.float32)
        functional.mse_loss(output.float(), goal).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def choose_device(wanted: str) -> torch.device:
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def _optimizer(target: Target, model: Any, notes: list[str]) -> Any:
    if isinstance(target.optimizer, torch.optim.Optimizer):
        return target.optimizer
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if target.optimizer is not None:
        return target.optimizer(parameters)
    notes.append(f"No optimizer given: Adam with a learning rate of {DEFAULT_RATE:g}.")
    return torch.optim.Adam(parameters, lr=DEFAULT_RATE)


def _loader(data: Any, batch_size: int, shuffle: bool, name: str, probe: Probe) -> DataLoader[Any] | None:
    if data is None or isinstance(data, DataLoader):
        loader = data
    else:
        dataset = data if isinstance(data, Dataset) else TensorDataset(*data)
        loader = DataLoader(dataset, batch_size=batch_size, shuffle=shuffle)
        probe.notes.append(f"{name}: a dataset, fed in batches of {batch_size}{', shuffled' if shuffle else ''}.")
    if loader is not None:
        record = probe.program.loader(loader)
        if record.name.startswith("loader "):
            record.name = name
        if not shuffle:
            record.held_out_credits += 1
    return loader


def default_loss(labels: torch.Tensor, notes: list[str]) -> Any:
    """By the target's type."""
    if not labels.is_floating_point():
        notes.append("No loss given: cross entropy, because the targets are integers.")
        return functional.cross_entropy
    if bool(((labels == 0) | (labels == 1)).all()):
        notes.append("No loss given: binary cross entropy with logits, because the targets are zeros and ones.")
        return lambda output, target: functional.binary_cross_entropy_with_logits(output.reshape(target.shape), target)
    notes.append("No loss given: mean squared error, because the targets are real numbers.")
    return lambda output, target: functional.mse_loss(output.reshape(target.shape), target)


def _pair(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    if isinstance(batch, tuple | list) and len(batch) > 2:
        return tuple(batch[:-1]), batch[-1]
    if isinstance(batch, dict):
        label = next((key for key in ("labels", "label", "targets", "target", "y") if key in batch), None)
        if label is not None:
            return {key: value for key, value in batch.items() if key != label}, batch[label]
    raise ValueError("a batch of the training data must be (inputs, targets), or a dict with 'labels' or 'targets'")


def _call(model: Any, inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _to(item, device) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_to(item, device) for item in value)
    return value
