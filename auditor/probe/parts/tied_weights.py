"""Input embeddings and output layers of the same shape: are they one parameter, were they meant to be?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from auditor.evidence import TiedPair, TiedWeights
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.held import held
from auditor.probe.registrations import Tie
from auditor.probe.rewind import is_lazy

FLAGS = (
    "tie_word_embeddings",
    "tie_embeddings",
    "tie_weights",
    "tied_embeddings",
    "weight_tying",
    "tied",
    "tie_weight",
)
CONFIGURATIONS = ("config", "cfg", "args", "hparams", "params", "opt")
FEWEST_TOKENS = 8
MOST_PAIRS = 8


class TiedWeightsCollector(Collector):
    name = "tied_weights"

    def part(self) -> TiedWeights:
        if not self.probe.observed:
            raise Unavailable("no training step was complete", "inconclusive")
        pairs = [pair for _, model in self.probe.program.models() for pair in self._pairs(model)]
        if not pairs:
            raise Unavailable("no model has an embedding and an output layer of the same shape")
        return TiedWeights(pairs=tuple(pairs[:MOST_PAIRS]))

    def _pairs(self, model: nn.Module) -> Iterator[TiedPair]:
        modules = list(model.modules())
        embeddings = [m for m in modules if _is_table(m)]
        heads = [m for m in modules if isinstance(m, nn.Linear) and _weight(m) is not None]
        declared = declaration(modules)
        for embedding in embeddings:
            alike = [head for head in heads if _weight(head).shape == _weight(embedding).shape]
            # Several layers of that shape: which of them is the output is not known, unless one is the embedding.
            for head in alike if len(alike) == 1 else [h for h in alike if _weight(h) is _weight(embedding)]:
                yield self._pair(embedding, head, declared)

    def _pair(self, embedding: nn.Module, head: nn.Module, declared: str) -> TiedPair:
        one, other = _weight(embedding), _weight(head)
        initial = self.probe.initial
        starts = [initial.initial(weight) if initial is not None else None for weight in (one, other)]
        trained = {id(parameter) for parameter in self.probe.program.trained_parameters()}
        names = self.probe.program.module_names()
        tie = self._former_tie(embedding, head)
        return TiedPair(
            embedding=names.get(id(embedding), "embedding"),
            head=names.get(id(head), "head"),
            declared=declared,
            tied=one is other or one.data_ptr() == other.data_ptr(),
            equal_start=all(start is not None for start in starts) and torch.equal(*starts),  # type: ignore[arg-type]
            equal_end=one.device == other.device and torch.equal(one.detach(), other.detach()),
            was_tied=tie is not None,
            tie_location=tie.location if tie is not None else None,
            trained=id(one) in trained or id(other) in trained,
            shape=tuple(one.shape),
            embedding_location=self.probe.program.location_of(embedding),
            location=self.probe.program.location_of(head),
        )

    def _former_tie(self, embedding: nn.Module, head: nn.Module) -> Tie | None:
        """The one between the two, or between one of them and a module that the other has taken the place of."""
        present = self.probe.program.module_names()
        for module, other, kind in ((head, embedding, nn.Embedding), (embedding, head, nn.Linear)):
            for tie in self.probe.program.registrations.ties(module):
                partner, was = tie.partner(module) or (None, nn.Module)
                if partner is other or (issubclass(was, kind) and (partner is None or id(partner) not in present)):
                    return tie
        return None


def _is_table(module: nn.Module) -> bool:
    large = isinstance(module, nn.Embedding) and module.num_embeddings >= FEWEST_TOKENS
    return large and _weight(module) is not None


def _weight(module: nn.Module) -> Any:
    """None for a weight that has no shape yet, or is computed when it is read."""
    weight = held(module, "weight")
    return None if weight is None or is_lazy(weight) else weight


def declaration(modules: list[nn.Module]) -> str:
    """The flag, on a module or in its configuration, that says that embedding and output are tied."""
    for module in modules:
        for holder, prefix in [(module, "")] + [(vars(module).get(name), f"{name}.") for name in CONFIGURATIONS]:
            flag = next((flag for flag in FLAGS if _value(holder, flag) is True), "") if holder is not None else ""
            if flag:
                return prefix + flag
    return ""


def _value(holder: Any, name: str) -> Any:
    """Without running any code of the holder's own."""
    if isinstance(holder, Mapping) and isinstance(holder, dict):
        return holder.get(name)
    try:
        own = vars(holder)
    except TypeError:
        return None
    return own.get(name, vars(type(holder)).get(name))
