"""Samples that stand on both sides of a split, side by side: leaked ones and near-duplicates."""

from __future__ import annotations

import re
from dataclasses import dataclass

from auditor.evidence import Evidence, NearDuplicates, Overlap, SamplePair, TwinPair

from . import clean, words

_MOST_PAIRS = 12
_THUMBNAIL = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}")
_LARGEST_THUMBNAIL = 24_000


@dataclass(frozen=True)
class Pair:
    """A sample that stands on both sides of a split."""

    training: str
    held_out: str
    pictures: tuple[str, str]
    differ: bool


@dataclass(frozen=True)
class Leak:
    """One overlap of two splits with a few of its pairs."""

    title: str
    sentence: str
    pairs: tuple[Pair, ...]
    rest: int


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
    pairs = tuple(_pair(pair) for pair in overlap.pairs[: min(most, _MOST_PAIRS)])
    return Leak("Leaked samples", sentence + ".", pairs, max(0, overlap.shared - len(pairs)))


def _near(part: NearDuplicates, most: int) -> Leak:
    sentence = f"{words.plural(part.twins, 'sample')} of {clean.name(part.held_out, 40)} far nearer to a sample of"
    sentence += f" {clean.name(part.training, 40)} than to any other, without being equal to it."
    pairs = tuple(_pair(pair) for pair in part.pairs[: min(most, _MOST_PAIRS)])
    return Leak("Nearly equal samples", sentence, pairs, max(0, part.twins - len(pairs)))


def _pair(pair: SamplePair | TwinPair) -> Pair:
    pictures = (pair.thumbnail, pair.held_out_thumbnail)
    labels = (clean.name(pair.training_label, 24), clean.name(pair.held_out_label, 24))
    return Pair(
        training=f"#{pair.training_index}" + (f" · {labels[0]}" if labels[0] else ""),
        held_out=f"#{pair.held_out_index}" + (f" · {labels[1]}" if labels[1] else ""),
        pictures=tuple(p if len(p) < _LARGEST_THUMBNAIL and _THUMBNAIL.fullmatch(p) else "" for p in pictures),  # type: ignore[arg-type]
        differ=bool(labels[0] and labels[1]) and labels[0] != labels[1],
    )
