"""What the parent asks of the child, and how the child answers: one JSON line a record, appended to a file.

A file rather than a pipe: what was written survives any death of the child, workers cannot hold it open, and the
script cannot block on it.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import Field, model_validator

from auditor.evidence import Absence, Frozen, Part, Remedy, part_types

DEFAULT_STEPS = 60
DEFAULT_LOOK_ON = 440
DEFAULT_MAX_TIME = 120.0
DEFAULT_BATCH_MEMORY = 256  # MB


class ProbeSpec(Frozen):
    """One start of the child."""

    target: str = Field(description="Path of the script as given, or module name.")
    args: tuple[str, ...] = ()
    module: bool = False
    run_dir: str = Field(description="Absolute scratch folder; holds events.jsonl, files/ (diverted), tmp/.")
    steps: int = Field(DEFAULT_STEPS, ge=1, description="Optimizer steps to observe.")
    look_on: int = Field(0, ge=0, description="Steps after those that are only looked at for what comes late.")
    deadline: float = Field(description="time.monotonic() at which everything must be over.")
    experiments: bool = True
    batch_memory: int = Field(DEFAULT_BATCH_MEMORY, ge=1, description="MB of batches kept for replays, at most.")
    trials: bool = Field(False, description="After the experiments, wait for remedies to be tried.")
    side_effects: Literal["divert", "allow"] = "divert"
    group_key: str = Field("", description="Field or attribute of the data set that tells whose sample it is.")
    parts: tuple[str, ...] = Field((), description="Evidence fields wanted; empty: all.")
    attempt: int = Field(0, description="0 for the first start; later starts finish pending experiments.")
    loop_steps: int | None = Field(None, description="Steps after which an earlier start saw the loop end by itself.")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int | None = None
    stdout_to_stderr: bool = False

    @model_validator(mode="before")
    @classmethod
    def _keep_text_storable(cls, data: Any) -> Any:
        """Not here: the script gets its arguments byte for byte, also such as are no UTF-8."""
        return data

    def wants(self, part: str) -> bool:
        return not self.parts or part in self.parts


class TrialRequest(Frozen):
    """Remedies to be tried together, in a loop in which those of `base` are carried out already."""

    remedies: tuple[Remedy, ...]
    base: tuple[Remedy, ...] = ()


class Requests(Frozen):
    """What the parent wants tried, in this order."""

    trials: tuple[TrialRequest, ...] = ()


def requests_file(run_dir: str) -> Path:
    """Where the parent lays its answer to a child that waits for it."""
    return Path(run_dir) / "requests.json"


class Progress(Frozen):
    """What the child is doing now."""

    phase: str
    step: int = 0
    of: int = 0
    left: float | None = Field(None, description="Seconds to go, all phases, where it can be told.")


_COUNT = 8  # bytes of the number of steps


def steps_file(events: Path) -> Path:
    """Where the child counts its steps."""
    return events.with_name("steps")


class Sink:
    """The child's end: appends records, each complete with its line feed in one write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pid = os.getpid()
        self._open = os.open  # as it is now: later the script's own is diverted
        self._take_hold()
        with open(steps_file(path), "w+b") as file:
            file.write(bytes(_COUNT))
            file.flush()
            self._count = mmap.mmap(file.fileno(), _COUNT)

    def count(self, steps: int) -> None:
        """The number of observed steps, at every one of them: memory that survives any death and costs nothing."""
        self._count[:] = steps.to_bytes(_COUNT, "little")

    def _take_hold(self) -> None:
        self._descriptor = self._open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._held = self._identity()

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = os.fstat(self._descriptor)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def write(self, kind: str, **record: Any) -> None:
        if os.getpid() != self._pid:  # a fork of the script, which goes its own way
            return
        if self._identity() != self._held:  # the script has closed what it does not know, perhaps opened its own there
            self._take_hold()
        line = json.dumps({"kind": kind, **record}, separators=(",", ":"))
        os.write(self._descriptor, line.encode("utf-8", "backslashreplace") + b"\n")

    def part(self, name: str, part: Part) -> None:
        self.write("part", name=name, value=json.loads(part.model_dump_json()))

    def absent(self, name: str, outcome: Literal["not-applicable", "inconclusive"], reason: str) -> None:
        self.write("absent", name=name, outcome=outcome, reason=reason)

    def progress(self, phase: str, step: int = 0, of: int = 0, left: float | None = None) -> None:
        self.write("progress", phase=phase, step=step, of=of, left=left)


class Source:
    """The parent's end: reads the records that have arrived since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._rest = b""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def steps(self) -> int:
        """Observed so far, by the child's own count."""
        try:
            return int.from_bytes(steps_file(self._path).read_bytes()[:_COUNT], "little")
        except OSError:
            return 0

    def new(self) -> Iterator[dict[str, Any]]:
        """Complete records; a torn last line waits for its end, a damaged one is dropped."""
        if self._file is None:
            try:
                self._file = open(self._path, "rb")  # noqa: SIM115 - held: the script may delete the folder
            except FileNotFoundError:
                return
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record


class Gathered:
    """Parts and absences collected so far, later records replacing earlier ones."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self.absent: dict[str, Absence] = {}
        self.run: dict[str, Any] = {}
        self.progress: Progress | None = None

    def take(self, record: dict[str, Any]) -> None:
        """Raises pydantic.ValidationError when a part does not fit its model."""
        kind = record.pop("kind", "")
        if kind == "part":
            name = record["name"]
            self.parts[name] = part_types()[name].model_validate(record["value"])
            self.absent.pop(name, None)
        elif kind == "absent":
            name = record.pop("name")
            if name not in self.parts:
                self.absent[name] = Absence.model_validate(record)
        elif kind == "run":
            self.run.update(record)
        elif kind == "progress":
            self.progress = Progress.model_validate(record)
