"""What the parent asks of the child, and how the child answers: one JSON line a record, appended to a file.

A file rather than a pipe: what was written survives any death of the child, workers cannot hold it open, and the
script cannot block on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from auditor.evidence import Absence, Frozen, Part, part_types

DEFAULT_STEPS = 60
DEFAULT_MAX_TIME = 120.0


class ProbeSpec(Frozen):
    """One start of the child."""

    target: str = Field(description="Path of the script as given, or module name.")
    args: tuple[str, ...] = ()
    module: bool = False
    run_dir: str = Field(description="Absolute scratch folder; holds events.jsonl, files/ (diverted), tmp/.")
    steps: int = Field(DEFAULT_STEPS, ge=1, description="Optimizer steps to observe.")
    deadline: float = Field(description="time.monotonic() at which everything must be over.")
    experiments: bool = True
    side_effects: Literal["divert", "allow"] = "divert"
    parts: tuple[str, ...] = Field((), description="Evidence fields wanted; empty: all.")
    attempt: int = Field(0, description="0 for the first start; later starts finish pending experiments.")
    loop_steps: int | None = Field(None, description="Steps after which an earlier start saw the loop end by itself.")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int | None = None
    stdout_to_stderr: bool = False

    def wants(self, part: str) -> bool:
        return not self.parts or part in self.parts


class Progress(Frozen):
    """What the child is doing now."""

    phase: str
    step: int = 0
    of: int = 0
    left: float | None = Field(None, description="Seconds to go, all phases, where it can be told.")


class Sink:
    """The child's end: appends records, each complete with its line feed in one write."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - open for the life of the child

    def write(self, kind: str, **record: Any) -> None:
        line = json.dumps({"kind": kind, **record}, separators=(",", ":"))
        self._file.write(line.encode("utf-8", "backslashreplace") + b"\n")

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
        self._offset = 0
        self._rest = b""

    def new(self) -> Iterator[dict[str, Any]]:
        """Complete records; a torn last line waits for its end, a damaged one is dropped."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
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
