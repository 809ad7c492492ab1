"""The tables of the data: inputs, labels or targets, splits."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.evidence import Evidence, Inputs, Labels

from . import words
from .page import Grid, grid
from .words import number


def tables(evidence: Evidence) -> list[Grid | None]:
    rows = [*_inputs(evidence.inputs), *_labels(evidence.labels)]
    splits = evidence.leakage.splits if evidence.leakage else ()
    return [
        grid("Data", ("what", "value"), rows),
        grid(
            "Splits",
            ("split", "role", "samples", "compared", "read by", "made at"),
            ((s.name, s.role, f"{s.samples:,}", f"{s.hashed:,}", s.method, words.place(s.location)) for s in splits),
            (2, 3),
        ),
    ]


def _inputs(part: Inputs | None) -> Iterator[tuple[str, str]]:
    if part is None:
        return
    yield "inputs", f"{part.kind}, {'×'.join(map(str, part.shape))}"
    yield "values", f"{number(part.min)} to {number(part.max)}, over {words.plural(part.samples, 'sample')}"
    yield "mean and standard deviation", f"{number(part.mean)} and {number(part.std)}"


def _labels(part: Labels | None) -> Iterator[tuple[str, str]]:
    if part is None:
        return
    counted = "the whole training set" if part.complete else "the batches seen"
    yield "labels", f"{words.plural(part.classes, 'class', 'classes')}, {sum(part.counts):,} labels in {counted}"
