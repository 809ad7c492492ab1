"""Trials that the parent asks for: the child says that it is ready, waits for the requests, and runs them."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from auditor.evidence import TrialRun, Trials
from auditor.probe.experiments import Planned
from auditor.probe.experiments.trial import STEPS, trial
from auditor.probe.replay import Experiment, LoopOver
from auditor.spec import Requests, TrialRequest, requests_file

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

PATIENCE = 20.0  # seconds for an answer
POLL = 0.01
WORTH_ASKING = 2.0  # seconds that have to be left
SHARE = 0.5  # of the time that is left when a trial starts


class RequestedTrials:
    """Asks until the parent wants nothing more."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._runs: list[TrialRun] = []
        self.over = not (probe.spec.trials and probe.spec.experiments and probe.alone)

    def ask(self, until: float) -> list[Planned]:
        """The trials to run next; none when the parent wants no more, or does not answer."""
        if self.over or until - time.monotonic() < WORTH_ASKING:
            return []
        answer = self._wait(min(until, time.monotonic() + PATIENCE))
        self.over = not answer.trials
        return [self._planned(request) for request in answer.trials]

    def _wait(self, until: float) -> Requests:
        place = requests_file(self._probe.spec.run_dir)
        self._probe.sink.write("run", waiting=True)
        while time.monotonic() < until:
            if place.exists():
                answer = Requests.model_validate_json(place.read_text(encoding="utf-8"))
                place.unlink()
                return answer
            time.sleep(POLL)
        return Requests()

    def _planned(self, request: TrialRequest) -> Planned:
        name = "try " + " and ".join(remedy.kind.value for remedy in request.remedies)
        return Planned("trials", name, 2 * STEPS, SHARE, lambda: self._run(request))

    def _run(self, request: TrialRequest) -> Experiment:
        with suppress(LoopOver):  # a later start tries it
            self._runs.append((yield from trial(self._probe, request.remedies, request.base)))
        return Trials(runs=tuple(self._runs), fidelity=self._probe.fidelity)
