"""Keeps the probe from touching the user's files and accounts: saves go to scratch, trackers stay offline."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from auditor.probe.taps.patching import wrap

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

OFFLINE = {
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "MLFLOW_TRACKING_URI": "",
    "COMET_MODE": "disabled",
    "NEPTUNE_MODE": "offline",
    "AUDIT_ACTIVE": "1",
}


def go_offline(scratch: Path) -> None:
    """Environment switches of experiment trackers; what the user has set to something stricter stays."""
    for name, value in OFFLINE.items():
        if name == "MLFLOW_TRACKING_URI":
            value = (scratch / "mlruns").as_uri()
        if os.environ.get(name) not in ("disabled", "offline"):
            os.environ[name] = value
    os.environ["WANDB_DIR"] = str(scratch)


class Diverter:
    """Sends files that torch.save writes to scratch, and reads of them to the copy."""

    def __init__(self, probe: Probe, scratch: Path) -> None:
        self._probe = probe
        self._scratch = scratch

    def install(self) -> None:
        wrap(torch, "save", self._save)
        wrap(torch, "load", self._load)

    def _save(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(f, str | os.PathLike):
                with self._probe.paused():
                    return original(obj, self._divert(f), *args, **kwargs)
            if isinstance(f, io.BufferedWriter) and isinstance(f.name, str):
                self._probe.notes.append(f"{f.name} was opened for writing by the script itself, not diverted")
            return original(obj, f, *args, **kwargs)

        return save

    def _load(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load(f: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(f, str | os.PathLike):
                f = self._probe.diverted.get(os.path.abspath(os.fspath(f)), f)
            return original(f, *args, **kwargs)

        return load

    def _divert(self, path: Any) -> str:
        """Where a file goes instead. Missing folders still fail as they would: the script shall behave as it does."""
        real: str = os.path.abspath(os.fspath(path))
        if not os.path.isdir(os.path.dirname(real)):
            return real
        known: str | None = self._probe.diverted.get(real)
        if known is None:
            self._scratch.mkdir(parents=True, exist_ok=True)
            known = str(self._scratch / f"{len(self._probe.diverted)}-{os.path.basename(real)}")
            if os.path.exists(real):
                shutil.copy2(real, known)  # a script may read back what an earlier run has left
            self._probe.diverted[real] = known
        return known
