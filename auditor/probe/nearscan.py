"""Near-duplicates of held-out samples among the training samples, by small descriptors and their neighbours.

The farther neighbours of a sample tell how dense the data are around it, and how many dimensions they have. From that
follows how often the nearest neighbour comes by chance as close as it does.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from auditor.evidence import NearDuplicates, RemedyKind, TwinPair
from auditor.probe.contamination import keep
from auditor.probe.descriptors import Undescribable, describe
from auditor.probe.program import LoaderSeen, chosen, same_samples
from auditor.probe.randomness import RandomState
from auditor.probe.samplerows import shown
from auditor.probe.samples import Samples, Unreadable, read_samples

if TYPE_CHECKING:
    from auditor.probe.parts.held_out_rows import HeldOutRowsCollector
    from auditor.probe.probe import Probe

SECONDS = 8.0
TIME_SHARE = 0.06  # of what is left of the budget
MOST_TRAINING, MOST_HELD_OUT = 4000, 600
NEIGHBOURS = 20  # more than a sample has copies
INNER = 10  # from this neighbour on, copies no longer disturb the estimate of the dimension
RATIO = 0.35  # nearest over farther distance
EQUAL = 1e-6  # relative: the same sample, which is a matter of test-set leakage
ORDERED = 0.9  # share of neighbours in the data set's order that are alike
PAIRS = 6


def scan_near_duplicates(probe: Probe) -> None:
    """Send the part `near_duplicates`, or why there is none."""
    splits = [record for record in probe.program.loaders if getattr(record.loader, "dataset", None) is not None]
    training = [record for record in splits if record.training_credits]
    held_out = sorted((record for record in splits if record.is_held_out), key=lambda record: -record.held_out_credits)
    held_out = [held for held in held_out if not any(same_samples(held.loader, train.loader) for train in training)]
    rows = probe.collectors.find("near_duplicates") if not held_out else None
    other: LoaderSeen | HeldOutRowsCollector | None = held_out[0] if held_out else rows if rows and rows.count else None
    if not training or other is None:
        probe.sink.absent("near_duplicates", "not-applicable", "no training and held-out loaders were seen to compare")
        return
    until = time.monotonic() + min(SECONDS, TIME_SHARE * max(0.0, probe.spec.deadline - time.monotonic()))
    noise = RandomState.capture()
    with probe.paused():
        try:
            part = _compare(probe, training[0], other, until)
        except (Unreadable, Undescribable) as why:
            outcome: Literal["not-applicable", "inconclusive"] = (
                "not-applicable" if isinstance(why, Undescribable) else "inconclusive"
            )
            probe.sink.absent("near_duplicates", outcome, str(why))
            return
        except Exception as why:  # reading samples runs the user's own code, which may do anything
            reason = f"comparing failed: {type(why).__name__}: {why}"
            probe.sink.absent("near_duplicates", "inconclusive", reason)
            return
        finally:
            noise.restore()
    probe.sink.part("near_duplicates", part)


@dataclass
class _Set:
    samples: Samples
    positions: list[int]
    vectors: torch.Tensor  # (n, d), float32
    kind: Literal["image", "vector"]


def _compare(probe: Probe, train: LoaderSeen, held: LoaderSeen | HeldOutRowsCollector, until: float) -> NearDuplicates:
    now = time.monotonic()
    training = _read(train, MOST_TRAINING, now + 0.7 * (until - now))
    held_out = _read(held, MOST_HELD_OUT, until) if isinstance(held, LoaderSeen) else _of_rows(held)
    if training.kind != held_out.kind or training.vectors.shape[1] != held_out.vectors.shape[1]:
        raise Undescribable("training and held-out samples have different shapes")
    if len(training.positions) < 5 * NEIGHBOURS or len(held_out.positions) < NEIGHBOURS:
        raise Undescribable(
            f"needs {5 * NEIGHBOURS} training and {NEIGHBOURS} held-out samples, read {len(training.positions)} and "
            f"{len(held_out.positions)}"
        )
    if training.kind == "vector":
        mean, std = training.vectors.mean(0), training.vectors.std(0).clamp(min=1e-12)
        training.vectors, held_out.vectors = (training.vectors - mean) / std, (held_out.vectors - mean) / std
    near, who = _neighbours(held_out.vectors, training.vectors)
    within, _ = _neighbours(training.vectors[:MOST_HELD_OUT], training.vectors, skip_self=True)
    ordered = _ordered(training)
    size = float(training.vectors.norm(dim=1).median())
    kept = (near[:, 0] > EQUAL * size) & _crowded(training, held_out, who)
    if int(kept.sum()) < NEIGHBOURS:
        raise Undescribable(f"too few held-out samples are left whose class has {2 * NEIGHBOURS} training samples")
    near, who = near[kept], who[kept]
    places = [position for position, keep in zip(held_out.positions, kept.tolist(), strict=True) if keep]
    ratios = near[:, 0] / near[:, -1].clamp(min=1e-30)
    dimension = _dimension(near)
    twins = [index for index in range(len(near)) if float(ratios[index]) < RATIO]
    pairs = [(training.positions[int(who[index])], places[index], float(ratios[index])) for index in twins]
    pairs.sort(key=lambda pair: pair[2])
    if isinstance(held, LoaderSeen):
        keep(probe, RemedyKind.DROP_TWINS, held, [place for _, place, _ in pairs], places)
    labels = [(training.samples.label(a), held_out.samples.label(b)) for a, b, _ in pairs]
    known = [(a, b) for a, b in labels if a and b]
    inner = within[within[:, 0] > EQUAL * size]
    return NearDuplicates(
        training=train.name,
        held_out=held.name if isinstance(held, LoaderSeen) else held.called,
        kind=training.kind,
        training_samples=training.samples.total,
        held_out_samples=held_out.samples.total,
        compared=len(near),
        searched=len(training.positions),
        neighbours=NEIGHBOURS,
        dimension=round(dimension, 2),
        chance=1 - (1 - RATIO**dimension) ** (NEIGHBOURS - 1) if dimension > 0 else 1.0,
        ratio_limit=RATIO,
        twins=len(twins),
        within_twins=float((inner[:, 0] / inner[:, -1] < RATIO).float().mean()) if len(inner) else 0.0,
        median_ratio=float(ratios.median()),
        labels_agree=sum(a == b for a, b in known) / len(known) if known else None,
        ordered=ordered,
        pairs=tuple(_pair(training.samples, held_out.samples, *pair) for pair in pairs[:PAIRS]),
        location=held.location,
    )


def _read(record: LoaderSeen, most: int, until: float) -> _Set:
    # With no time at all nothing is hashed: only the way to the samples is wanted.
    samples = read_samples(record.loader.dataset, chosen(record.loader), time.monotonic() - 1)
    if samples.unreadable:
        raise Unreadable(samples.unreadable)
    # Runs of neighbours, spread over the whole set: their order tells frames and windows from independent samples.
    stride = max(1, samples.total // most)
    order = sorted(range(samples.total), key=lambda position: ((position // 8) % stride, position))[:most]
    vectors: list[torch.Tensor] = []
    positions: list[int] = []
    kind: Literal["image", "vector"] | None = None
    for position in order:
        if time.monotonic() > until:
            break
        described = describe(samples.sample(position))
        if described is None:
            continue
        if kind is None:
            kind = described[0]
        if described[0] == kind and (not vectors or described[1].shape == vectors[0].shape):
            vectors.append(described[1])
            positions.append(position)
    if not vectors or kind is None:
        raise Undescribable("the samples are no images and no vectors of numbers")
    ranked = sorted(range(len(positions)), key=lambda index: positions[index])
    stacked = torch.stack([vectors[index] for index in ranked])
    return _Set(samples, [positions[index] for index in ranked], stacked, kind)


def _of_rows(held: HeldOutRowsCollector) -> _Set:
    rows = torch.cat(held.rows).cpu()
    described = [(position, found) for position, row in enumerate(rows) if (found := describe(row)) is not None]
    if not described:
        raise Undescribable("the samples are no images and no vectors of numbers")
    samples = Samples(total=len(rows), sample=lambda position: rows[position])
    vectors = torch.stack([found[1] for _, found in described])
    return _Set(samples, [position for position, _ in described], vectors, described[0][1][0])


def _neighbours(
    queries: torch.Tensor, pool: torch.Tensor, skip_self: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """((n, NEIGHBOURS) distances in rising order, (n,) place of the nearest)."""
    near, who = [], []
    for begin in range(0, len(queries), 200):
        # Differences, not products: equal samples have to be at a distance of 0.
        mode = "donot_use_mm_for_euclid_dist"
        distances = torch.cdist(queries[begin : begin + 200], pool, compute_mode=mode)
        if skip_self:
            rows = torch.arange(len(distances))
            distances[rows, begin + rows] = math.inf
        values, places = distances.topk(min(NEIGHBOURS, len(pool)), dim=1, largest=False)
        near.append(values)
        who.append(places[:, 0])
    return torch.cat(near), torch.cat(who)


def _dimension(near: torch.Tensor) -> float:
    """Intrinsic dimension, median over the samples: the maximum-likelihood estimate of Levina and Bickel (2004) with
    the nearest neighbours censored, because copies of the sample may be among them."""
    logs = (near[:, -1:] / near[:, INNER - 1 : -1].clamp(min=1e-30)).log()  # of the kept ones, falling
    estimates = logs.shape[1] / (logs.sum(1) + (INNER - 1) * logs[:, 0]).clamp(min=1e-9)
    return float(estimates.median())


def _crowded(training: _Set, held_out: _Set, who: torch.Tensor) -> torch.Tensor:
    """(n,) bool: held-out samples whose class has enough training samples for all neighbours to be of that class. A
    class of a few samples is a small cluster by itself. Rows without a label count as of the class of the nearest."""
    labels = [training.samples.label(position) for position in training.positions]
    sizes = Counter(labels)
    if len(sizes) > len(labels) // 2:  # no classes
        return torch.ones(len(held_out.positions), dtype=torch.bool)
    own = [held_out.samples.label(position) for position in held_out.positions]
    own = [label or labels[nearest] for label, nearest in zip(own, who.tolist(), strict=True)]
    return torch.tensor([sizes[label] >= 2 * NEIGHBOURS for label in own])


def _ordered(found: _Set) -> bool:
    """True when samples that follow each other in the data set are alike, nearly all of them."""
    steps = [
        index for index in range(len(found.positions) - 1) if found.positions[index + 1] == found.positions[index] + 1
    ][:400]
    if len(steps) < 20:
        return False
    places = torch.tensor(steps)
    follow = (found.vectors[places + 1] - found.vectors[places]).norm(dim=1)
    order = torch.randperm(len(found.vectors), generator=torch.Generator().manual_seed(0))[:400]
    half = len(order) // 2
    apart = (found.vectors[order[:half]] - found.vectors[order[half : 2 * half]]).norm(dim=1).median()
    return float((follow < 0.5 * apart).float().mean()) >= ORDERED


def _pair(train: Samples, held: Samples, a: int, b: int, ratio: float) -> TwinPair:
    return TwinPair(
        training_index=a,
        held_out_index=b,
        ratio=ratio,
        training_label=train.label(a),
        held_out_label=held.label(b),
        **shown(train, a, held, b),
    )
