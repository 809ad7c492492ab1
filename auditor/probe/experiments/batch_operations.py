"""Operations over the samples of a batch, a mean or a softmax: noted down, or held at earlier results."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from auditor.probe.operations import short_name

STATISTICS = frozenset({"mean", "var", "std", "var_mean", "std_mean", "median", "quantile", "nanmean", "cov"})
NORMALIZERS = frozenset({"softmax", "log_softmax"})


class BatchOperations(TorchFunctionMode):
    """Writes down the results of operations that go over the first dimension, or gives back earlier ones instead."""

    def __init__(self, names: frozenset[str], size: int, results: list[Any] | None = None) -> None:
        super().__init__()
        self._watched = names
        self._size = size
        self._given = list(results) if results is not None else None
        self.results: list[Any] = []
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = short_name(func)
        if name not in self._watched or not self._over_batch(name, args, kwargs):
            return result
        self.names.append(name)
        if self._given is None:
            self.results.append(result)
        elif self._given:
            return self._given.pop(0)
        return result

    def _over_batch(self, name: str, args: Any, kwargs: Any) -> bool:
        given = args[0] if args else kwargs.get("input")
        if not isinstance(given, torch.Tensor) or not given.dim() or given.shape[0] != self._size:
            return False
        place = 2 if name == "quantile" else 1
        dims = kwargs.get("dim", kwargs.get("axis", args[place] if len(args) > place else None))
        if dims is None:
            return name not in NORMALIZERS
        chosen = dims if isinstance(dims, tuple | list) else (dims,)
        return any(isinstance(d, int) and not isinstance(d, bool) and d % given.dim() == 0 for d in chosen)
