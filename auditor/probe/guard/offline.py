"""Experiment trackers and model hubs: nothing that the probe trains is uploaded."""

from __future__ import annotations

import os
from pathlib import Path

STRICTER = ("disabled", "offline", "dryrun")


def go_offline(scratch: Path) -> None:
    """Environment switches of the trackers; what the user has set to something at least as strict stays."""
    switches = {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(scratch),
        "WANDB_SILENT": "true",
        "WANDB_CONSOLE": "off",
        "COMET_MODE": "disabled",
        "NEPTUNE_MODE": "offline",
        "CLEARML_OFFLINE_MODE": "1",
        "DVCLIVE_TEST": "true",
        "SWANLAB_MODE": "disabled",
        "AIM_TRACKING_DISABLED": "1",
        "MLFLOW_TRACKING_URI": (scratch / "mlruns").as_uri(),
        "MLFLOW_REGISTRY_URI": (scratch / "mlruns").as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",
    }
    for name, value in switches.items():
        if os.environ.get(name, "").lower() not in STRICTER:
            os.environ[name] = value
