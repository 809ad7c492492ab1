"""How the run went."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part


class Status(StrEnum):
    COMPLETED = "completed"
    SCRIPT_FAILED = "script-failed"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    NOTHING_TO_AUDIT = "nothing-to-audit"


class Crash(Frozen):
    """How the script ended when it did not end well. `traceback` holds the user's frames only."""

    kind: str = Field(description="Exception class, 'SystemExit', or 'signal'.")
    message: str = ""
    traceback: str = ""
    location: Location | None = None
    step: int = Field(0, description="Optimizer steps taken before the crash.")

    @property
    def name(self) -> str:
        """What to call it: the exception, or the signal, as in 'SIGSEGV: segmentation fault in native code'."""
        return self.message.partition(":")[0] if self.kind == "signal" else self.kind


class Phase(Frozen):
    """One phase of the probe: start-up, observation, an experiment, a data scan."""

    name: str
    status: Literal["completed", "cut-short", "skipped", "failed"]
    seconds: float = 0.0
    steps: int = 0
    reason: str = ""


class Asked(Frozen):
    """The options of the run that were in force, from the command line, the configuration or by default."""

    steps: int = Field(description="Optimizer steps to observe.")
    look_on: int = Field(description="Steps after those, for what comes late.")
    max_time: float = Field(description="Limit of the whole audit, seconds.")
    batch_memory: int = Field(description="For batches that are kept for replays, MB.")
    group_key: str = Field("", description="The field or attribute that tells whose sample it is.")
    device: str = Field("auto", description="For files without a loop; a script decides for itself.")
    side_effects: Literal["divert", "allow"] = "divert"
    experiments: bool = True
    trials: bool = Field(True, description="Fixes of what is found are tried.")
    samples: bool = Field(True, description="Pictures, labels and values of samples may be kept.")


class Run(Part):
    target: str
    args: tuple[str, ...] = ()
    module: bool = Field(False, description="True for `-m package.module`.")
    status: Status = Status.COMPLETED
    exit_code: int | None = None
    crash: Crash | None = None
    steps: int = Field(0, description="Optimizer steps observed before the experiments began.")
    seconds: float = 0.0
    step_seconds: float | None = Field(None, description="Median seconds of an observed step without its sampling.")
    overhead: float | None = Field(None, description="Observed step time over the same time less our own work.")
    device: str = "cpu"
    torch: str = ""
    python: str = ""
    seed: int | None = None
    asked: Asked | None = Field(None, description="The options in force; None where nothing was run.")
    phases: tuple[Phase, ...] = ()
    source_only: bool = Field(False, description="Nothing was run: only the source was read.")
    diverted: tuple[str, ...] = Field((), description="Files the script wrote that were diverted to scratch.")
    elsewhere: str = Field("", description="file:line of training in a process that the script started, or its name.")
    notes: tuple[str, ...] = Field((), description="Sentences about choices the probe made.")


class Seeding(Part):
    """Which random number generators the script drew from by the end of its first steps, and which it seeded before."""

    drawn: tuple[str, ...] = Field(description="Of 'torch', 'numpy' and 'random'.")
    unseeded: tuple[str, ...] = Field(description="Those of them that had no fixed seed when they were first needed.")
    by_audit: bool = Field(False, description="The audit itself seeded them, by --seed.")
