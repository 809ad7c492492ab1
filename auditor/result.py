"""The Audit: the outcome of judging one evidence. Its JSON is the contract with other programs."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from auditor import __version__
from auditor.declare import Confidence, Severity
from auditor.evidence import SCHEMA_VERSION, Evidence, Frozen, Location, Remedy, Run
from auditor.untrusted import one_line


class Outcome(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    NOT_APPLICABLE = "not-applicable"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class Tool(Frozen):
    name: str = "training-auditor"
    version: str = __version__


class SourceLine(Frozen):
    """A line of the user's source for a code frame."""

    number: int
    text: str


class Trial(Frozen):
    """A fix tried on the user's own loop against the replayed baseline: same weights, same batches, same seeds."""

    metric: str = "loss"
    steps: int
    before: float = Field(description="Median of the last third of the steps, as the loop is.")
    after: float = Field(description="The same with the fix.")
    helped: bool
    low: float | None = Field(None, description="Lower end of the 95 % interval of the paired difference.")
    high: float | None = None
    what: str = Field("", description="What was changed, a few words.")
    looks: int = Field(1, description="How often, on other batches each time.")
    control: tuple[float, ...] = Field((), description="The metric at each step of the first look, as the loop is.")
    treated: tuple[float, ...] = Field((), description="The same with the fix.")


class Fix(Frozen):
    """What to do about a finding. `trial` is the best of what was tried, `others` the rest of it."""

    text: str
    diff: str | None = Field(None, description="Of the user's own files, with paths relative to the project.")
    by_hand: str = Field("", description="Why there is no diff.")
    trial: Trial | None = None
    others: tuple[Trial, ...] = ()
    untried: str = Field("", description="Why nothing was tried.")
    remedies: tuple[Remedy, ...] = Field((), description="What answers the finding, the best first.")
    tried: tuple[Remedy, ...] = Field((), description="Of these, what `trial` consists of.")


# An exact identity, an experiment with a control, a remedy that helped; '' where nothing does.
Proof = Literal["", "identity", "experiment", "trial"]


class ReportedFinding(Frozen):
    """A finding with its rule's data, as reports show it."""

    id: str = Field(description="Stable anchor: code and a fingerprint of rule, place and source line.")
    rule: str
    code: str
    family: str
    severity: Severity
    confidence: Confidence
    proof: Proof = Field("", description="What confirms it.")
    message: str
    where: str = ""
    location: Location | None = None
    measured: float | None = None
    limit: float | None = None
    since: int | None = Field(None, description="Step at which it was there first.")
    caused_by: str | None = Field(None, description="Name of the rule whose finding explains this one.")
    fix: Fix
    title: str = Field("", description="One line: what the rule is about.")
    why: str = Field("", description="Why it matters, Markdown, from the rule's page.")
    doubt: str = Field("", description="When the finding may be wrong, Markdown, from the rule's page.")
    detail: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    source: tuple[SourceLine, ...] = Field((), description="The location's line and its neighbours.")


class Verdict(Frozen):
    """What one rule said."""

    rule: str
    code: str
    family: str = ""
    title: str = ""
    outcome: Outcome
    reason: str = ""
    measured: float | None = None
    limit: float | None = None


class Suppressed(Frozen):
    """A finding that the configuration or a comment in the source waived."""

    finding: ReportedFinding
    by: Literal["configuration", "comment"]
    reason: str = ""


class ChangedLimit(Frozen):
    """A limit of a rule that is not the rule's own."""

    rule: str
    code: str
    name: str
    value: str
    default: str


class Waiver(Frozen):
    """A rule, by name, code or prefix, whose findings are waived, and why."""

    rule: str
    reason: str = ""


class Judging(Frozen):
    """What the evidence was judged by: the settings in force."""

    select: tuple[str, ...] = ("ALL",)
    ignore: tuple[Waiver, ...] = ()
    fail_on: Severity | None = Field(Severity.ERROR, description="Least severe finding that fails; null: never.")
    limits: tuple[ChangedLimit, ...] = ()


class Summary(Frozen):
    errors: int = 0
    warnings: int = 0
    notes: int = 0
    passed: int = 0
    not_applicable: int = 0
    inconclusive: int = 0
    rule_errors: int = Field(0, description="Rules that raised: a bug in the rule.")
    suppressed: int = 0


class Audit(Frozen):
    """Findings are ordered: the root cause first, its consequences right after it."""

    schema_version: str = SCHEMA_VERSION
    tool: Tool = Tool()
    run: Run
    findings: tuple[ReportedFinding, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    suppressed: tuple[Suppressed, ...] = ()
    together: Trial | None = Field(
        None, description="The fixes that helped against several causes, all at once, where that was tried."
    )
    judged_by: Judging | None = None
    notes: tuple[str, ...] = Field((), description="Sentences about the judging: unused suppressions, unread parts.")
    summary: Summary = Summary()
    evidence: Evidence

    def fails(self, threshold: Severity | None) -> bool:
        """True when some finding is at least as severe as `threshold`; None is never."""
        return threshold is not None and any(f.severity.rank <= threshold.rank for f in self.findings)

    def __repr__(self) -> str:
        counts = ", ".join(f"{getattr(self.summary, name)} {name}" for name in ("errors", "warnings", "notes"))
        return f"<Audit of {one_line(self.run.target, 80)}: {self.run.status.value}, {counts}>"

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        """A notebook shows the page itself."""
        from auditor.notebook import page

        return page(self)

    def _repr_mimebundle_(self, **_wanted: object) -> dict[str, str]:
        """What a notebook may choose from; it leaves out by itself what it does not want."""
        from auditor.notebook import bundle

        return bundle(self)

    def to_json(self) -> str:
        """The contract: stable key order, two-space indent, NaN and infinities as strings."""
        return self.model_dump_json(indent=2) + "\n"
