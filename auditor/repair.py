"""What to do about a finding: the text, what came of the trials of its remedies, and the diff that writes the best."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.declare import Finding, Rule
from auditor.edits import NoEdit, Suggestions
from auditor.evidence import Evidence, Remedy
from auditor.placing import placed
from auditor.result import Fix
from auditor.trials import tried


class Repairs:
    """For the findings of one audit. `diffs`: whether they are to be written as well."""

    def __init__(self, evidence: Evidence, *, diffs: bool = True) -> None:
        self.evidence = evidence
        self._edits = Suggestions(evidence.run) if diffs else None

    def of(self, rule: Rule, finding: Finding) -> Fix:
        given = rule.remedies if finding.remedies is None else finding.remedies
        remedies = tuple(placed(each, finding.location, self.evidence) for each in given)
        found = tried(remedies, self.evidence)
        diff, by_hand = self._diff(found.remedies, remedies)
        return Fix(
            text=finding.fix or rule.fix,
            diff=diff,
            by_hand=by_hand,
            trial=found.trials[0] if found.trials else None,
            others=found.trials[1:],
            untried=found.refused,
            remedies=remedies,
            tried=found.remedies,
        )

    def _diff(self, best: Sequence[Remedy], remedies: Sequence[Remedy]) -> tuple[str | None, str]:
        """Of what came out best, or of the first remedy that can be written where nothing was tried.

        A bug of an edit costs its diff, never the audit.
        """
        if self._edits is None:
            return None, ""
        if not best:
            return self._edits.first(remedies)
        try:
            return self._edits.diff(best), ""
        except NoEdit as why:
            return None, str(why)
        except Exception as bug:
            return None, f"the edit itself failed: {type(bug).__name__}: {bug}"
