"""Do class labels depend on what is fed with them? Simple statistics of the inputs, by class, against permuted labels.

No model is trained: averages of values, squares and neighbours' products (texture, frequency), counts of tokens and ids
between classes. Labels that belong to other samples have none of these; labels that a network cannot learn for want of
something else often do.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import xxhash

COLUMNS = 256  # of single values, at most
POOLED = 64  # of products of neighbours, per axis and distance, at most
LAGS = (1, 2, 4)
HASHED = 509  # tokens and ids are counted modulo this
PERMUTATIONS = 60
MOST_VALUES = 10**7  # rows times columns that are compared
FEWEST_ROWS = 20  # of other than the commonest value in a column: rarer ones have heavy tails


def dependence(tables: list[torch.Tensor], labels: torch.Tensor) -> float:
    """How far the inputs' features differ between the classes, in standard deviations of what permuted labels give.

    `tables`: each (n, ...); `labels`: (n,) integers. The larger one of two: of all features together, and of the one
    that differs most, whose tail is heavier: it counts by half. 0 where there is nothing to compare. A sample that
    came by more than once counts once: permuted labels would not keep its copies together. Draws from a generator of
    its own.
    """
    first = _first_of_each(tables)
    tables, labels = [table[first] for table in tables], labels[first]
    columns = [column for table in tables for column in features(table)]
    if not columns:
        return 0.0
    values = torch.cat(columns, dim=1)
    values = values[:, (values != values.median(0).values).sum(0) >= FEWEST_ROWS]
    values = values[: MOST_VALUES // max(1, values.shape[1])]
    classes, places = torch.unique(labels[: len(values)], return_inverse=True)
    values = values - values.mean(0)
    spread = values.square().mean(0).sqrt()
    kept = torch.isfinite(spread) & (spread > 0)
    if not 2 <= len(classes) <= len(values) // 4 or not bool(kept.any()):
        return 0.0
    values = values[:, kept] / spread[kept]
    generator = torch.Generator().manual_seed(7)
    own = _explained(values, places, len(classes))
    chance = torch.stack(
        [
            _explained(values, places[torch.randperm(len(places), generator=generator)], len(classes))
            for _ in range(PERMUTATIONS)
        ]
    )
    apart = (own - chance.mean(0)) / chance.std(0).clamp(min=1e-12)
    return float(torch.maximum(apart[0], apart[1] / 2))


def _first_of_each(tables: list[torch.Tensor]) -> torch.Tensor:
    """(k,): the rows that are not equal, in all tables, to an earlier one."""
    places: dict[tuple[int, ...], int] = {}
    rows = [table.detach().cpu().reshape(len(table), -1).contiguous().view(torch.uint8).numpy() for table in tables]
    for row, parts in enumerate(zip(*rows, strict=True)):
        places.setdefault(tuple(xxhash.xxh3_64_intdigest(part.tobytes()) for part in parts), row)
    return torch.tensor(list(places.values()))


def features(table: torch.Tensor) -> Iterator[torch.Tensor]:
    """(n, k) each, of one tensor of inputs (n, ...), on the host."""
    table = table.detach().cpu()
    if table.is_floating_point():
        yield from _of_numbers(table.float())
    elif not table.is_complex():
        rows = table.reshape(table.shape[0], -1).long() % HASHED
        counts = torch.zeros(len(rows), HASHED).scatter_add_(1, rows, torch.ones(rows.shape))
        yield counts[:, counts.any(0)]


def _of_numbers(table: torch.Tensor) -> Iterator[torch.Tensor]:
    table = torch.nan_to_num(table, nan=0.0, posinf=0.0, neginf=0.0)
    rows = table.reshape(table.shape[0], -1)
    rows = _thinned(rows, COLUMNS)
    yield rows
    yield rows.square()
    for axis in range(1, table.dim()):
        for lag in LAGS:
            length = table.shape[axis] - lag
            if length > 0:
                product = table.narrow(axis, 0, length) * table.narrow(axis, lag, length)
                yield _thinned(product.mean(axis).reshape(len(rows), -1), POOLED)
                yield product.reshape(len(rows), -1).mean(1, keepdim=True)


def _thinned(rows: torch.Tensor, most: int) -> torch.Tensor:
    return rows[:, :: -(-rows.shape[1] // most)] if rows.shape[1] > most else rows


def _explained(values: torch.Tensor, places: torch.Tensor, classes: int) -> torch.Tensor:
    """(2,): share of the standardized columns' variance that lies between the classes, on average and at most."""
    members = torch.zeros(classes, len(places)).scatter_(0, places[None], 1.0)
    shares = ((members @ values).square() / members.sum(1, keepdim=True)).sum(0) / len(places)
    return torch.stack([shares.mean(), shares.max()]).double()
