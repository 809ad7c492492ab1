"""Do the targets of all rows of a table belong to their inputs, or has a block of rows the targets of others?

No network is trained: linear regression on the simple statistics of the inputs that `dependence` asks, fitted on some
rows and tried on others. Where it foretells the targets of most rows, and those of one block of rows not at all,
neither fitted elsewhere nor on the block itself, while inputs and targets are there as everywhere, the pairs are not
right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from auditor.probe.dependence import features

SEGMENTS = 20
FEWEST_ROWS = 600
MOST_ROWS = 8_000
MOST_COLUMNS = 200  # of features
MOST_TARGETS = 8  # of one row
RIDGE = 1.0  # added to each of the standardized columns' sums of squares, for each of a hundred rows
LOW, HIGH = 0.35, 0.6  # of the correlation in the best segments: below or above it, a segment is one or the other
SURE = 4.0  # standard errors of a correlation of nothing
FOLDS = 4


@dataclass(frozen=True)
class Block:
    """Rows first to last (without it), and correlations of foretold and true targets."""

    first: int
    last: int
    inside: float  # of these rows, fitted on the others
    own: float  # of these rows, fitted on the rest of them
    outside: float  # of the others, fitted on the rest of them
    apart: float  # largest distance between the distributions inside and outside, of targets and of foretold ones


def block_of_noise(tables: list[torch.Tensor], targets: torch.Tensor) -> Block | None:
    """`tables`: each (n, ...), inputs in the order of the rows; `targets`: (n,) or (n, k). None where nothing is to be
    foretold, or where it is everywhere."""
    count = len(targets)
    every = -(-count // MOST_ROWS)
    wanted = targets.detach()[::every].reshape(-(-count // every), -1).double().cpu()
    given = _columns([table[::every] for table in tables])
    if given is None or len(wanted) < FEWEST_ROWS or wanted.shape[1] > MOST_TARGETS:
        return None
    if not bool(torch.isfinite(wanted).all()) or not bool((wanted.std(0) > 0).all()):
        return None
    segments = torch.arange(len(wanted)) * SEGMENTS // len(wanted)
    levels = _foretold(given, wanted, segments)[1]
    low = _run_of_low(levels, len(wanted) // SEGMENTS)
    if low is None:
        return None
    inside = (segments >= low[0]) & (segments <= low[1])
    edges = (segments == low[0] - 1) | (segments == low[1] + 1)  # the block may begin within these
    return _described(given, wanted, inside, ~inside & ~edges, every)


def _columns(tables: list[torch.Tensor]) -> torch.Tensor | None:
    """(n, k): standardized features and a column of ones."""
    found = [column for table in tables for column in features(table)]
    if not found or len({len(column) for column in found}) != 1:
        return None
    values = torch.cat(found, dim=1).double()
    values = values[:, :: -(-values.shape[1] // MOST_COLUMNS)]
    spread = values.std(0)
    kept = torch.isfinite(spread) & (spread > 0)
    if not bool(kept.any()):
        return None
    values = (values[:, kept] - values[:, kept].mean(0)) / spread[kept]
    return torch.cat([values.clamp(-6, 6), torch.ones(len(values), 1, dtype=values.dtype)], dim=1)


def _foretold(given: torch.Tensor, wanted: torch.Tensor, parts: torch.Tensor) -> tuple[torch.Tensor, list[float]]:
    """The targets foretold for each part by what was fitted on the other ones, and the correlations in each part."""
    numbers = range(int(parts.max()) + 1)
    squares = [given[parts == part].T @ given[parts == part] for part in numbers]
    products = [given[parts == part].T @ wanted[parts == part] for part in numbers]
    whole, answers = torch.stack(squares).sum(0), torch.stack(products).sum(0)
    result = torch.zeros_like(wanted)
    levels = []
    for part in numbers:
        ridge = RIDGE * len(given) / 100 * torch.eye(given.shape[1], dtype=given.dtype)
        weights = torch.linalg.solve(whole - squares[part] + ridge, answers - products[part])
        result[parts == part] = given[parts == part] @ weights
        levels.append(_correlation(result[parts == part], wanted[parts == part]))
    return result, levels


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean over the columns."""
    a, b = one - one.mean(0), other - other.mean(0)
    size = (a.square().sum(0) * b.square().sum(0)).sqrt()
    return float(((a * b).sum(0) / size.clamp(min=1e-300)).mean())


def _run_of_low(levels: list[float], rows: int) -> tuple[int, int] | None:
    """(first, last) segment of the one run in which nothing is foretold, where it is in all others: a segment next to
    the run may be neither."""
    best = sorted(levels)[-max(2, len(levels) // 4)]
    low = [place for place, level in enumerate(levels) if level < min(LOW * best, SURE / rows**0.5)]
    if len(low) < 2 or low[-1] - low[0] + 1 != len(low) or len(levels) - len(low) < len(levels) // 4:
        return None
    others = [place for place in range(len(levels)) if not low[0] - 1 <= place <= low[-1] + 1]
    return (low[0], low[-1]) if all(levels[place] > HIGH * best for place in others) else None


def _described(
    given: torch.Tensor, wanted: torch.Tensor, inside: torch.Tensor, outside: torch.Tensor, every: int
) -> Block:
    both = torch.where(inside, 1, 0)[inside | outside]
    across, _ = _foretold(given[inside | outside], wanted[inside | outside], both)
    foretold, known = across[both == 1], wanted[inside]
    folds = torch.arange(len(wanted)) % FOLDS
    elsewhere, _ = _foretold(given[outside], wanted[outside], folds[outside])
    own, _ = _foretold(given[inside], known, folds[: len(known)])
    rows = inside.nonzero().flatten()
    return Block(
        first=int(rows[0]) * every,
        last=(int(rows[-1]) + 1) * every,
        inside=_correlation(foretold, known),
        own=_correlation(own, known),
        outside=_correlation(elsewhere, wanted[outside]),
        apart=max(_distance(known, wanted[outside]), _distance(foretold, elsewhere)),
    )


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Kolmogorov and Smirnov's, of the column where it is largest."""
    every = torch.cat([one, other]).sort(0).values.T.contiguous()
    shares = [
        torch.searchsorted(each.sort(0).values.T.contiguous(), every, right=True) / len(each) for each in (one, other)
    ]
    return float((shares[0] - shares[1]).abs().max())
