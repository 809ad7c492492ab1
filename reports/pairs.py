"""Samples that stand on both sides of a split, side by side: leaked ones and near-duplicates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from auditor.evidence import Evidence, NearDuplicates, Overlap, Row, SamplePair, TwinPair

from . import clean, words

_MOST_PAIRS = 12
_MOST_VALUES = 12
_THUMBNAIL = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}")
_LARGEST_THUMBNAIL = 24_000
Cells = tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Pair:
    """A sample that stands on both sides of a split."""

    training: str
    held_out: str
    pictures: tuple[str, str]
    differ: bool


@dataclass(frozen=True)
class Rows:
    """Samples that are no pictures: a row each, two for a pair, and whether a cell differs from the one above."""

    head: tuple[str, ...]
    pairs: tuple[tuple[Cells, Cells], ...]
    note: str


@dataclass(frozen=True)
class Leak:
    """One overlap of two splits with a few of its pairs, as pictures or as rows of a table."""

    title: str
    sentence: str
    pairs: tuple[Pair, ...]
    rest: int
    rows: Rows | None = None


def leaks(evidence: Evidence, most: int = _MOST_PAIRS) -> list[Leak]:
    """Equal samples first, then those that are nearly so."""
    overlaps = evidence.leakage.overlaps[: min(most, 8)] if evidence.leakage else ()
    found = [_equal(overlap, most) for overlap in overlaps if overlap.shared]
    near = evidence.near_duplicates
    return [*found, _near(near, most)] if near is not None and near.twins and near.pairs else found


def _equal(overlap: Overlap, most: int) -> Leak:
    sentence = f"{words.plural(overlap.shared, 'sample')} of {clean.name(overlap.held_out, 40)}"
    if overlap.held_out_samples:
        sentence += f" ({words.percent(overlap.shared / overlap.held_out_samples)})"
    sentence += f" also in {clean.name(overlap.training, 40)}, "
    sentence += "proved by index" if overlap.identity else "equal bit for bit"
    kept = overlap.pairs[: min(most, _MOST_PAIRS)]
    rest = max(0, overlap.shared - len(kept))
    return Leak("Leaked samples", sentence + ".", tuple(map(_pair, kept)), rest, _rows(kept))


def _near(part: NearDuplicates, most: int) -> Leak:
    sentence = f"{words.plural(part.twins, 'sample')} of {clean.name(part.held_out, 40)} far nearer to a sample of"
    sentence += f" {clean.name(part.training, 40)} than to any other, without being equal to it."
    kept = part.pairs[: min(most, _MOST_PAIRS)]
    rest = max(0, part.twins - len(kept))
    return Leak("Nearly equal samples", sentence, tuple(map(_pair, kept)), rest, _rows(kept))


def _pair(pair: SamplePair | TwinPair) -> Pair:
    pictures = (pair.thumbnail, pair.held_out_thumbnail)
    labels = _labels(pair)
    return Pair(
        training=f"#{pair.training_index}" + (f" · {labels[0]}" if labels[0] else ""),
        held_out=f"#{pair.held_out_index}" + (f" · {labels[1]}" if labels[1] else ""),
        pictures=tuple(p if len(p) < _LARGEST_THUMBNAIL and _THUMBNAIL.fullmatch(p) else "" for p in pictures),  # type: ignore[arg-type]
        differ=bool(labels[0] and labels[1]) and labels[0] != labels[1],
    )


def _labels(pair: SamplePair | TwinPair) -> tuple[str, str]:
    return clean.name(pair.training_label, 24), clean.name(pair.held_out_label, 24)


def _rows(pairs: Sequence[SamplePair | TwinPair]) -> Rows | None:
    """A table of the pairs that have values; None where none has, or there are pictures."""
    known = [(pair, pair.row, pair.held_out_row) for pair in pairs if pair.row is not None or pair.held_out_row]
    first = next((row for _, *both in known for row in both if row is not None), None)
    if first is None or any(pair.thumbnail or pair.held_out_thumbnail for pair in pairs):
        return None
    labelled = any(any(_labels(pair)) for pair, _, _ in known)
    places = first.places[:_MOST_VALUES]
    head = ("split", "index", *(["label"] if labelled else []), *([f"[{place}]" for place in places] or ["text"]))
    return Rows(
        head, tuple(_both(*each, labelled, len(head)) for each in known), _note(first, min(len(places), _MOST_VALUES))
    )


def _both(
    pair: SamplePair | TwinPair, training: Row | None, held_out: Row | None, labelled: bool, width: int
) -> tuple[Cells, Cells]:
    labels = _labels(pair)
    above = ("training", f"#{pair.training_index}", *([labels[0]] if labelled else []), *_values(training))
    below = ("held-out", f"#{pair.held_out_index}", *([labels[1]] if labelled else []), *_values(held_out))
    rows = [(*row, *[""] * width)[:width] for row in (above, below)]
    upper: Cells = tuple((cell, False) for cell in rows[0])
    lower: Cells = tuple(
        (cell, place > 1 and bool(cell and over) and cell != over)
        for place, (over, cell) in enumerate(zip(*rows, strict=True))
    )
    return upper, lower


def _values(row: Row | None) -> list[str]:
    return [clean.name(value, 80) for value in row.values[:_MOST_VALUES]] if row is not None else []


def _note(row: Row, shown: int) -> str:
    if not shown:
        return ""
    return f"{shown} of the {row.size:,} values of a sample, spread over all of it." if row.size > shown else ""
