"""How a rule is declared: the `rule` decorator, its limits, and what it may answer.

A rule is a pure function. Its annotations name the evidence it needs, its docstring is its page:

    @rule("OPT101", "missing-zero-grad", severity=Severity.ERROR, fix="Call optimizer.zero_grad() ...")
    def missing_zero_grad(resets: GradientResets, limits: Limits) -> Judgement:
        '''Gradients of earlier steps are still there when ... (the page)'''
        yield Measured(...)
        yield Finding(...)

A parameter annotated `Part` is required: without it the rule is not run and its verdict says why. One annotated
`Part | None` is optional. The parameter whose annotation is an `Options` class receives the limits.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from auditor.evidence import Evidence, Location, Part, Remedy, RemedyKind, part_types


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    @property
    def rank(self) -> int:
        """0 is the most severe."""
        return list(Severity).index(self)


class Confidence(StrEnum):
    CONFIRMED = "confirmed"  # an exact identity, or an experiment with a control
    SUSPECTED = "suspected"  # a statistic only


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class Options(BaseModel):
    """Base of a rule's limits. Every field needs a default and a description; in the configuration a field
    `max_share` is written `max-share`."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_kebab, populate_by_name=True)


class NoLimits(Options):
    """For rules decided by an identity, with nothing to set."""


@dataclass(frozen=True)
class Measured:
    """The value that decided, whatever the outcome; shown for passed rules too."""

    value: float | None
    limit: float | None = None
    text: str = ""


@dataclass(frozen=True)
class Finding:
    """One fault that a rule found.

    `message` is one sentence with the measured numbers; `detail` adds evidence lines; `where` names a layer, loader
    or split; `location` is the user's line to show. `severity` and `fix` replace the rule's own where they differ.
    `remedies` are to be tried on the user's loop, the best first; None stands for the rule's own. `since` is the step
    at which it was there first.
    """

    message: str
    where: str = ""
    location: Location | None = None
    measured: float | None = None
    limit: float | None = None
    severity: Severity | None = None
    confidence: Confidence = Confidence.SUSPECTED
    detail: tuple[str, ...] = ()
    fix: str | None = None
    remedies: tuple[Remedy, ...] | None = None
    since: int | None = None


class NotApplicable(Exception):
    """Raised by a rule: the question makes no sense for this program. The text is the reason."""


class Inconclusive(Exception):
    """Raised by a rule: the evidence does not decide. The text says what would."""


class Missing(Exception):
    """Raised by a rule that cannot do without a part which it declares as optional: the verdict says why there is
    none."""

    def __init__(self, part: str) -> None:
        super().__init__(part)
        self.part = part


Judgement = Iterator[Finding | Measured]


@dataclass(frozen=True)
class Need:
    """One parameter of a rule: the evidence field that fills it."""

    parameter: str
    evidence: str
    required: bool


@dataclass(frozen=True)
class Rule:
    """A declared rule, ready to be judged."""

    code: str
    name: str
    severity: Severity
    function: Callable[..., Judgement]
    fix: str
    explains: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    needs: tuple[Need, ...] = ()
    limits: type[Options] = NoLimits
    limits_parameter: str | None = None

    @property
    def family(self) -> str:
        """Folder of the rule, e.g. 'optimizer'."""
        parts = self.function.__module__.split(".")
        return parts[-2] if len(parts) > 1 else parts[-1]

    @property
    def page(self) -> str:
        """The rule's page in Markdown: its dedented docstring."""
        return inspect.getdoc(self.function) or ""

    @property
    def summary(self) -> str:
        """First line of the page."""
        return self.page.partition("\n")[0]

    def section(self, heading: str) -> str:
        """Text below `## heading` of the page, '' when the page has no such heading."""
        inside: list[str] = []
        on = False
        for line in self.page.splitlines():
            if line.startswith("## "):
                on = line[3:].strip().rstrip("?").lower() == heading.rstrip("?").lower()
            elif on:
                inside.append(line)
        return "\n".join(inside).strip()


def rule(
    code: str,
    name: str,
    *,
    severity: Severity,
    fix: str,
    explains: tuple[str, ...] = (),
    references: tuple[str, ...] = (),
    remedies: tuple[RemedyKind | tuple[RemedyKind, float], ...] = (),
) -> Callable[[Callable[..., Judgement]], Rule]:
    """Declare a rule. `explains` names rules whose findings are consequences of this one's; `remedies` are tried on the
    user's loop for every finding that names none itself, the best first, some with an amount.

    Raises TypeError when a parameter is neither a part of the evidence nor an Options class.
    """

    def declare(function: Callable[..., Judgement]) -> Rule:
        needs, limits, limits_parameter = _signature(function)
        return Rule(
            code=code,
            name=name,
            severity=severity,
            function=function,
            fix=inspect.cleandoc(fix),
            explains=explains,
            references=references,
            remedies=tuple(_remedy(*each) if isinstance(each, tuple) else _remedy(each) for each in remedies),
            needs=needs,
            limits=limits,
            limits_parameter=limits_parameter,
        )

    return declare


def _remedy(kind: RemedyKind, amount: float | None = None) -> Remedy:
    return Remedy(kind=kind, amount=amount)


def _signature(function: Callable[..., Judgement]) -> tuple[tuple[Need, ...], type[Options], str | None]:
    fields = {part: name for name, part in part_types().items()}
    hints = typing.get_type_hints(function)
    needs: list[Need] = []
    limits: type[Options] = NoLimits
    limits_parameter = None
    for parameter in inspect.signature(function).parameters:
        hint = hints.get(parameter)
        union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        options = typing.get_args(hint) if union else (hint,)
        kinds = [option for option in options if isinstance(option, type)]
        part = next((kind for kind in kinds if issubclass(kind, Part) and kind in fields), None)
        if part is not None:
            needs.append(Need(parameter, fields[part], required=type(None) not in options))
        elif kinds and issubclass(kinds[0], Options):
            limits, limits_parameter = kinds[0], parameter
        else:
            raise TypeError(f"{function.__qualname__}: parameter {parameter!r} is neither evidence nor Options")
    return tuple(needs), limits, limits_parameter


def arguments(of: Rule, evidence: Evidence, limits: Options) -> dict[str, object]:
    """Keyword arguments for the rule's function."""
    given: dict[str, object] = {need.parameter: getattr(evidence, need.evidence) for need in of.needs}
    if of.limits_parameter is not None:
        given[of.limits_parameter] = limits
    return given
