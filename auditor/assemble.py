"""From the endings of the child to evidence: how the script ended, and what was gathered until then."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from auditor.evidence import Crash, Evidence, Nonfinite, Part, Run, Status, Trials, part_types
from auditor.supervisor import Ending

_SIGNAL_HINTS = {
    signal.SIGKILL: "; often the system ran out of memory",
    signal.SIGSEGV: " in native code",
    signal.SIGABRT: " by native code",
}


def assemble(asked: Run, endings: Sequence[Ending], seconds: float) -> Evidence:
    """Merge the starts of the child: a later one fills gaps and adds its phases, notes and diverted files.

    `asked` holds what the parent knows itself: the target, its arguments.
    """
    first, *later = endings
    run = _account(asked, first)
    parts, absent = dict(first.gathered.parts), dict(first.gathered.absent)
    for before, ending in zip(endings, later, strict=False):
        again = _account(asked, ending)
        new = ending.gathered.parts
        parts = {**new, **parts, **_done_again(before, ending), **_traced(new), **_all_trials(parts, new)}
        absent |= ending.gathered.absent
        added = {name: _union(getattr(run, name), getattr(again, name)) for name in ("notes", "diverted")}
        run = run.model_copy(update={**added, "phases": (*run.phases, *again.phases)})
    found = _status(first, endings[-1])
    facts: dict[str, object] = {"status": found, "steps": steps(first), "seconds": round(seconds, 3)}
    if run.exit_code is None:
        facts["exit_code"] = first.exit_code
    if found is Status.SCRIPT_FAILED and run.crash is None:
        facts["crash"] = _crash(first)
    if found is Status.COMPLETED and not first.finished:
        facts["notes"] = (*run.notes, "the script ended before the probe had everything it wanted")
    return Evidence(
        run=run.model_copy(update=facts),
        absent={name: absence for name, absence in absent.items() if name not in parts},
        **{name: part for name, part in parts.items() if name != "run"},
    )


def _done_again(before: Ending, ending: Ending) -> dict[str, Part]:
    """What the end of the script's loop had cut short in the start before, where it was not cut short once more."""
    if not ending.finished:
        return {}
    waiting = set(pending(before)) - set(pending(ending))
    return {name: part for name, part in ending.gathered.parts.items() if name in waiting and name != "trials"}


def _traced(later: Mapping[str, Part]) -> dict[str, Part]:
    """Where the NaN comes from may be traced by a later start alone: it knows more than the first one."""
    found = later.get("nonfinite")
    return {"nonfinite": found} if isinstance(found, Nonfinite) and found.traced else {}


def _all_trials(before: Mapping[str, Part], later: Mapping[str, Part]) -> dict[str, Part]:
    """Each start adds to what was tried."""
    found = [part for parts in (before, later) if isinstance(part := parts.get("trials"), Trials)]
    runs = tuple(run for part in found for run in part.runs)
    return {"trials": found[0].model_copy(update={"runs": runs})} if found else {}


def _account(asked: Run, ending: Ending) -> Run:
    """The child's own account of the run. What does not fit the model is left out with a note: a report must come."""
    known = asked.model_dump(include={"target", "args", "module"})
    said = {key: value for key, value in ending.gathered.run.items() if key in Run.model_fields and value is not None}
    notes = list(ending.problems)
    try:
        run = Run.model_validate({**asked.model_dump(), **said, **known})
    except ValidationError as wrong:
        bad = {str(error["loc"][0]) for error in wrong.errors()}
        notes.append(f"the probe's account of the run was damaged: {', '.join(sorted(bad))}")
        good = {key: value for key, value in said.items() if key not in bad}
        run = Run.model_validate({**asked.model_dump(), **good, **known})
    return run.model_copy(update={"notes": (*run.notes, *notes)})


def _union(ours: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*ours, *theirs)))


def pending(ending: Ending) -> tuple[str, ...]:
    """Parts that a second start of the child could gather."""
    names = ending.gathered.run.get("pending")
    known = part_types()
    return tuple(dict.fromkeys(name for name in names if name in known)) if isinstance(names, list) else ()


def failed(ending: Ending) -> bool:
    """The script ended badly before everything was gathered."""
    crashed = bool(ending.gathered.run.get("crash"))
    if ending.interrupted:
        return False
    if ending.timed_out:
        return crashed  # and then hung: in an excepthook that starts a debugger, for example
    if ending.finished:
        return crashed and not steps(ending)
    return crashed or ending.killed_by is not None or bool(ending.exit_code)


def steps(ending: Ending) -> int:
    """Optimizer steps seen, also of a child that did not live to sum them up."""
    run = ending.gathered.run
    crash = run.get("crash")
    counts = [
        run.get("steps"),
        ending.steps_seen,
        len(getattr(ending.gathered.parts.get("trajectory"), "losses", ())),
        crash.get("step") if isinstance(crash, dict) else 0,
    ]
    return max(count for count in counts if isinstance(count, int))


def _status(first: Ending, last: Ending) -> Status:
    if last.interrupted:
        return Status.INTERRUPTED
    if failed(first):
        return Status.SCRIPT_FAILED
    if first.timed_out:
        return Status.TIMEOUT
    return Status.COMPLETED if steps(first) else Status.NOTHING_TO_AUDIT


def _crash(ending: Ending) -> Crash:
    """What is known of a death that the child itself could not report."""
    if ending.killed_by is None:
        message = f"the script ended with exit code {ending.exit_code}"
        return Crash(kind="SystemExit", message=message, step=steps(ending))
    try:
        number = signal.Signals(ending.killed_by)
        meaning = (signal.strsignal(number) or "").lower()
        message = f"{number.name}: {meaning}{_SIGNAL_HINTS.get(number, '')}"
    except ValueError:
        message = f"signal {ending.killed_by}"
    return Crash(kind="signal", message=message, step=steps(ending))
