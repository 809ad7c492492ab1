"""Audits random training scripts: what must hold for every script that trains, whatever it is made of.

    python tests/property/random_scripts.py --count 200 --seed 0 [--keep FOLDER] [--only SEED]

Each script is run bare and watched, which must compute the same to the last bit, and audited with experiments, which
must end well and must not fail inside. What breaks is printed, and with --keep its script is written to the folder.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import script_writer as writer

HERE = Path(__file__).absolute().parent


def _module(name: str, path: Path) -> ModuleType:
    """The helpers of the probe's tests, which are no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


probing = _module("property_probing", HERE.parent / "probe" / "conftest.py")

TRAILER = """
import hashlib
note(
    losses=[float(value).hex() for value in losses],
    weights=[hashlib.sha256(repr(w.detach().reshape(-1).tolist()).encode()).hexdigest() for w in weights],
)
"""
STEPS = (20, 30, 60)
MOST_STARTS = 3
SECONDS = 200.0  # for one start of the child
# How the audit says that it failed itself, wherever it says so.
OWN_FAILURES = ("audit itself failed", "inside the audit", "comparing failed", "could not be read", "was damaged",
                "rule itself failed")  # fmt: skip


def problems(zygote: Any, seed: int) -> list[str]:
    """What is wrong with the audit of one script; empty when everything holds."""
    script = writer.write(seed)
    bare = zygote.bare(script.text + TRAILER)
    if bare.exit_code or len(bare.notes) != 1:
        return [f"the script itself fails: {_last(bare.output)}"]
    seen = zygote.probe(script.text + TRAILER, steps=100_000)
    found = []
    if seen.notes != bare.notes:
        found.append(f"watched: {_difference(bare.notes[0], seen.notes[0] if seen.notes else {})}")
    found += [f"watched: {text}" for text in _failures(seen.exit_code, _finished(seen), seen.output)]
    audit, output = audited(zygote, script.text, STEPS[seed % len(STEPS)])
    return found + [f"audited: {text}" for text in _failures(0, audit, output)]


def audited(zygote: Any, text: str, steps: int) -> tuple[Any, str]:
    """The audit with experiments and all rules, as `audit run` makes it of the starts of the child."""
    from auditor.assemble import pending
    from auditor.assemble import steps as counted
    from auditor.supervisor import Ending

    endings: list[Any] = []
    output, parts, attempt = "", (), 0
    while attempt < MOST_STARTS and (not endings or (parts and counted(endings[0]))):
        length = endings[0].gathered.run.get("loop_steps") if endings else None
        spec = {"steps": steps, "parts": parts, "attempt": attempt, "loop_steps": length}
        seen = zygote._run(text, (), spec, seconds=SECONDS)
        endings.append(Ending(gathered=seen.gathered, exit_code=seen.exit_code))
        output += seen.output
        before, parts, attempt = parts, pending(endings[-1]), attempt + 1
        if parts == before:
            break
    return _judged(endings), output


def _finished(seen: Any) -> Any:
    from auditor.supervisor import Ending

    return _judged([Ending(gathered=seen.gathered, exit_code=seen.exit_code)])


def _judged(endings: list[Any]) -> Any:
    from auditor.assemble import assemble
    from auditor.evidence import Run
    from auditor.judge import judge
    from auditor.registry import rules

    return judge(assemble(Run(target="train.py"), endings, 1.0), rules())


def _failures(code: int, audit: Any, output: str) -> list[str]:
    run = audit.run
    found = [f"exit code {code}: {_last(output)}"] if code else []
    if run.status != "completed":
        crash = f"{run.crash.kind}: {run.crash.message}" if run.crash else _last(output)
        found.append(f"status {run.status}: {crash}")
    said = [*run.notes, *audit.notes, *(phase.reason for phase in run.phases if phase.status == "failed")]
    said += [f"{verdict.rule}: {verdict.reason}" for verdict in audit.verdicts]
    said += [f"{name}: {absence.reason}" for name, absence in audit.evidence.absent.items()]
    found += [text for text in said if any(words in text for words in OWN_FAILURES)]
    found += [f"{v.rule}: outcome error: {v.reason}" for v in audit.verdicts if v.outcome == "error"]
    found += [note for note in run.notes if "during an experiment the script raised" in note]
    return found


def _difference(bare: dict[str, Any], seen: dict[str, Any]) -> str:
    for name in ("losses", "weights"):
        ours, theirs = bare[name], seen.get(name, [])
        if ours != theirs:
            first = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), len(theirs))
            return f"{name} differ from number {first} of {len(ours)}; {len(theirs)} were computed"
    return "nothing"


def _last(output: str) -> str:
    return (output.strip().splitlines() or ["no output"])[-1][:300]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one seed, with its script and the output of its runs")
    parser.add_argument("--keep", type=Path, help="folder for scripts whose audit breaks")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.count) if options.only is None else [options.only]
    began = time.monotonic()
    broken, features = 0, Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        zygote = probing.Zygote(Path(folder))
        try:
            for done, seed in enumerate(seeds):
                print(f"\r{done}/{len(seeds)} ", end="", file=sys.stderr, flush=True)
                script = writer.write(seed)
                if options.only is not None:
                    print(script.text)
                features.update(script.features)
                wrong = problems(zygote, seed)
                broken += bool(wrong)
                for text in wrong:
                    print(f"{seed}: {text}", flush=True)
                if wrong and options.keep:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    (options.keep / f"{seed}.py").write_text(script.text)
        finally:
            zygote.close()
    seconds = time.monotonic() - began
    print(f"{len(seeds)} scripts in {seconds:.0f} s, {broken} broken; {len(features)} options were drawn")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
