"""Runs training scripts under the probe, and bare, in children forked from a process that has imported torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from auditor.evidence import Part
from auditor.scratch import diverted_files
from auditor.spec import Gathered, ProbeSpec, Source

ZYGOTE = Path(__file__).with_name("zygote.py")
SECONDS = 300.0  # a run may take, on a busy machine


@dataclass
class Seen:
    """How a run ended and what it left: printed text, values given to note(), and what the probe gathered."""

    exit_code: int
    output: str
    notes: list[dict[str, Any]]
    gathered: Gathered
    folder: Path
    scratch: Path

    def __getitem__(self, name: str) -> Any:
        """A part of the evidence. Fails with the reason for its absence."""
        part: Part | None = self.gathered.parts.get(name)
        assert part is not None, f"no {name}: {self.gathered.absent.get(name)}\n{self.run}\n{self.output}"
        return part

    @property
    def run(self) -> dict[str, Any]:
        return self.gathered.run

    def noted(self, key: str) -> list[Any]:
        """Every value of the key, in order."""
        return [note[key] for note in self.notes if key in note]

    def notes_after(self, key: str, count: int) -> list[dict[str, Any]]:
        """Everything noted after `count` values of the key."""
        places = [index for index, note in enumerate(self.notes) if key in note]
        return self.notes[places[count - 1] + 1 :]

    @property
    def diverted(self) -> list[str]:
        """Files that the script wrote and that went to scratch."""
        return diverted_files(self.scratch / "run" / "files")

    def absent(self, name: str) -> str:
        """'outcome: reason' of a part that must be missing."""
        assert name not in self.gathered.parts, self.gathered.parts[name]
        absence = self.gathered.absent[name]
        return f"{absence.outcome}: {absence.reason}"


class Zygote:
    """The warm process, and a fresh folder for every run."""

    def __init__(self, folder: Path, **variables: str) -> None:
        environment = {**os.environ, **variables, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "MPLBACKEND": "Agg"}
        self._process = subprocess.Popen(
            [sys.executable, str(ZYGOTE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._folder = folder
        self._runs = 0

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def bare(self, script: str | Path, *args: str, **options: Any) -> Seen:
        """As `python script` would."""
        return self._run(script, args, spec=None, **options)

    def probe(
        self,
        script: str | Path,
        *args: str,
        steps: int = 60,
        experiments: bool = False,
        parts: tuple[str, ...] = (),
        module: bool = False,
        side_effects: str = "divert",
        batch_memory: int = 256,
        group_key: str = "",
        look_on: int = 0,
        loop_steps: int | None = None,
        **options: Any,
    ) -> Seen:
        """Under the probe. `script`: source text, a path, or a module's name."""
        spec = {"steps": steps, "experiments": experiments, "parts": parts, "module": module}
        spec |= {"side_effects": side_effects, "batch_memory": batch_memory, "group_key": group_key}
        spec |= {"look_on": look_on, "loop_steps": loop_steps}
        return self._run(script, args, spec, **options)

    def _run(
        self,
        script: str | Path,
        args: tuple[str, ...],
        spec: dict[str, Any] | None,
        folder: Path | None = None,
        record: int = 0,
        seconds: float = SECONDS,
    ) -> Seen:
        self._runs += 1
        scratch = self._folder / str(self._runs)
        folder = folder or scratch / "work"
        for name in (folder, scratch / "run/tmp", scratch / "run/files"):
            name.mkdir(parents=True, exist_ok=True)
        target = str(script)
        if "\n" in target:
            (folder / "train.py").write_text(textwrap.dedent(target))
            target = "train.py" if spec else str(folder / "train.py")
        request = scratch / "spec.json"
        if spec:
            deadline = time.monotonic() + seconds
            run_dir = str(scratch / "run")
            built = ProbeSpec(target=target, args=args, run_dir=run_dir, deadline=deadline, **spec)
            request.write_text(built.model_dump_json())
        code = self._ask(
            script=target,
            args=args,
            spec=str(request) if spec else "",
            folder=str(folder),
            output=str(scratch / "output"),
            notes=str(scratch / "notes"),
            record=record,
            timeout=seconds + 10,
        )
        return Seen(
            exit_code=code,
            output=(scratch / "output").read_text(errors="replace"),
            notes=_lines(scratch / "notes"),
            gathered=_gather(scratch / "run/events.jsonl"),
            folder=folder,
            scratch=scratch,
        )

    def _ask(self, **request: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _gather(path: Path) -> Gathered:
    gathered = Gathered()
    for record in Source(path).new():
        gathered.take(record)
    return gathered


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    process = Zygote(tmp_path_factory.mktemp("runs"))
    yield process
    process.close()
