"""The child's entry: reads the spec, puts the taps in place, runs the script, says the last words."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from auditor.probe.elsewhere import follow_spawned, trained_elsewhere
from auditor.probe.ending import end_process, end_when_asked, wait_for_threads
from auditor.probe.guard import Diversion, go_offline
from auditor.probe.locate import traceback_location, without_ours
from auditor.probe.script import run_as_main
from auditor.spec import ProbeSpec, Sink


def main() -> NoReturn:
    spec = ProbeSpec.model_validate(json.loads(Path(sys.argv[1]).read_text(encoding="ascii")))
    run_dir = Path(spec.run_dir)
    if spec.stdout_to_stderr:
        os.dup2(2, 1)
    sink = Sink(run_dir / "events.jsonl")
    sink.progress("start")
    import torch

    from auditor.probe.probe import Probe
    from auditor.probe.taps import install

    torch.compiler.set_stance("force_eager")  # compiled modules hide what happens inside them
    if spec.seed is not None:
        from auditor.probe.randomness import reseed

        reseed(spec.seed)
    probe = Probe(spec, sink)
    install(probe)
    if spec.side_effects == "divert":
        go_offline(run_dir / "trackers")
        probe.diversion = Diversion(str(run_dir / "files"))
        probe.diversion.install()
    follow_spawned(str(run_dir), spec.side_effects == "divert")
    end_when_asked(probe)
    probe.say_last_words(finished=False)  # python and torch, in case there are no later ones
    end_process(_run(probe))


def _run(probe: Any) -> int:
    """The script's exit code."""
    spec = probe.spec
    try:
        script = run_as_main(spec.target, spec.args, spec.module)
        wait_for_threads(probe)
        if not probe.loop.backwards and not trained_elsewhere(spec.run_dir):
            from auditor.probe.target import train_target

            train_target(probe, script)
    except SystemExit as stop:
        return _exited(probe, stop)
    except BaseException as error:
        return _crashed(probe, error)
    probe.director.script_ended()
    probe.say_last_words(finished=True)
    return 0


def _exited(probe: Any, stop: SystemExit) -> int:
    code = stop.code
    if code is None or code == 0:
        wait_for_threads(probe)
        probe.director.script_ended()
        probe.say_last_words(finished=True)
        return 0
    if not isinstance(code, int):
        print(code, file=sys.stderr)
    number = code if isinstance(code, int) else 1
    _report_crash(probe, "SystemExit", str(code), "", stop.__traceback__, number)
    return number


def _crashed(probe: Any, error: BaseException) -> int:
    shown = without_ours(error.__traceback__)
    text = "".join(traceback.format_exception(type(error), error.with_traceback(shown), shown))
    code = 130 if isinstance(error, KeyboardInterrupt) else 1
    _report_crash(probe, type(error).__name__, _message(error), text, error.__traceback__, code)
    with contextlib.suppress(BaseException):  # the script may have put one of its own there
        sys.excepthook(type(error), error, shown)
    return code


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "its message cannot be printed"


def _report_crash(probe: Any, kind: str, message: str, text: str, tb: TracebackType | None, code: int) -> None:
    """A crash while the loop runs under our interventions is not held against the script."""
    observing = probe.director.observing
    probe.director.script_ended(f"an exception ({kind}: {message[:200]})")
    if observing:
        location = traceback_location(tb)
        crash = {
            "kind": kind,
            "message": message[:2000],
            "traceback": text[-20000:],
            "location": location.model_dump(mode="json") if location else None,
            "step": probe.position,
        }
        probe.sink.write("run", crash=crash, exit_code=code)
    else:
        probe.notes.append(f"during an experiment the script raised {kind}: {message[:200]}")
    probe.say_last_words(finished=not observing)
