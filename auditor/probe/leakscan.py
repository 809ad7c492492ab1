"""Compares what the training and the held-out datasets hold, sample by sample, before random augmentation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from auditor.evidence import HeldOutTrained, Leakage, Overlap, RemedyKind, SamplePair, Split
from auditor.probe.contamination import keep
from auditor.probe.heldoutnames import HELD_OUT, TRAINED, words
from auditor.probe.program import LoaderSeen, chosen, same_samples
from auditor.probe.randomness import RandomState
from auditor.probe.samplerows import shown
from auditor.probe.samples import Samples, Unreadable, read_samples
from auditor.probe.waiting import waiting_data_sets
from auditor.probe.windowscan import scan_windows

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

TIME_SHARE = 0.15  # of what is left of the budget
MOST_SECONDS = 20.0
PAIRS = 8


def scan(probe: Probe) -> str:
    """Send the part `leakage`, or why there is none. Returns what was left out, '' when all was compared."""
    splits = [record for record in probe.program.loaders if getattr(record.loader, "dataset", None) is not None]
    training = [record for record in splits if record.training_credits]
    held_out = [record for record in splits if not record.training_credits and not _same_data(record, training)]
    if not training:
        probe.sink.absent(
            "leakage", "not-applicable", "the loop is not fed by a DataLoader: there is no dataset to read"
        )
        return ""
    held_out = held_out or waiting_data_sets(training)
    stepped = tuple(trained_on(training))
    if not held_out and stepped:
        probe.sink.part("leakage", Leakage(splits=(), trained=stepped))
        return ""
    if not held_out:
        probe.sink.absent("leakage", "not-applicable", "no held-out dataset was seen: only the training data is loaded")
        return ""
    deadline = time.monotonic() + min(MOST_SECONDS, TIME_SHARE * max(0.0, probe.spec.deadline - time.monotonic()))
    noise = RandomState.capture()
    with probe.paused():
        try:
            part, incomplete = _compare(probe, training, held_out, deadline)
        except Exception as why:  # reading samples runs the user's own code, which may do anything
            reason = str(why) if isinstance(why, Unreadable) else f"comparing failed: {type(why).__name__}: {why}"
            probe.sink.absent("leakage", "inconclusive", reason)
            return reason
        finally:
            noise.restore()
    probe.sink.part("leakage", part.model_copy(update={"trained": stepped}))
    return incomplete


def trained_on(training: list[LoaderSeen]) -> Iterator[HeldOutTrained]:
    """Loaders with a name for held-out data that an optimizer of the training loader steps on. One of its own, for
    other parameters, may do so: in the search of an architecture, or to adapt to the test set without its labels."""
    named = [seen for seen in training if words(seen.name) & HELD_OUT and not words(seen.name) & TRAINED]
    for seen in named:
        for other in training:
            common = seen.updates.keys() & other.updates.keys()
            if other not in named and common and seen.shares_model(other):
                steps = sum(seen.updates[optimizer] for optimizer in common)
                yield HeldOutTrained(name=seen.name, training=other.name, updates=steps, location=seen.location)
                break


def _same_data(record: LoaderSeen, training: list[LoaderSeen]) -> bool:
    """A second loader over the very same training dataset object is the training data, not a held-out set, unless it
    is evaluated."""
    return not record.held_out_credits and any(same_samples(record.loader, other.loader) for other in training)


def _compare(
    probe: Probe, training: list[LoaderSeen], held_out: list[LoaderSeen], deadline: float
) -> tuple[Leakage, str]:
    slots = max(1, len(training) + len(held_out))
    now = time.monotonic()
    records = [*training, *held_out]
    read: list[Samples] = []
    for index, record in enumerate(records):
        until = now + (deadline - now) * (index + 1) / slots
        read.append(read_samples(record.loader.dataset, chosen(record.loader), until))
    trains, helds = read[: len(training)], read[len(training) :]
    overlaps, windows = [], []
    for train_record, train in zip(training, trains, strict=True):
        for held_record, held in zip(held_out, helds, strict=True):
            # In cross-validation every fold has a model of its own. A loader that was not used yet is the latest one's.
            if not train_record.shares_model(held_record if held_record.models else training[-1]):
                continue
            identity, matches = _matches(train, held)
            overlaps.append(_overlap(train_record, train, held_record, held, identity, matches))
            known, every = [position for _, position in matches], held.base_indices if identity else held.hashes
            if not matches and (seen := scan_windows((train_record, train), (held_record, held), deadline)) is not None:
                known = seen[1]
                windows.append(seen[0])
            keep(probe, RemedyKind.DROP_KNOWN, held_record, known, every)
    unreadable = next((samples.unreadable for samples in read if samples.unreadable), "")
    if unreadable and not any(overlap.shared for overlap in overlaps):
        raise Unreadable(unreadable)
    incomplete = unreadable or ", ".join(
        f"{record.name}: {len(samples.hashes)} of {samples.total} samples read"
        for record, samples in zip(records, read, strict=True)
        if not samples.complete
    )
    first = trains[0]
    leakage = Leakage(
        splits=tuple(_split(record, samples) for record, samples in zip(records, read, strict=True)),
        overlaps=tuple(overlap for overlap in overlaps if overlap.shared),
        duplicates_in_training=len(first.hashes) - len(set(first.hashes.values())),
        trivial_samples=sum(samples.trivial for samples in read),
        windows=tuple(each for each in windows if each.overlapping),
        sample_values=max((samples.values for samples in read), default=0),
    )
    return leakage, incomplete


def _split(record: LoaderSeen, samples: Samples) -> Split:
    return Split(
        name=record.name,
        role="training" if record.training_credits else "held-out",
        samples=samples.total,
        hashed=len(samples.hashes),
        method=samples.method,
        location=record.location,
        complete=samples.complete,
    )


def _matches(train: Samples, held: Samples) -> tuple[bool, list[tuple[int, int]]]:
    """(whether they are proved by indices, positions of equal samples in both, by the latter)."""
    identity = train.base is not None and train.base is held.base
    if identity:
        # Positions in one base dataset: equal indices are the same sample, whatever it holds.
        by_index = {base: position for position, base in train.base_indices.items()}
        matches = [(by_index[base], position) for position, base in held.base_indices.items() if base in by_index]
        identity = bool(matches)
    if not identity:
        by_hash = {digest: position for position, digest in reversed(train.hashes.items())}
        matches = [(by_hash[digest], position) for position, digest in held.hashes.items() if digest in by_hash]
    return identity, sorted(matches, key=lambda pair: pair[1])


def _overlap(
    train_record: LoaderSeen,
    train: Samples,
    held_record: LoaderSeen,
    held: Samples,
    identity: bool,
    matches: list[tuple[int, int]],
) -> Overlap:
    labels = [(train.label(a), held.label(b)) for a, b in matches[:2000]]
    known = [(a, b) for a, b in labels if a and b]
    return Overlap(
        training=train_record.name,
        held_out=held_record.name,
        shared=len(matches),
        held_out_samples=held.total,
        identity=identity,
        labels_agree=sum(a == b for a, b in known) / len(known) if known else None,
        pairs=tuple(_pair(train, a, held, b) for a, b in matches[:PAIRS]),
        location=held_record.location,
    )


def _pair(train: Samples, a: int, held: Samples, b: int) -> SamplePair:
    return SamplePair(
        training_index=a,
        held_out_index=b,
        training_label=train.label(a),
        held_out_label=held.label(b),
        **shown(train, a, held, b),
    )
