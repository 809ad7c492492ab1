"""One audit from start to verdict: start the probe, gather, judge."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from auditor.capture import Capture
from auditor.config import Settings
from auditor.declare import Rule
from auditor.evidence import Absence, Crash, Evidence, Run, Status, part_types
from auditor.result import Audit
from auditor.script import find_module, find_script, syntax_crash
from auditor.spec import ProbeSpec, Progress
from auditor.supervisor import Ending, Interrupts, scratch_folder, watch

JUDGING_RESERVE = 2.0  # seconds kept from the time limit for judging and reports
SECOND_START = 8.0  # seconds that must be left for a second start of the child to be worth it
Listener = Callable[[Progress | None], None]


@dataclass(frozen=True)
class Request:
    """What to audit and how, besides the settings."""

    target: str
    args: tuple[str, ...] = ()
    module: bool = False
    experiments: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int | None = None
    stdout_to_stderr: bool = False


@dataclass(frozen=True)
class Outcome:
    """The audit, and the signal by which the user ended it early."""

    audit: Audit
    signal: int | None = None


def audit(
    target: str | Path,
    args: Sequence[str] = (),
    *,
    module: bool = False,
    settings: Settings | None = None,
    experiments: bool = True,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    seed: int | None = None,
    show_output: bool = False,
) -> Audit:
    """Run a training script under observation and judge it; what `audit run` does, without writing anything.

    The script runs in a process of its own. Its failure, hang or death does not raise: `Audit.run.status` tells.
    Raises AuditError when the target or the settings cannot be used.
    """
    request = Request(str(target), tuple(args), module, experiments, device, seed)
    return conduct(request, settings, capture=None if show_output else Capture(None)).audit


def conduct(
    request: Request,
    settings: Settings | None = None,
    *,
    rules: Sequence[Rule] | None = None,
    command: Sequence[str] | None = None,
    capture: Capture | None = None,
    listen: Listener | None = None,
) -> Outcome:
    """`audit` with every part replaceable: the rules, the child's command, where its output and progress go."""
    from auditor.judge import judge
    from auditor.registry import rules as installed

    settings = settings or Settings()
    known = tuple(rules) if rules is not None else installed()
    parts = parts_wanted(settings.selected(known), known)
    started = time.monotonic()
    path = find_module(request.target) if request.module else find_script(request.target)
    broken = syntax_crash(path) if path is not None else None
    if broken is not None:
        run = _run(request, Status.SCRIPT_FAILED, {"crash": broken, "exit_code": 1})
        return Outcome(judge(Evidence(run=run), known, settings))
    interrupts = Interrupts()
    with interrupts.watching():
        probe = _Probe(request, settings, parts, path, command, capture, interrupts, listen)
        endings = probe.run(started)
    evidence = assemble(request, endings, time.monotonic() - started)
    return Outcome(judge(evidence, known, settings), interrupts.signal if endings[-1].interrupted else None)


def parts_wanted(chosen: Sequence[Rule], known: Sequence[Rule]) -> tuple[str, ...]:
    """Evidence fields that the chosen rules need; empty, which means all, when every rule is chosen."""
    if len(chosen) == len(known):
        return ()
    needed = {need.evidence for rule in chosen for need in rule.needs} - {"run"}
    return tuple(name for name in part_types() if name in needed) or ("program",)


@dataclass(frozen=True)
class _Probe:
    """Starts the child, and once more when experiments could not run since the script's loop ended."""

    request: Request
    settings: Settings
    parts: tuple[str, ...]
    path: Path | None
    command: Sequence[str] | None
    capture: Capture | None
    interrupts: Interrupts
    listen: Listener | None

    def run(self, started: float) -> list[Ending]:
        limit = self.settings.max_time
        deadline = started + limit - min(JUDGING_RESERVE, limit / 4)
        endings = [self._start(0, self.parts, deadline)]
        pending = _pending(endings[0])
        left = deadline - time.monotonic()
        if pending and not self.interrupts.count and not failed(endings[0]) and left > min(SECOND_START, limit / 4):
            endings.append(self._start(1, pending, deadline))
        return endings

    def _start(self, attempt: int, parts: tuple[str, ...], deadline: float) -> Ending:
        request = self.request
        folder = self.path is not None and not request.module and Path(request.target).is_dir()
        with scratch_folder() as run_dir:
            spec = ProbeSpec(
                target=str(self.path) if folder else request.target,
                args=request.args,
                module=request.module,
                run_dir=str(run_dir),
                steps=self.settings.steps,
                deadline=deadline,
                experiments=request.experiments,
                parts=parts,
                attempt=attempt,
                device=request.device,
                seed=request.seed,
                stdout_to_stderr=request.stdout_to_stderr,
            )
            return watch(
                spec, command=self.command, capture=self.capture, interrupts=self.interrupts, listen=self.listen
            )


