"""DAT201: rare classes are drowned out by frequent ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field

from auditor.declare import (
    Confidence,
    Finding,
    Inconclusive,
    Judgement,
    Measured,
    Missing,
    NotApplicable,
    Options,
    Severity,
    rule,
)
from auditor.evidence import ClassWeighted, Labels, PairedReplay, RemedyKind, Tags, Trajectory
from auditor.paired import compare, untrue
from auditor.series import middle, tail

from ..words import count, listing, number, percent


class Limits(Options):
    max_ratio: float = Field(10.0, gt=1, description="Largest ratio of class counts before the effect is looked at.")
    min_seen: int = Field(20, ge=5, description="Samples of a rare class that have to be seen to judge it.")
    min_samples: int = Field(100, ge=10, description="Samples at the end of the probe that have to be seen in all.")
    max_recall: float = Field(0.3, ge=0, lt=1, description="Recall of the rare classes below which a warning is due.")
    max_found: float = Field(
        0.05, ge=0, lt=1, description="Dense labels: mean recall, from guessing (0) to perfect (1), that means nothing."
    )
    min_found: float = Field(0.5, gt=0, lt=1, description="Dense labels: the same, with class weights, for a warning.")
    min_difference: float = Field(
        0.2, gt=0, lt=1, description="How much more of that way class weights have to come for a note."
    )
    max_p_value: float = Field(0.01, gt=0, lt=1, description="Largest p-value of the paired test for that note.")
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")
    min_steps: int = Field(20, ge=1, description="Steps of training before predictions are held against it.")
    min_tag_steps: int = Field(
        150, ge=20, description="The same where each sample has several yes-or-no labels, which are found later."
    )


@rule(
    "DAT201",
    "class-imbalance",
    severity=Severity.WARNING,
    fix="""Weight the loss by class, `nn.CrossEntropyLoss(weight=counts.sum() / (len(counts) * counts))`, or draw rare
    classes more often with `WeightedRandomSampler`; judge by balanced accuracy or per-class recall.""",
    references=(
        "https://arxiv.org/abs/1710.05381",
        "https://arxiv.org/abs/1901.05555",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html",
        "https://docs.pytorch.org/docs/stable/data.html#torch.utils.data.WeightedRandomSampler",
    ),
    remedies=(RemedyKind.CLASS_WEIGHTS,),
)
def class_imbalance(
    labels: Labels | None,
    tags: Tags | None,
    trajectory: Trajectory | None,
    weighted: ClassWeighted | None,
    limits: Limits,
) -> Judgement:
    """A rare class is not predicted, because frequent classes dominate the loss.

    ## What it does

    Compares how often the classes occur in the training labels and, where the ratio is large, how well the rare ones
    are predicted at the end of the probe.

    ## Why is it bad?

    Where one class makes up 96 % of the data, always answering with it has 96 % accuracy and a low loss. The model
    settles there, the headline number looks good, and the class that the model was built for is never found.

    ## How it is measured

    Unequal counts alone never fail. The ratio of the most to the least frequent class has to exceed `max-ratio` (with
    a margin for chance while only some batches were counted), and an effect has to be seen in the last third:

    - **error:** of a rare class at least `min-seen` samples came by and not one was recognised. That is a statistic,
      and still an error: with 20 misses in a row recall is below 15 % with 95 % confidence, and a run whose rare class
      has no recall at all is not worth starting without a decision about it.
    - **warning:** the rare classes' recall is below `max-recall` and accuracy is no better, within two standard
      errors, than always answering with the most frequent class.

    Of dense labels: in replays of some hundred steps the mean recall of the classes stays within `max-found` of
    guessing as the loss is, and comes `min-found` of the way to perfect with class weights. Of either kind, a mean
    recall that class weights bring `min-difference` nearer to perfect, significantly, is a note.

    Where each sample has several yes-or-no labels, those are rare that less than one in `max-ratio` + 1 samples has.
    One of `min-seen` samples or more, of which none is recognised in the last third of at least `min-tag-steps` steps,
    is a note: a threshold below 0.5 may find what a weight would.

    ## When it may be wrong

    - Where labels are ranked and no threshold is applied, those that stay below 0.5 may be just right.
    - Class weights in the loss or a weighted sampler show that the imbalance is dealt with: not judged.
    - Dense labels (segmentation, tokens) have a dominant background by nature. They are judged by experiment alone,
      where the rarest class is never predicted: without and with class weights.
    - The probe is short. A model may find its rare classes later; the longer the tail, the later. With fewer than
      `min-steps` steps or `min-seen` samples of a rare class the answer is inconclusive.
    - If nothing is learned for another reason, that finding is shown as the cause.

    ## How to fix

    ```python
    counts = torch.bincount(y_train)
    criterion = nn.CrossEntropyLoss(weight=counts.sum() / (len(counts) * counts))

    sampler = WeightedRandomSampler((1.0 / counts)[y_train], num_samples=len(y_train))   # or this
    loader = DataLoader(train_set, batch_size=64, sampler=sampler)
    ```
    """
    if labels is None and tags is not None:
        yield from _of_tags(tags, limits)
        return
    if labels is None:
        raise Missing("labels")
    if labels.per_position and weighted is not None:
        yield from _dense(weighted, labels, limits)
        return
    if labels.per_position:
        raise NotApplicable("labels are dense (one per position), where a dominant background is normal")
    if labels.weighted_loss or labels.weighted_sampler:
        raise NotApplicable(f"the {'loss' if labels.weighted_loss else 'sampler'} already weights the classes")
    counts = {c: n for c, n in enumerate(labels.counts) if n > 0 and c != labels.ignore_index}
    if len(counts) < 2:
        raise NotApplicable("fewer than two classes occur in the training labels")
    ratio = _ratio(max(counts.values()), min(counts.values()), labels.complete)
    most = max(counts, key=counts.__getitem__)
    rarest = min(counts, key=counts.__getitem__)
    yield Measured(
        ratio,
        limits.max_ratio,
        f"class {most} occurs {counts[most]} times, class {rarest} {counts[rarest]} times",
    )
    if ratio <= limits.max_ratio:
        return
    steps = len(trajectory.losses) if trajectory else limits.min_steps
    if steps < limits.min_steps:
        raise Inconclusive(f"the classes are unequal, but only {count(steps, 'step')} of training were seen")
    # Counts of some batches only carry chance: what is rare there has to be so by the same margin.
    rare = [c for c in counts if _ratio(counts[most], counts[c], labels.complete) > limits.max_ratio]
    seen = {c: labels.seen[c] for c in rare if c < min(len(labels.seen), len(labels.hits)) and labels.seen[c] > 0}
    judged = [c for c in seen if seen[c] >= limits.min_seen]
    total, hits = sum(labels.seen), sum(labels.hits)
    if not judged or total < limits.min_samples:
        raise Inconclusive(
            f"the classes are unequal ({counts[most]} to {counts[rarest]}), but too few samples of rare classes came "
            f"by at the end of the probe: needs {limits.min_seen} of one, saw {max(seen.values(), default=0)}"
        )
    missed = [c for c in judged if labels.hits[c] == 0]
    if missed:
        yield _missed(missed, labels, counts, most, ratio, limits)
        return
    recall = sum(min(labels.hits[c], seen[c]) for c in judged) / sum(seen[c] for c in judged)
    majority = max(labels.seen) / total
    accuracy = min(hits, total) / total
    error = math.sqrt(majority * (1 - majority) / total)
    if recall < limits.max_recall and accuracy <= majority + 2 * error:
        yield Finding(
            message=(
                f"accuracy {percent(accuracy)} is no better than always answering with the most frequent class "
                f"({percent(majority)}), and only {percent(recall)} of the rare classes' samples are recognised"
            ),
            where=f"class {listing([str(c) for c in judged])}",
            location=labels.data_location or labels.location,
            measured=ratio,
            limit=limits.max_ratio,
            detail=_detail(judged, labels, counts),
        )
        return
    yield from _outweighed(weighted, labels, limits)


def _of_tags(tags: Tags, limits: Limits) -> Judgement:
    """Several yes-or-no labels for each sample, of which some are never answered with yes."""
    if tags.weighted:
        raise NotApplicable("the loss already weights the labels")
    rare = {name: tag for name, tag in enumerate(tags.tags) if 0 < tag.ones * (limits.max_ratio + 1) < tags.rows}
    if not rare:
        raise NotApplicable("none of the labels is rare")
    judged = {name: tag for name, tag in rare.items() if tag.seen >= limits.min_seen}
    if tags.steps < limits.min_tag_steps or not judged:
        raise Inconclusive(
            f"{count(len(rare), 'label')} of {len(tags.tags)} are rare; needs {count(limits.min_tag_steps, 'step')} "
            f"and {limits.min_seen} samples of one, saw {tags.steps} and {max(tag.seen for tag in rare.values())}"
        )
    missed = {name: tag for name, tag in judged.items() if tag.hits == 0}
    rare_ones = count(len(judged), "rare label")
    text = f"{len(missed)} of {rare_ones} are never recognised in the last third of {tags.steps} steps"
    yield Measured(float(len(missed)), 0.0, text)
    if not missed:
        return
    yield Finding(
        message=(
            f"{text}, though {count(sum(tag.seen for tag in missed.values()), 'sample')} there have them: the loss is "
            "lower by never answering yes, and so is the share of wrong answers"
        ),
        where=f"labels {listing([str(name) for name in missed])}",
        location=tags.location,
        measured=float(len(missed)),
        limit=0.0,
        severity=Severity.NOTE,
        detail=tuple(
            f"label {name}: {percent(tag.ones / tags.rows)} of the samples, 0 of {tag.seen} recognised"
            for name, tag in list(missed.items())[:8]
        ),
        fix="""Weight the ones, `nn.BCEWithLogitsLoss(pos_weight=(1 - rate) / rate)` or its square root, or choose a
        threshold for each label on validation data; judge by F1 or average precision per label.""",
        remedies=(),
    )


def _dense(weighted: ClassWeighted, labels: Labels, limits: Limits) -> Judgement:
    """Masks and sequences, where a dominant background is normal: unless nothing else is ever found."""
    if untrue(weighted.fidelity, limits.max_fidelity):
        raise Inconclusive("the replay of your own loop gave other losses than were observed")
    if weighted.classes < 2:
        raise NotApplicable("fewer than two classes occur in the training labels")
    own, found = _ways(weighted)
    text = _recalls(weighted)
    yield Measured(own, limits.max_found, text)
    if own <= limits.max_found and found >= limits.min_found:
        yield Finding(
            message=f"the rare class of dense labels is never predicted, though it can be told: {text}",
            where="loss",
            location=labels.location,
            measured=own,
            limit=limits.max_found,
            confidence=Confidence.CONFIRMED,
            detail=(f"labels seen per class: {listing([str(n) for n in labels.counts])}",),
        )
        return
    yield from _outweighed(weighted, labels, limits)


def _outweighed(weighted: ClassWeighted | None, labels: Labels, limits: Limits) -> Judgement:
    """Rare classes are found, and much more of them with class weights."""
    if weighted is None or untrue(weighted.fidelity, limits.max_fidelity):
        return
    own, found = _ways(weighted)
    apart = compare(PairedReplay(start="initial", control=weighted.weighted, treated=weighted.control))
    if found - own >= limits.min_difference and apart.p_value <= limits.max_p_value:
        yield Finding(
            message=f"rare classes are missed more often than they would have to be: {_recalls(weighted)}",
            where="loss",
            location=labels.location,
            measured=found - own,
            limit=limits.min_difference,
            severity=Severity.NOTE,
            confidence=Confidence.CONFIRMED,
            detail=(
                f"labels seen per class: {listing([str(n) for n in labels.counts])}",
                "class weights trade false alarms for misses; which of the two costs more is for you to say",
            ),
        )


def _ways(weighted: ClassWeighted) -> tuple[float, float]:
    """How far the mean recall of the classes has come from guessing (0) to perfect (1): as they are, weighted."""
    chance = 1 / weighted.classes
    own, found = ((middle(tail(arm)) - chance) / (1 - chance) for arm in (weighted.control, weighted.weighted))
    return own, found


def _recalls(weighted: ClassWeighted) -> str:
    own, found = _ways(weighted)
    return (
        f"after {count(len(weighted.control), 'step')} the mean recall of the classes lies {percent(max(own, 0.0))} of "
        f"the way from guessing to perfect, and {percent(max(found, 0.0))} with class weights"
    )


def _ratio(most: int, least: int, complete: bool) -> float:
    """Most over least frequent, less two standard deviations of both while only a part was counted."""
    if complete:
        return float(most / least)
    return float(max(1.0, (most - 2 * math.sqrt(most)) / (least + 2 * math.sqrt(least) + 2)))


def _missed(
    missed: Sequence[int], labels: Labels, counts: dict[int, int], most: int, ratio: float, limits: Limits
) -> Finding:
    samples = sum(labels.seen[c] for c in missed)
    name = f"{'class' if len(missed) == 1 else 'classes'} {listing([str(c) for c in missed])}"
    verb = "is" if len(missed) == 1 else "are"
    never = all(c < len(labels.predicted) and labels.predicted[c] == 0 for c in missed)
    return Finding(
        message=(
            f"{name} {verb} never predicted{'' if never else ' right'}: 0 of {count(samples, 'sample')} at the end of "
            f"the probe; class {most} occurs {number(ratio)} times as often as the rarest class"
        ),
        where=name,
        location=labels.data_location or labels.location,
        measured=ratio,
        limit=limits.max_ratio,
        severity=Severity.ERROR,
        detail=_detail(missed, labels, counts),
    )


def _detail(shown: Sequence[int], labels: Labels, counts: dict[int, int]) -> tuple[str, ...]:
    total = sum(counts.values())
    frequent = sorted(counts, key=counts.__getitem__, reverse=True)[:2]
    chosen = list(dict.fromkeys((*frequent, *shown)))[:8]
    lines = []
    for c in chosen:
        line = f"class {c}: {percent(counts[c] / total)} of the training labels"
        if c < min(len(labels.seen), len(labels.hits)) and labels.seen[c] > 0:
            line += f", {labels.hits[c]} of {labels.seen[c]} recognised at the end"
        lines.append(line)
    if not labels.complete:
        lines.append("counted over the batches seen, not over the whole training set")
    return tuple(lines)
