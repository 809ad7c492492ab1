"""One audit from start to verdict: start the probe, gather, judge."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from auditor.assemble import assemble, failed, pending, steps
from auditor.capture import Capture
from auditor.config import Settings
from auditor.declare import Rule
from auditor.errors import AuditError
from auditor.evidence import Asked, Evidence, Ranks, Run, Status, part_types
from auditor.ranks import RankFolder
from auditor.result import Audit
from auditor.scratch import diverted_files, scratch_folder
from auditor.script import find_module, find_script, syntax_crash
from auditor.spec import ProbeSpec, Progress, Requests
from auditor.supervisor import Ending, Interrupts, watch
from auditor.untrusted import one_line
from auditor.withheld import without_samples

JUDGING_RESERVE = 2.0  # seconds kept from the time limit for judging and reports
LATER_START_STEPS = 8  # observed when the script is started again only to finish its experiments
LATER_START = 8.0  # seconds that must be left for a second start of the child to be worth it
MOST_STARTS = 9
Listener = Callable[[Progress | None], None]


@dataclass(frozen=True)
class Request:
    """What to audit and how, besides the settings."""

    target: str
    args: tuple[str, ...] = ()
    module: bool = False
    experiments: bool = True
    side_effects: Literal["divert", "allow"] = "divert"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int | None = None
    stdout_to_stderr: bool = False
    samples: bool = True  # may stand in the evidence

    def run(self, settings: Settings) -> Run:
        """What the parent knows of the run before it begins."""
        version, asked = sys.version.split()[0], self.asked(settings)
        return Run(target=self.target, args=self.args, module=self.module, seed=self.seed, python=version, asked=asked)

    def asked(self, settings: Settings) -> Asked:
        """The options in force."""
        return Asked(
            steps=settings.steps,
            look_on=settings.look_on,
            max_time=settings.max_time,
            batch_memory=settings.batch_memory,
            group_key=settings.group_key,
            device=self.device,
            side_effects=self.side_effects,
            experiments=self.experiments,
            trials=self.experiments and settings.trials,
            samples=self.samples,
        )

    def locate(self) -> Path | None:
        """The file to be run, None for a module without source. Raises AuditError when there is none."""
        return find_module(self.target) if self.module else find_script(self.target)


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
    side_effects: Literal["divert", "allow"] = "divert",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    seed: int | None = None,
    show_output: bool = False,
) -> Audit:
    """Run a training script under observation and judge it; what `audit run` does, without writing anything.

    The script runs in a process of its own. Its failure, hang or death does not raise: `Audit.run.status` tells.
    Raises AuditError when the target or the settings cannot be used.
    """
    request = Request(str(target), tuple(args), module, experiments, side_effects, device, seed)
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
    from auditor import together
    from auditor.judge import judge
    from auditor.registry import UnknownRule
    from auditor.registry import rules as installed
    from auditor.static import facts
    from auditor.trials import wanted

    if not hasattr(os, "killpg"):
        raise AuditError("running a script under observation needs Linux or macOS")
    settings = settings or Settings()
    known = tuple(rules) if rules is not None else installed()
    try:
        tries = request.experiments and settings.trials
        parts = parts_wanted(settings.selected(known), known, trials=tries)
    except UnknownRule as why:
        raise AuditError(str(why)) from None
    started = time.monotonic()
    path = request.locate()
    broken = syntax_crash(path) if path is not None else None
    if broken is not None:
        run = request.run(settings).model_copy(update={"status": Status.SCRIPT_FAILED, "crash": broken, "exit_code": 1})
        return Outcome(judge(Evidence(run=run), known, settings))
    interrupts = Interrupts()

    def evidence(endings: Sequence[Ending]) -> Evidence:
        found = assemble(request.run(settings), endings, time.monotonic() - started)
        if path is not None and (not parts or "source" in parts):
            found = found.model_copy(update={"source": facts.of_script(path)})
        return found if request.samples else without_samples(found)

    def advise(endings: Sequence[Ending]) -> Requests:
        audit = judge(evidence(endings), known, settings, diffs=False)
        asked = wanted(audit)
        whole = together.request(audit.findings, audit.evidence) if not asked.trials else None
        return Requests(trials=(whole,)) if whole is not None else asked

    ranks = RankFolder(os.environ)
    with interrupts.watching():
        probe = _Probe(request, settings, parts, path, command, capture, interrupts, listen, advise)
        endings = probe.run(started)
        own = endings[0].gathered.parts.get("ranks")
        if isinstance(own, Ranks):
            endings[0].gathered.parts["ranks"] = ranks.exchange(own, lambda: interrupts.count > 0)
    if endings[0].exit_code and not endings[0].records:
        last = capture.last_lines(1) if capture is not None else ""
        raise AuditError(f"the probe did not start: {one_line(last, 300) or f'exit code {endings[0].exit_code}'}")
    return Outcome(judge(evidence(endings), known, settings), interrupts.signal if endings[-1].interrupted else None)


def parts_wanted(chosen: Sequence[Rule], known: Sequence[Rule], *, trials: bool = False) -> tuple[str, ...]:
    """Evidence fields that the chosen rules need, and the trials of what they find; empty, which means all, when every
    rule is chosen."""
    if len(chosen) == len(known):
        return ()
    needed = {need.evidence for rule in chosen for need in rule.needs} - {"run"}
    if trials and needed - {"source"}:
        needed.add("trials")
    return tuple(name for name in part_types() if name in needed) or ("program",)


def _fewer(steps: int, loop_steps: int | None) -> int:
    """To observe in a later start, before experiments that want many batches and many steps of the loop."""
    return steps if loop_steps is None else min(steps, max(LATER_START_STEPS, loop_steps // 4))


@dataclass(frozen=True)
class _Probe:
    """Starts the child, and again while experiments could not run since the script's loop ended."""

    request: Request
    settings: Settings
    parts: tuple[str, ...]
    path: Path | None
    command: Sequence[str] | None
    capture: Capture | None
    interrupts: Interrupts
    listen: Listener | None
    advise: Callable[[Sequence[Ending]], Requests]

    def run(self, started: float) -> list[Ending]:
        limit = self.settings.max_time
        deadline = started + limit - min(JUDGING_RESERVE, limit / 4)
        enough = self.settings.steps
        endings = [self._start([], self.parts, deadline, enough)]
        again = self._again(endings) if steps(endings[0]) else ()  # without a loop it would end the same way
        while again and len(endings) < MOST_STARTS and not self.interrupts.count and not failed(endings[0]):
            if deadline - time.monotonic() < min(LATER_START, limit / 4):
                break
            length = endings[0].gathered.run.get("loop_steps")
            known = length if isinstance(length, int) else None
            if endings[-1].gathered.run.get("tried") or again == ("trials",):
                # What was to be seen was seen before; experiments want many batches, and many steps of the loop.
                enough = _fewer(self.settings.steps, known)
            endings.append(self._start(endings, again, deadline, enough, known))
            still = self._again(endings)
            # Without progress it would end the same way once more.
            again = still if still != again or "trials" in endings[-1].gathered.parts else ()
        return endings

    def _again(self, endings: Sequence[Ending]) -> tuple[str, ...]:
        """What a further start is for: experiments that are pending, which may find what is worth a trial, and trials
        where something is worth one already."""
        waiting = pending(endings[-1])
        return () if waiting == ("trials",) and not self.advise(endings).trials else waiting

    def _start(
        self,
        before: Sequence[Ending],
        parts: tuple[str, ...],
        deadline: float,
        observe: int,
        loop_steps: int | None = None,
    ) -> Ending:
        request, attempt = self.request, len(before)
        with scratch_folder() as run_dir:
            spec = ProbeSpec(
                target=request.target,
                args=request.args,
                module=request.module,
                run_dir=str(run_dir),
                steps=observe,
                look_on=0 if attempt else self.settings.look_on,
                batch_memory=self.settings.batch_memory,
                group_key=self.settings.group_key,
                deadline=deadline,
                experiments=request.experiments,
                trials=request.experiments and self.settings.trials and (not parts or "trials" in parts),
                side_effects=request.side_effects,
                parts=parts,
                attempt=attempt,
                loop_steps=loop_steps,
                device=request.device,
                seed=request.seed,
                stdout_to_stderr=request.stdout_to_stderr,
            )
            ending = watch(
                spec,
                command=self.command,
                capture=self.capture,
                interrupts=self.interrupts,
                listen=self.listen,
                advise=lambda ending: self.advise((*before, ending)),
            )
            ending.gathered.run.setdefault("diverted", diverted_files(run_dir / "files"))
            return ending