def _pending(ending: Ending) -> tuple[str, ...]:
    names = ending.gathered.run.get("pending")
    known = part_types()
    return tuple(name for name in names if name in known) if isinstance(names, list) else ()


def failed(ending: Ending) -> bool:
    """The script ended badly before everything was gathered."""
    crashed = bool(ending.gathered.run.get("crash"))
    if ending.timed_out or ending.interrupted:
        return False
    if ending.finished:
        return crashed and not _steps(ending)
    return crashed or ending.killed_by is not None or bool(ending.exit_code)


def _steps(ending: Ending) -> int:
    """Optimizer steps seen, also of a child that did not live to sum them up."""
    run = ending.gathered.run
    trajectory = ending.gathered.parts.get("trajectory")
    crash = run.get("crash")
    counts = [
        run.get("steps"),
        ending.steps_seen,
        len(getattr(trajectory, "losses", ())),
        crash.get("step") if isinstance(crash, dict) else 0,
    ]
    return max(count for count in counts if isinstance(count, int))


def _status(first: Ending, last: Ending) -> Status:
    if last.interrupted:
        return Status.INTERRUPTED
    if first.timed_out:
        return Status.TIMEOUT
    if failed(first):
        return Status.SCRIPT_FAILED
    return Status.COMPLETED if _steps(first) else Status.NOTHING_TO_AUDIT


def assemble(request: Request, endings: Sequence[Ending], seconds: float) -> Evidence:
    """Merge what the starts of the child gathered: a later one only fills gaps and adds its phases."""
    first, *later = endings
    parts = dict(first.gathered.parts)
    absent = dict(first.gathered.absent)
    facts = {key: value for key, value in first.gathered.run.items() if key in Run.model_fields}
    phases = list(facts.get("phases") or ())
    notes = [*(facts.get("notes") or ()), *first.problems]
    diverted = list(facts.get("diverted") or ())
    for ending in later:
        parts = {**ending.gathered.parts, **parts}
        absent.update(ending.gathered.absent)
        again = ending.gathered.run
        phases += again.get("phases") or ()
        notes += [note for note in (*(again.get("notes") or ()), *ending.problems) if note not in notes]
        diverted += [path for path in again.get("diverted") or () if path not in diverted]
    facts.update(phases=phases, notes=notes, diverted=diverted, seconds=round(seconds, 3), steps=_steps(first))
    facts.setdefault("exit_code", first.exit_code)
    status = _status(first, endings[-1])
    if status is Status.SCRIPT_FAILED and not facts.get("crash"):
        facts["crash"] = _crash(first)
    if status is Status.COMPLETED and not first.finished:
        notes.append("the script ended before the probe had everything it wanted")
    return _evidence(_run(request, status, facts), parts, absent)


def _evidence(run: Run, parts: dict[str, Any], absent: dict[str, Absence]) -> Evidence:
    return Evidence(
        run=run,
        absent={name: absence for name, absence in absent.items() if name not in parts},
        **{name: part for name, part in parts.items() if name != "run"},
    )


def _run(request: Request, status: Status, facts: dict[str, Any]) -> Run:
    """Facts that do not fit the model are left out, with a note: the report must come."""
    fixed = {"target": request.target, "args": request.args, "module": request.module, "status": status}
    base = {"python": sys.version.split()[0], "seed": request.seed, **facts, **fixed}
    try:
        return Run.model_validate(base)
    except ValidationError as wrong:
        bad = {str(error["loc"][0]) for error in wrong.errors()}
        kept = {key: value for key, value in base.items() if key not in bad}
        notes = [] if "notes" in bad else list(kept.get("notes") or ())
        notes.append(f"the probe's account of the run was damaged: {', '.join(sorted(bad))}")
        return Run.model_validate({**kept, "notes": notes})


_SIGNAL_HINTS = {
    signal.SIGKILL: "; often the system ran out of memory",
    signal.SIGSEGV: " in native code",
    signal.SIGABRT: " by native code",
}


def _crash(ending: Ending) -> Crash:
    """What is known of a death that the child itself could not report."""
    steps = _steps(ending)
    if ending.killed_by is None:
        return Crash(kind="SystemExit", message=f"the script ended with exit code {ending.exit_code}", step=steps)
    try:
        number = signal.Signals(ending.killed_by)
    except ValueError:
        return Crash(kind="signal", message=f"signal {ending.killed_by}", step=steps)
    meaning = (signal.strsignal(number) or "").lower()
    return Crash(kind="signal", message=f"{number.name}: {meaning}{_SIGNAL_HINTS.get(number, '')}", step=steps)
