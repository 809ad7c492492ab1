"""How often the audit is right: every rule, with its default limits, on programs that no limit was set on.

    make corpus                                       the table of the README, from the programs that are reported on
    python tests/benchmarks/corpus.py --half tuning   the others, on which limits may be set
    python tests/benchmarks/corpus.py NAME ...        single programs, with all that was found

Each folder of fixtures/unseen and fixtures/corpus holds a faulty program with its fixed twin, or a healthy one, written
without looking at the rules. The unseen ones are reported on: nobody who works on the rules looks at them. Those of the
corpus are for tuning, and so are the pairs beside the rules' own folders and fixtures/healthy: their rules were made
with them. When unseen programs have been looked at, they move to the corpus, and others take their place.

Every program is audited as a copy. What `audit fix` writes is audited again, to see whether the finding is gone.

A faulty program counts as detected when the audit reports an error or a warning, or names the cause. The right cause is
first when the first finding is of a rule that fault.toml names. Twins and healthy programs must have no error; their
warnings are counted. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
sys.path.insert(0, str(ROOT / "tests"))

from warmstart import WarmStart  # noqa: E402

from auditor.capture import Capture  # noqa: E402
from auditor.config import Settings  # noqa: E402
from auditor.edits.fixes import plan  # noqa: E402
from auditor.result import Audit, ReportedFinding  # noqa: E402
from auditor.session import Request, conduct  # noqa: E402

MAX_TIME = 120.0
START, END = "<!-- corpus: written by make corpus -->", "<!-- end of corpus -->"
Half = Literal["tuning", "report"]


@dataclass(frozen=True)
class Program:
    """One script; `causes` is empty for one that is healthy."""

    name: str
    path: Path
    half: Half
    causes: tuple[str, ...] = ()
    twin: bool = False


@dataclass(frozen=True)
class Result:
    """What the audit said of a program."""

    name: str
    path: str
    causes: tuple[str, ...]
    status: str
    seconds: float
    findings: tuple[tuple[str, str, str], ...]  # (rule, severity, message), the root cause first
    trials: tuple[tuple[str, str, bool], ...]  # (rule, what was tried, whether it helped), of findings with one
    written: tuple[tuple[str, bool], ...]  # (rule, whether it is found no more), of fixes that were written
    broken: tuple[str, ...]  # rules that failed themselves

    def rules(self, *severities: str) -> list[str]:
        return [rule for rule, severity, _ in self.findings if severity in severities]

    @property
    def detected(self) -> bool:
        return bool(self.rules("error", "warning")) or self.named

    @property
    def named(self) -> bool:
        return bool({rule for rule, _, _ in self.findings} & set(self.causes))

    @property
    def tried(self) -> bool:
        """A fix for the cause was tried on the loop."""
        return any(rule in self.causes for rule, _, _ in self.trials)

    @property
    def helped(self) -> bool:
        """Such a fix was seen to help."""
        return any(rule in self.causes and helped for rule, _, helped in self.trials)

    @property
    def mended(self) -> bool | None:
        """The written fix took the cause away; None where none was written."""
        gone = [gone for rule, gone in self.written if rule in self.causes]
        return all(gone) if gone else None

    @property
    def first(self) -> bool:
        return bool(self.findings) and self.findings[0][0] in self.causes


FOLDERS: dict[str, Half] = {"corpus": "tuning", "unseen": "report"}


def programs() -> list[Program]:
    """The whole corpus."""
    found: list[Program] = []
    for folder in sorted(path for group in FOLDERS for path in (FIXTURES / group).iterdir() if path.is_dir()):
        name, where = folder.name, FOLDERS[folder.parent.name]
        if (folder / "healthy.py").exists():
            found.append(Program(name, folder / "healthy.py", where))
            continue
        causes = tuple(tomllib.loads((folder / "fault.toml").read_text(encoding="utf-8"))["cause"])
        found += [Program(name, folder / "bad.py", where, causes), Program(name, folder / "good.py", where, twin=True)]
    for path in sorted(FIXTURES.glob("*/*/*.py")):
        if path.parts[-3] in FOLDERS or not path.name.startswith(("bad", "good")):
            continue
        cause = path.parent.name.replace("_", "-")
        faulty = path.name.startswith("bad")
        name = f"{path.parent.name}/{path.stem}"
        found.append(Program(name, path, "tuning", (cause,) if faulty else (), twin=not faulty))
    found += [Program(path.stem, path, "tuning") for path in sorted((FIXTURES / "healthy").glob("*.py"))]
    return found


def run(program: Program, command: Sequence[str], max_time: float, folder: Path) -> Result:
    """`folder`: an empty one for the copy."""
    script = Path(shutil.copy(program.path, folder))

    def look() -> Audit:
        return conduct(Request(str(script)), Settings(max_time=max_time), command=command, capture=Capture(None)).audit

    audit = look()
    fixes = plan(audit.findings, folder, alone=audit.together is not None and not audit.together.helped)
    fixes.write()
    still = {finding.rule for finding in look().findings} if fixes.fixed else set()
    return Result(
        name=program.name,
        path=str(program.path.relative_to(FIXTURES)),
        causes=program.causes,
        status=str(audit.run.status),
        seconds=round(audit.run.seconds, 1),
        findings=tuple((f.rule, str(f.severity), f.message) for f in audit.findings),
        trials=tuple(_trials(audit)),
        written=tuple((each.rule, each.rule not in still) for each in fixes.fixed),
        broken=tuple(v.rule for v in audit.verdicts if v.outcome == "error"),
    )


def _trials(audit: Audit) -> Iterator[tuple[str, str, bool]]:
    """Of each finding, and of what it follows from: its fix is the fix of both."""
    by_rule = {finding.rule: finding for finding in audit.findings}
    for finding in audit.findings:
        cause: ReportedFinding | None = finding
        while cause is not None:
            if cause.fix.trial is not None:
                yield finding.rule, cause.fix.trial.what, cause.fix.trial.helped
            cause = by_rule.get(cause.caused_by) if cause.caused_by else None


def wilson(hits: int, of: int) -> str:
    """'38 of 40 (95 %, 84-99)'."""
    from scipy.stats import binomtest

    if not of:
        return "0 of 0"
    low, high = binomtest(hits, of).proportion_ci(method="wilson")
    return f"{hits} of {of} ({hits / of:.0%}, {100 * low:.0f}-{100 * high:.0f})".replace("%", " %")


def table(results: Iterable[Result]) -> str:
    """The figures, in Markdown."""
    results = list(results)
    faulty = [result for result in results if result.causes]
    named = [result for result in faulty if result.named]
    written = [result.mended for result in named if result.mended is not None]
    sound = [result for result in results if not result.causes]
    errors = [result for result in sound if result.rules("error")]
    warned = [result for result in sound if result.rules("warning")]
    warnings = sum(len(result.rules("warning")) for result in sound)
    notes = sum(len(result.rules("note")) for result in sound)
    by_note = sum({s for rule, s, _ in result.findings if rule in result.causes} == {"note"} for result in named)
    rows = [
        ("faulty programs detected", wilson(sum(r.detected for r in faulty), len(faulty))),
        ("cause among the findings", wilson(sum(r.named for r in faulty), len(faulty))),
        ("of the named causes: by a note alone", wilson(by_note, len(named))),
        ("right cause first", wilson(sum(r.first for r in faulty), len(faulty))),
        ("of the named causes: a fix was tried on the loop", wilson(sum(r.tried for r in named), len(named))),
        ("of the named causes: a fix was tried and helped", wilson(sum(r.helped for r in named), len(named))),
        ("of the named causes: the fix is one that `audit fix` writes", wilson(len(written), len(named))),
        ("of the written fixes: audited again, the cause is gone", wilson(sum(map(bool, written)), len(written))),
        ("healthy programs and fixed twins with an error", wilson(len(errors), len(sound))),
        ("healthy programs and fixed twins with a warning", wilson(len(warned), len(sound))),
        ("warnings per healthy program or twin", f"{warnings / max(1, len(sound)):.2f}"),
        ("notes per healthy program or twin", f"{notes / max(1, len(sound)):.2f}"),
    ]
    lines = ["| | programs (share, 95 % interval) |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {figure} |" for name, figure in rows])


def story(result: Result) -> str:
    """One line, or more where something is wrong."""
    rules = ", ".join(f"{rule} ({severity})" for rule, severity, _ in result.findings) or "nothing"
    wanted = f" for {' or '.join(result.causes)}" if result.causes else ""
    wrong = not result.first if result.causes else bool(result.rules("error", "warning"))
    sign = "!" if wrong or result.broken or result.status != "completed" else " "
    lines = [f"{sign} {result.path}: {rules}{wanted} [{result.seconds:.0f} s, {result.status}]"]
    if wrong:
        lines += [f"      {rule}: {message}" for rule, _, message in result.findings]
    lines += [f"      tried for {rule}: {what}, {'helped' if ok else 'no help'}" for rule, what, ok in result.trials]
    lines += [f"      written for {rule}: {'gone' if gone else 'found again'}" for rule, gone in result.written]
    lines += [f"      broken: {rule}" for rule in result.broken]
    return "\n".join(lines)


def write_readme(text: str) -> None:
    path = ROOT / "README.md"
    before = path.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    path.write_text(pattern.sub(lambda _: f"{START}\n{text}\n{END}", before), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="programs, by folder or path below fixtures/")
    parser.add_argument("--half", choices=["tuning", "report"], default="report")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--max-time", type=float, default=MAX_TIME)
    parser.add_argument("--json", type=Path, help="write the results there as well")
    parser.add_argument("--readme", action="store_true", help="put the table into the README")
    args = parser.parse_args()

    wanted = [p for p in programs() if p.half == args.half]
    if args.names:
        wanted = [p for p in programs() if any(n in (p.name, str(p.path.relative_to(FIXTURES))) for n in args.names)]
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder, WarmStart() as warm, ThreadPool(args.jobs) as pool:
        os.chdir(folder)

        def audited(program: Program) -> Result:
            return run(program, warm.command, args.max_time, Path(tempfile.mkdtemp(dir=folder)))

        for result in pool.imap_unordered(audited, wanted):
            results.append(result)
            print(story(result) if args.names or args.half == "tuning" else f"{len(results)} done", flush=True)
        os.chdir(ROOT)
    results.sort(key=lambda result: result.path)
    text = table(results)
    print(f"\n{'chosen' if args.names else args.half}: {len(results)} programs\n\n{text}")
    if args.json:
        args.json.write_text(json.dumps([asdict(result) for result in results], indent=1), encoding="utf-8")
    if args.readme:
        write_readme(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
