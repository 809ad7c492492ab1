"""torch.nn.utils.rnn.pad_sequence: which positions it has filled up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.utils import rnn

from auditor.probe.paddings import Table
from auditor.probe.probe import Probe
from auditor.probe.taps.patching import wrap


def install(probe: Probe) -> None:
    listener = probe.collectors.find("padded_outputs")
    if listener is not None:
        wrap(rnn, "pad_sequence", lambda original: _padded(probe, original, listener.tables.append))


def _padded(probe: Probe, original: Callable[..., Any], heard: Callable[[Table], None]) -> Callable[..., Any]:
    def pad_sequence(sequences: Any, batch_first: bool = False, *args: Any, **kwargs: Any) -> Any:
        result = original(sequences, batch_first, *args, **kwargs)
        whole = isinstance(sequences, list | tuple) and isinstance(result, torch.Tensor) and not result.requires_grad
        if whole and batch_first and probe.observing and probe.alive():
            with probe.paused():
                heard(Table(result, [len(each) for each in sequences]))
        return result

    return pad_sequence
