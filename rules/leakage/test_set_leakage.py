"""LEK101: held-out samples are also training samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from auditor.declare import (
    Confidence,
    Finding,
    Inconclusive,
    Judgement,
    Measured,
    NotApplicable,
    Options,
    Severity,
    rule,
)
from auditor.evidence import (
    FedRows,
    Inputs,
    Leakage,
    Location,
    Overlap,
    Remedy,
    RemedyKind,
    Source,
    Split,
    WindowOverlap,
)

from ..trainedon import of_folds, of_held_out, of_refit
from ..words import count, percent

FEW_NUMBERS = 8
COPIED_TOKENS = 0.2  # what a training set repeats of itself once a rare class of short texts was copied into balance


class Limits(Options):
    max_share: float = Field(
        0.01, ge=0, lt=1, description="Share of held-out samples seen in training above which it is an error."
    )
    chance_values: int = Field(
        64,
        ge=0,
        description="Samples of at most this many numbers may repeat by chance, as within the training set.",
    )
    chance_margin: float = Field(
        3.0, ge=1, description="Times the rate of repeats within the training set that chance is allowed."
    )
    max_fed_share: float = Field(
        0.1, ge=0, lt=1, description="The same for rows that no loader hands out, and for runs of tokens."
    )
    min_repeated: float = Field(
        0.2, ge=0, le=1, description="Share of runs of tokens that come twice in training, for a pass without loaders."
    )
    min_hashed: int = Field(20, ge=1, description="Held-out samples that have to be read before a pass is given.")


@rule(
    "LEK101",
    "test-set-leakage",
    severity=Severity.ERROR,
    fix="""Split once and keep the parts apart: remove duplicates *before* splitting, oversample only the training part
    *after* it, and draw both parts from one permutation, e.g.
    `train_set, test_set = random_split(data, [0.8, 0.2], generator=torch.Generator().manual_seed(0))`.""",
    references=(
        "https://arxiv.org/abs/2207.07048",
        "https://arxiv.org/abs/1902.00423",
        "https://docs.pytorch.org/docs/stable/data.html#torch.utils.data.random_split",
    ),
    remedies=(RemedyKind.DROP_KNOWN,),
)
def test_set_leakage(leakage: Leakage, inputs: Inputs | None, source: Source | None, limits: Limits) -> Judgement:
    """Held-out samples are also training samples, so the held-out score measures memory.

    ## What it does

    Compares every held-out sample with every training sample, whole and before random augmentation.

    ## Why is it bad?

    A sample that was trained on is recognised, not predicted. The held-out score is too good, models are chosen
    by it, and the surprise comes in production. It is the most common reason why published results do not reproduce.

    ## How it is measured

    Exactly: a loader that the script calls a test or validation loader fails where the optimizer that steps on the
    training loader has stepped on its batches. Otherwise, either both loaders index one dataset and share indices, or
    samples are equal bit for bit. Shared indices always fail. Equal contents fail as an error above `max-share` of the
    held-out samples and as a warning below it, because well-known data sets contain a few duplicates.

    Where no held-out loader has been built when the comparison is made, data sets that the script's module calls
    held-out (`test_set = Subset(...)`) are compared: many scripts evaluate only in the end.

    Where the held-out data do not come from a loader, the rows that the model is fed are compared instead: those of
    each training step with those of an evaluation whose data the script itself calls held-out (`accuracy(x_test)`).
    A model of several inputs is compared by all of them together. Of text cut into windows anywhere, runs of 24 tokens
    are. It fails above `max-fed-share`, where the rate of repeats between the first two steps, or within the
    evaluation, does not explain it (`chance-margin`). Repeats within the evaluation explain no more than chance can:
    two different rows that come to be equal by chance agree in every column, and how seldom they agree in the column
    that tells them best is counted. What repeats beyond that was copied before the split.

    Windows of a series of measured numbers fail, too, with loaders and without, where both their first and their last 8
    steps are found, bit for bit, at another place of windows that were trained on, for more than `max-fed-share` of
    them: windows that overlap were split at random.

    A last training on everything is read from the source, as it often comes after the probe: the test data are joined
    to those of training, with their targets (`ConcatDataset([train, valid, test])`), given to a function that trains,
    and evaluated by the model after it, before another training.

    How far off the held-out loss is because of it is tried on the loop: after up to 480 replayed steps the weights are
    held, and 24 batches of held-out samples that are training samples are compared with 24 of the others. It takes
    24 samples of either kind.

    ## When it may be wrong

    - Short samples (at most `chance-values` numbers, such as discrete tables or short texts) and drawings in black and
      white repeat by chance. There, repeats *within* the training set tell how often, and only more than
      `chance-margin` times that fails. The exception are short samples of other numbers than 0 and 1 with labels that
      agree in all pairs: that is what oversampling before the split leaves behind. Token ids agree anyway where the
      text decides on its label; there, a fifth of the training set has to repeat as well.
    - Near-constant samples (blank images, padding) are left out.
    - A loader that evaluates the training set on purpose, to show the training accuracy, is recognised by its name
      (`train...`), or because it holds all of the training set while another held-out loader is clean.
    - If only a part could be read, a pass holds for that part, and the text says so.
    - That one model goes through all folds of a cross-validation is read from the source: a loop over a splitter, or
      one that leaves the part with its own number out, which trains a model that was built before it. A function of
      your own that sets the model back should say so by its name (`reset`, `init`, `load`, ...).
    - A loader that is trained on is taken for held-out by its name alone (`test_loader`, `val`), where another one
      without such a name is trained on by the same optimizer.
    - Near-duplicates and shared patients, speakers or scenes are not looked for here.

    ## How to fix

    ```python
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    train_set, test_set = Subset(data, order[:n]), Subset(data, order[n:])   # one permutation, disjoint slices
    assert not set(train_set.indices) & set(test_set.indices)

    x_train, y_train = oversample(x_train, y_train)                           # after the split, never before
    ```
    """
    if source is not None and source.fold_loops:
        yield Measured(float(len(source.fold_loops)), 0.0, "one model goes through all folds of a cross-validation")
        yield from map(of_folds, source.fold_loops)
        return
    if source is not None and source.refits:
        yield Measured(float(len(source.refits)), 0.0, "a training on data that the test data were joined to")
        yield from map(of_refit, source.refits)
        return
    if leakage.trained:
        most = max(each.updates for each in leakage.trained)
        yield Measured(float(most), 0.0, f"{count(most, 'step')} on data that the script calls held-out")
        yield from map(of_held_out, leakage.trained)
        return
    if leakage.fed is not None:
        yield from _fed(leakage.fed, limits)
        return
    splits = {split.name: split for split in leakage.splits}
    training = [split for split in leakage.splits if split.role == "training"]
    held_out = [split for split in leakage.splits if split.role == "held-out"]
    if not held_out:
        raise NotApplicable("no held-out data were seen to compare the training data with")
    if not training or not any(split.hashed for split in training) or not any(split.hashed for split in held_out):
        raise Inconclusive("the samples of the splits could not be read")
    base = _base_rate(leakage, training)
    discrete = inputs is not None and inputs.binary_share >= 0.9
    clean = {split.name for split in held_out} - {overlap.held_out for overlap in leakage.overlaps if overlap.shared}
    faulty, spared = [], []
    for overlap in leakage.overlaps:
        if overlap.shared <= 0:
            continue
        excuse = _excuse(
            overlap, splits, bool(clean), base, leakage.sample_values, discrete, inputs is not None, limits
        )
        if excuse:
            spared.append(excuse)
        else:
            faulty.append(overlap)
    worst = max((_share(overlap) for overlap in faulty), default=0.0)
    read = sum(split.hashed for split in held_out)
    partly = "" if all(split.complete for split in (*training, *held_out)) else " (only a part could be read)"
    text = f"{percent(worst)} of {count(read, 'held-out sample')} are training samples{partly}"
    cut = [each for each in leakage.windows if not faulty and _cut_before_the_split(each, limits)]
    if cut:
        worst = max(each.overlapping / each.windows for each in cut)
        text = f"{percent(worst)} of the held-out windows overlap with training windows at both ends"
    yield Measured(worst, 0.0, "; ".join([text, *dict.fromkeys(spared)]))
    if not faulty and not cut and read < limits.min_hashed and partly:
        raise Inconclusive(f"only {count(read, 'held-out sample')} could be read, needs {limits.min_hashed}")
    for overlap in sorted(faulty, key=_share, reverse=True):
        yield _finding(overlap, splits, leakage, base, limits)
    for seen in cut:
        finding = _overlapping(seen.held_out, seen.windows, seen.overlapping, seen.location, limits)
        yield replace(finding, remedies=(Remedy(kind=RemedyKind.DROP_KNOWN, subject=seen.held_out),))


def _cut_before_the_split(seen: WindowOverlap, limits: Limits) -> bool:
    if seen.held_out.lower().startswith("train"):  # evaluates training data, as its name says
        return False
    return seen.windows >= limits.min_hashed and seen.overlapping > limits.max_fed_share * seen.windows


def _fed(fed: FedRows, limits: Limits) -> Judgement:
    """A loop without loaders for its held-out data: what the model was fed in training, and what it is evaluated on."""
    share = min(1.0, fed.found / max(1, fed.compared))
    what = "token run" if fed.text else "row"
    yield Measured(share, limits.max_fed_share, f"{percent(share)} of {count(fed.compared, what)} of {fed.name}")
    if fed.compared < limits.min_hashed:
        raise Inconclusive(
            f"only {count(fed.compared, what)} of {fed.name} could be compared, needs {limits.min_hashed}"
        )
    if share <= limits.max_fed_share and fed.overlapping > limits.max_fed_share * fed.windows:
        if fed.windows >= limits.min_hashed:
            yield _overlapping(fed.name, fed.windows, fed.overlapping, fed.location, limits)
        return
    if share <= limits.max_fed_share:
        if fed.text and fed.repeated < limits.min_repeated:
            raise Inconclusive(
                f"the text is too long for the probe: only {percent(fed.repeated)} of what was trained on came twice"
            )
        if fed.inputs > 1 and fed.repeated < limits.min_repeated:
            raise Inconclusive(
                f"the {fed.inputs} inputs of the model hardly ever come twice together ({percent(fed.repeated)}), in "
                "training neither: what differs may be no part of the data"
            )
        return
    if share <= limits.chance_margin * _by_chance(fed) or (fed.text and share < fed.repeated / limits.chance_margin):
        return  # the same comes again and again, in training too
    yield Finding(
        message=(
            f"{fed.found} of {count(fed.compared, what)} of {fed.name} ({percent(share)}) had been trained on before "
            f"step {fed.step}, bit for bit"
        ),
        where=fed.name,
        location=fed.location,
        measured=share,
        limit=limits.max_fed_share,
        confidence=Confidence.CONFIRMED,
        detail=(
            f"by chance, {percent(fed.chance)} of what the second step was fed had been in the first",
            f"in the end {percent(fed.repeated)} of what a training step was fed had come before",
        ),
    )


def _overlapping(name: str, windows: int, overlapping: int, location: Location | None, limits: Limits) -> Finding:
    share = overlapping / windows
    return Finding(
        message=(
            f"{overlapping} of {count(windows, 'window')} of {name} ({percent(share)}) overlap at both "
            "ends with windows that had been trained on, bit for bit: those that share their steps are split at random"
        ),
        where=name,
        location=location,
        measured=share,
        limit=limits.max_fed_share,
        confidence=Confidence.CONFIRMED,
        fix="""Split the recording first, into stretches of time, by day or by subject, and cut windows from each part;
        or drop the windows that touch the other part.""",
    )


def _by_chance(fed: FedRows) -> float:
    """The share to expect of an honest split of data that repeat themselves: as often as the steps do, or, for rows,
    as often as those of the evaluation do among themselves, for as many more as were trained on. Rows that are equal
    by chance agree in every column, so never more often than different rows do in the column that tells them best:
    what repeats beyond that are copies."""
    among = 0.0 if fed.text else min(fed.own * fed.trained / max(1, fed.rows), fed.trained * fed.agreement)
    return max(fed.chance, among)


def _share(overlap: Overlap) -> float:
    return min(1.0, overlap.shared / max(overlap.held_out_samples, overlap.shared, 1))


def _base_rate(leakage: Leakage, training: Sequence[Split]) -> float:
    """How often a training sample repeats an earlier one."""
    return min(1.0, leakage.duplicates_in_training / max(1, sum(split.hashed for split in training)))


def _excuse(
    overlap: Overlap,
    splits: dict[str, Split],
    others_clean: bool,
    base: float,
    values: int,
    discrete: bool,
    measured: bool,
    limits: Limits,
) -> str:
    """Why this overlap is no leak, '' when it is one."""
    if overlap.held_out.lower().startswith("train"):
        return f"{overlap.held_out} evaluates training data, as its name says"
    training = splits.get(overlap.training)
    everything = training is not None and overlap.shared == overlap.held_out_samples >= training.samples > 0
    if everything and others_clean:
        return f"{overlap.held_out} holds the whole training set, and another held-out loader is clean"
    # The last of n samples repeats an earlier one about twice as often as the average one did, hence the margin.
    simple = discrete or 0 < values <= limits.chance_values
    by_chance = simple and _share(overlap) <= limits.chance_margin * base
    # Copies made before the split always keep their label; chance repeats of more than a few measurements rarely do.
    alike = not discrete and overlap.labels_agree == 1 and overlap.shared >= 20 and values > FEW_NUMBERS
    copied = alike and (measured or base >= COPIED_TOKENS)
    if by_chance and not copied and not overlap.identity:
        return (
            f"{percent(_share(overlap))} of {overlap.held_out} repeat training samples of {count(values, 'number')}, "
            f"but {percent(base)} repeat within the training set too: chance"
        )
    return ""


def _finding(overlap: Overlap, splits: dict[str, Split], leakage: Leakage, base: float, limits: Limits) -> Finding:
    share = _share(overlap)
    severe = overlap.identity or share > limits.max_share
    how = "by index into one dataset" if overlap.identity else "bit for bit"
    detail = []
    if overlap.pairs:
        pairs = ", ".join(f"{pair.held_out_index} = {pair.training_index}" for pair in overlap.pairs[:5])
        detail.append(f"held-out index = training index: {pairs}")
    if overlap.labels_agree is not None:
        detail.append(f"labels agree in {percent(overlap.labels_agree)} of the pairs")
    if leakage.duplicates_in_training:
        detail.append(f"within the training set {percent(base)} of the samples repeat an earlier one")
    for name in (overlap.training, overlap.held_out):
        split = splits.get(name)
        if split is not None and not split.complete:
            detail.append(f"{split.hashed} of {split.samples} samples of {name} were read: there may be more")
    if leakage.trivial_samples:
        detail.append(f"{count(leakage.trivial_samples, 'near-constant sample')} left out")
    held_out = splits.get(overlap.held_out)
    return Finding(
        message=(
            f"{overlap.shared} of {overlap.held_out_samples} samples of {overlap.held_out} ({percent(share)}) are also "
            f"in {overlap.training}, {how}"
        ),
        where=overlap.held_out,
        location=overlap.location or (held_out.location if held_out else None),
        measured=share,
        limit=limits.max_share if not overlap.identity else 0.0,
        severity=Severity.ERROR if severe else Severity.WARNING,
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
        remedies=(Remedy(kind=RemedyKind.DROP_KNOWN, subject=overlap.held_out),),
    )
