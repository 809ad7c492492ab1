"""The director: observation first, then the experiments, one replay after the other, all inside the user's own loop."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Literal

from auditor.evidence import Part, Phase
from auditor.probe.augmentscan import scan_augmentation
from auditor.probe.ending import end_process
from auditor.probe.experiments import Planned, plan
from auditor.probe.experiments.trial import STEPS as TRIAL_STEPS
from auditor.probe.groupscan import scan_groups
from auditor.probe.leakscan import scan
from auditor.probe.nearscan import scan_near_duplicates
from auditor.probe.parts.ranks import world
from auditor.probe.player import Player
from auditor.probe.replay import Experiment, NotRun, Trail
from auditor.probe.requested import RequestedTrials
from auditor.probe.steps import StepSeen
from auditor.probe.streamscan import scan_stream

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

OBSERVATION_SHARE = 0.4  # of the time budget, at most, when experiments are to follow
LOOK_ON_SHARE = 0.1  # of the time budget, at most, for what comes late
SETTLE = 0.5  # seconds kept for the last words
PROGRESS_SECONDS = 0.2
EARLY_SHARE = 0.005  # of the time may go into that
EARLY_STEP, EARLY_SECONDS = 3, 3.0  # when what was seen is sent before the end of the observation
NEW_START_SHARE = 0.1  # of the time that is left, at most, for the way to the first experiment of another start
FEWEST_STEPS = 20  # of a loop whose end is known, for one more experiment


class Director:
    """State machine over the ends of steps."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.player = Player(probe)
        self.steps_to_observe = probe.spec.steps
        self.observing = True
        self.observed = 0
        self.looking_on = False
        self.looked_on = 0  # steps
        self.trainer: threading.Thread | None = None  # the thread of the first step
        self.phases: list[Phase] = []
        self._began = self._phase_began = time.monotonic()
        # Replays without what is tried, by seed, order, and what both arms have in common.
        self.controls: dict[tuple[int | None, bool, tuple[object, ...]], Trail] = {}
        self.answers: dict[str, Part] = {}  # of the experiments so far, by part
        self._planned: list[Planned] = []
        self._requested = RequestedTrials(probe)
        self._pending: list[str] = []  # parts for a later start of the script
        self._now: Planned | None = None
        self._experiment: Experiment | None = None
        self._steps_done = 0
        self._began_at = 0  # steps that the script had taken when the running experiment began
        self._last_progress = 0.0
        self._send_early_at = time.monotonic() + EARLY_SECONDS
        self._script_over = False
        self.loop_ended = False  # by itself, not by an exception
        self._until = probe.spec.deadline

    # ------------------------------------------------------------------------------------------------------ observation

    def first_step_begins(self) -> None:
        """Start-up is over: the clock of the observation starts."""
        self.trainer = threading.current_thread()
        self._phase("start-up", "completed", 0)

    def step_ended(self, step: StepSeen) -> None:
        if self.looking_on:
            self._looked_on()
            return
        if self.observing:
            self._observed()
            return
        if self._probe.loop.replaced_after is not None:  # what was rewound is not what is trained now
            self.script_ended()
            self._conclude()
        trail = self.player.step_ended(step, self.affordable_steps())
        if trail is not None:
            self._steps_done += len(trail.losses)
            if not self._advance(trail):
                self._next_experiment()
        elif self._now is not None and self.player.request is not None:
            self.progress(self._now.name, self.player.replayed, self.player.request.steps)

    def _observed(self) -> None:
        self.observed += 1
        self._probe.sink.count(self.observed)
        self.progress("observe", self.observed, self.steps_to_observe)
        if self.observed >= self.steps_to_observe:
            if not self._begin_to_look_on():
                self.finish_observation()
                self._next_experiment()
        elif self._observation_time_is_up():
            self.finish_observation("the time budget")
            self._next_experiment()
        else:
            self._send_early()

    def _begin_to_look_on(self) -> bool:
        """Some of what a loop does comes late: an evaluation every hundred steps, a loss that breaks down. So it may go
        on as it is for a while, watched by the few collectors that such things concern."""
        probe = self._probe
        if not probe.spec.look_on or probe.spec.attempt or not probe.alone or not probe.collectors.look_on():
            return False
        self._send_observation("", on=True)
        self.observing = self.looking_on = True
        return True

    def _looked_on(self) -> None:
        self.looked_on += 1
        self.progress("look on", self.looked_on, self._probe.spec.look_on)
        budget = LOOK_ON_SHARE * (self._probe.spec.deadline - self._began)
        if self.looked_on >= self._probe.spec.look_on or time.monotonic() - self._phase_began > budget:
            self.finish_observation()
            self._next_experiment()

    def _send_early(self) -> None:
        """Between two steps, now and then."""
        now = time.monotonic()
        if self.observed == EARLY_STEP or now > self._send_early_at:
            self._probe.collectors.emit_early()
            took = time.monotonic() - now
            self._send_early_at = now + max(EARLY_SECONDS, took / EARLY_SHARE)

    def _observation_time_is_up(self) -> bool:
        left = self._probe.spec.deadline - time.monotonic()
        if not self._probe.spec.experiments or not self._probe.alone:  # ranks stop together, at the deadline
            return left < SETTLE
        return time.monotonic() - self._phase_began > OBSERVATION_SHARE * (self._probe.spec.deadline - self._began)

    def finish_observation(self, cut_by: str = "") -> None:
        """Send all that was observed, and look into the data sets. Called once, also when the script ends early."""
        probe = self._probe
        self._send_observation(cut_by)
        if probe.spec.wants("leakage"):
            self.progress("compare data sets", 0, 0)
            incomplete = scan(probe)
            self._phase("compare data sets", "cut-short" if incomplete else "completed", 0, incomplete)
        scans = (
            ("groups", scan_groups),
            ("near_duplicates", scan_near_duplicates),
            ("augmentation", scan_augmentation),
            ("sample_order", scan_stream),
        )
        for part, look in scans:
            if probe.spec.wants(part):
                look(probe)
        self._planned = plan(probe)
        ranks = world()[1]
        if not probe.spec.experiments:
            self._turn_down("experiments were switched off", pending=False)
        elif ranks > 1:
            self._turn_down(
                f"the script trains in {ranks} processes at once: an experiment in one of them would leave the others "
                "waiting for it",
                pending=False,
            )

    def _send_observation(self, cut_by: str, on: bool = False) -> None:
        if self.looking_on:
            self._send_what_came_late()
            return
        self.observing = False
        self._probe.hears_metrics = self._probe.hears_dropout = False
        with self._probe.paused():
            self._probe.collectors.emit(on=on)
        reason = f"ended by {cut_by} after {self.observed} of {self.steps_to_observe} steps" if cut_by else ""
        self._phase("observe", "cut-short" if cut_by else "completed", self.observed, reason)
        self._probe.sink.write("run", steps=self.observed)

    def _send_what_came_late(self) -> None:
        self.observing = self.looking_on = False
        self._probe.hears_metrics = self._probe.hears_dropout = False
        with self._probe.paused():
            self._probe.collectors.emit(late=True)
        self._phase("look on", "completed", self.looked_on)

    # ------------------------------------------------------------------------------------------------------ experiments

    def _next_experiment(self) -> None:
        while self._planned or self._ask_for_trials():
            if self._loop_steps_left() < FEWEST_STEPS:
                self._turn_down(f"the script's loop is over after {self._probe.spec.loop_steps} steps", pending=True)
                break
            self._now = self._planned.pop(0)
            left = self._probe.spec.deadline - SETTLE - time.monotonic()
            self._until = time.monotonic() + self._now.share * left
            self._experiment = self._now.start()
            self._steps_done, self._began_at = 0, self._probe.steps_taken
            if self._advance(None):
                self._probe.sink.write("run", tried=True)
                return
        self._conclude()

    def _ask_for_trials(self) -> bool:
        length = self._probe.spec.loop_steps
        if length is not None and self._loop_steps_left() < min(2 * TRIAL_STEPS, length // 2):
            self._leave_trials_pending()
            return False
        with self._probe.paused():
            self._planned = self._requested.ask(self._probe.spec.deadline - SETTLE)
        return bool(self._planned)

    def _leave_trials_pending(self) -> None:
        if not self._requested.over:
            self._pending.append("trials")
            self._probe.sink.write("run", pending=self._pending)
            self._requested.over = True

    def _advance(self, trail: Trail | None, more: bool = True) -> bool:
        """Give the experiment its trail. True when a further replay of it is under way."""
        while self._experiment is not None and self._now is not None:
            try:
                request = self._experiment.send(trail) if trail is not None else next(self._experiment)
            except StopIteration as end:
                if self._now.part:
                    self.answers[self._now.part] = end.value
                    self._probe.sink.part(self._now.part, end.value)
                self._phase(self._now.name, "completed", self._steps_done)
                break
            except NotRun as why:
                self._not_run(why)
                break
            except Exception as bug:
                self._not_run(NotRun(f"it failed inside the audit: {type(bug).__name__}: {bug}"), "failed")
                break
            affordable = self.affordable_steps()
            wanted = request.steps if self._steps_done else max(request.steps, self._now.steps)
            if more and affordable < wanted and self._better_in_a_new_start():
                self._postpone()
                return False
            if more and affordable >= request.fewest:
                self.player.start(request, min(request.steps, affordable))
                return True
            trail = Trail(
                asked=request.steps,
                fewest=request.fewest,
                ended="not-started" if self._has_time(more) else "script-ended",
            )
        self._experiment = None
        return False

    def _better_in_a_new_start(self) -> bool:
        """The end of the script's loop leaves fewer steps than the running experiment asks for, since others came
        before it; a start of its own costs little."""
        assert self._now is not None
        begins = [phase.seconds for phase in self.phases if phase.name in ("start-up", "observe")]
        cheap = sum(begins) < NEW_START_SHARE * (self._probe.spec.deadline - time.monotonic())
        return (
            bool(self._now.part)
            and self._has_time(True) is False
            and self._began_at > self.observed + FEWEST_STEPS
            and cheap
        )

    def _postpone(self) -> None:
        """The running experiment, and all that are planned, are for a further start of the script."""
        assert self._now is not None
        reason = f"the script's loop has too few steps left before its end, after {self._probe.spec.loop_steps}"
        self._phase(self._now.name, "skipped", self._steps_done, f"{reason}: it is for another start")
        self._planned.insert(0, self._now)
        self._experiment = None
        self._turn_down(reason, pending=True)

    def _not_run(self, why: NotRun, status: Literal["skipped", "failed"] = "skipped") -> None:
        assert self._now is not None
        self._phase(self._now.name, status, self._steps_done, str(why))
        if self._now.part:
            self._probe.sink.absent(self._now.part, why.outcome, str(why))
        else:  # the rewind check failed: what follows would rest on sand
            self._requested.over = True
            self._turn_down(
                str(why), pending=self._script_over or self._probe.loop.replaced_after is not None, outcome=why.outcome
            )

    def _turn_down(
        self, reason: str, pending: bool, outcome: Literal["not-applicable", "inconclusive"] = "inconclusive"
    ) -> None:
        """Say of every planned experiment why it will not run."""
        parts = [planned.part for planned in self._planned if planned.part]
        for part in parts:
            self._probe.sink.absent(part, outcome, reason)
        if pending and parts:
            self._pending = parts
            self._probe.sink.write("run", pending=parts)
        if pending:
            self._leave_trials_pending()
        self._planned = []

    def step_seconds(self) -> float:
        """Mean seconds of an observed step, evaluation and data included: what the budget really pays."""
        observed = [phase.seconds for phase in self.phases if phase.name == "observe"]
        seconds = observed[0] if observed else time.monotonic() - self._phase_began
        return max(seconds / max(1, self.observed), 1e-5)

    def watches_modules(self) -> bool:
        """Whether the coming step wants to know which module is running."""
        if self.observing:
            return self._probe.collectors.watches(self._probe.position)
        return self.player.follows_modules()

    def affordable_steps(self) -> int:
        """Steps that the running experiment can still take within its share of the time."""
        return min(int((self._until - time.monotonic()) / self.step_seconds()), self._loop_steps_left())

    def _has_time(self, more: bool) -> bool:
        """Whether it is the clock, not the end of the script's loop, that limits the experiments."""
        return more and self._loop_steps_left() > (self._until - time.monotonic()) / self.step_seconds()

    def _loop_steps_left(self) -> int:
        """Steps before the script's loop ends by itself, as an earlier start has shown; many where unknown."""
        length = self._probe.spec.loop_steps
        return 10**9 if length is None else length - self._probe.steps_taken - 1

    # ------------------------------------------------------------------------------------------------------- the end

    def script_ended(self, why: str = "") -> None:
        """The user's loop is over before the audit was: by its own end, or by an exception."""
        how = why or "the script's loop ended by itself"
        self.loop_ended = not why
        pending = not why
        self._script_over = (
            pending or not self.observing
        )  # by an exception amid an experiment, a new start may fare better
        # A loop that ends with its loader does not end while the loader is fed by us, and has no length then.
        if not why and self._probe.feed.cut_at is None and not self._probe.feed.exhausted:
            length = self._probe.loop.replaced_after or self._probe.steps_taken
            self._probe.sink.write("run", loop_steps=length)
        if self.observing:
            if self._probe.loop.backwards:
                self.finish_observation(how)
        elif self._experiment is not None and self._now is not None and self.player.request is not None:
            cut = self._now
            trail = self.player.script_ended()
            self._steps_done += len(trail.losses)
            self._advance(trail, more=False)
            if not why and cut.part and len(trail.losses) < trail.asked:
                self._planned.insert(0, cut)
            pending = True  # an exception under our interventions: the other experiments may fare better
        self._turn_down(f"{how} before this experiment was done", pending=pending)

    def stopped(self, why: str) -> None:
        """The audit has to end at once: what is known is sent, and nothing more is tried."""
        if self.observing:
            if self._probe.loop.backwards:
                self._send_observation(why)
            return
        reason = f"{why} ended the audit before this experiment was done"
        if self._now is not None and self._now.part:
            self._probe.sink.absent(self._now.part, "inconclusive", reason)
        self._turn_down(reason, pending=False)

    def give_up(self, reason: str) -> None:
        """A failure of our own amid the experiments: what was gathered counts, the rest is said to be missing."""
        if self._now is not None and self._now.part:
            self._probe.sink.absent(self._now.part, "inconclusive", reason)
        self._turn_down(reason, pending=False)
        self._conclude()

    def _conclude(self) -> None:
        """Everything is done: end the process here and now. None of the user's `finally`, `except` or atexit code
        runs: half-trained models must not be saved or reported as results."""
        self._probe.say_last_words(finished=True)
        end_process(0)

    # ------------------------------------------------------------------------------------------------------- reporting

    def _phase(
        self, name: str, status: Literal["completed", "cut-short", "skipped", "failed"], steps: int, reason: str = ""
    ) -> None:
        now = time.monotonic()
        seconds = round(now - self._phase_began, 4)
        self.phases.append(Phase(name=name, status=status, seconds=seconds, steps=steps, reason=reason))
        self._phase_began = now
        self._probe.sink.write("run", phases=[phase.model_dump(mode="json") for phase in self.phases])

    def progress(self, phase: str, step: int, of: int) -> None:
        now = time.monotonic()
        if now - self._last_progress > PROGRESS_SECONDS or step in (0, of):
            self._last_progress = now
            steps = max(0, of - step) + sum(planned.steps for planned in self._planned)
            self._probe.sink.progress(phase, step, of, steps * self.step_seconds() if self.observed else None)
