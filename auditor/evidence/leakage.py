"""Samples that are in more than one split."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part


class Split(Frozen):
    name: str
    role: Literal["training", "held-out"]
    samples: int
    hashed: int
    method: str = Field(description="'indices', 'arrays', 'files', 'items' or 'batches': how samples were read.")
    location: Location | None = None
    complete: bool = True


class Row(Frozen):
    """Some of a sample's numbers, spread over all of it, or the beginning of its text."""

    values: tuple[str, ...]
    places: tuple[int, ...] = Field((), description="Which of its numbers, counted flat; () for a text.")
    size: int = Field(0, description="Numbers, or characters, in the whole sample.")


class SamplePair(Frozen):
    training_index: int
    held_out_index: int
    training_label: str = ""
    held_out_label: str = ""
    thumbnail: str = Field("", description="PNG data URI of the training sample, images only.")
    held_out_thumbnail: str = ""
    row: Row | None = Field(None, description="Some values of the training sample, where it is no image.")
    held_out_row: Row | None = None


class Overlap(Frozen):
    training: str
    held_out: str
    shared: int = Field(description="Held-out samples that also are training samples, bit for bit.")
    held_out_samples: int
    identity: bool = Field(False, description="Proved by indices into one dataset, not by content.")
    labels_agree: float | None = Field(None, description="Share of the pairs with equal labels, if labels are known.")
    pairs: tuple[SamplePair, ...] = ()
    location: Location | None = Field(None, description="Where the held-out loader or dataset is made.")


class HeldOutTrained(Frozen):
    """A loader that the script itself calls held-out, and that an optimizer steps on as on the training loader."""

    name: str
    training: str = Field(description="The other loader, not called so, that the same optimizer steps on.")
    updates: int = Field(description="Steps on its batches alone.")
    location: Location | None = None


class FedRows(Frozen):
    """Rows that the latest evaluation outside of a loader was fed, and whether the model had been trained on them."""

    name: str = Field(description="What the script calls them.")
    text: bool = Field(description="Runs of tokens were compared, wherever they lie in a row; else whole rows.")
    step: int
    rows: int
    compared: int = Field(description="Rows or runs.")
    found: int
    trained: int = Field(description="Distinct rows or runs that were trained on before.")
    repeated: float = Field(description="Share of the last trained ones that had been trained on before.")
    chance: float = Field(description="Share of the second step's that the first step had: rows come twice by chance.")
    windows: int = Field(0, description="Rows that are windows of a series, by what their first and last steps hold.")
    overlapping: int = Field(
        0, description="Of these, with the first steps inside one window that was trained on, and the last in one."
    )
    own: float = Field(0.0, description="Of the rows of one evaluating forward, the share that repeats another of it.")
    agreement: float = Field(
        1.0, description="Largest likely share of pairs of different rows that agree where rows agree least."
    )
    inputs: int = Field(1, description="Tensors that the model is given for a row, compared together.")
    location: Location | None = None


class WindowOverlap(Frozen):
    """Windows of series that a held-out loader hands out, and whether training windows hold their steps."""

    training: str
    held_out: str
    windows: int = Field(description="Compared, whose values tell them apart.")
    overlapping: int = Field(
        description="Of these, with the first steps inside one training window and the last in one, at another place."
    )
    location: Location | None = None


class Leakage(Part):
    splits: tuple[Split, ...]
    overlaps: tuple[Overlap, ...] = ()
    duplicates_in_training: int = Field(0, description="Training samples equal to an earlier training sample.")
    trivial_samples: int = Field(0, description="Near-constant samples left out.")
    sample_values: int = Field(0, description="Numbers in one sample: few values make chance repeats likely.")
    trained: tuple[HeldOutTrained, ...] = ()
    windows: tuple[WindowOverlap, ...] = ()
    fed: FedRows | None = Field(None, description="Where no loader hands out what is held out.")


class GroupSplit(Frozen):
    """One split, and how many groups (patients, speakers, users) its samples belong to."""

    name: str
    role: Literal["training", "held-out"]
    samples: int
    groups: int


class GroupOverlap(Frozen):
    """Groups that have samples in a training and in a held-out split."""

    training: str
    held_out: str
    shared: int
    held_out_groups: int
    samples: int = Field(0, description="Held-out samples of the shared groups.")
    held_out_samples: int = 0
    examples: tuple[str, ...] = Field((), description="Some of the shared groups.")
    location: Location | None = None


class Groups(Part):
    """The splits by the key that the configuration declares, or by one that tells the label."""

    key: str
    declared: bool = Field(True, description="False: found by its name, and all samples of a group have one label.")
    splits: tuple[GroupSplit, ...]
    overlaps: tuple[GroupOverlap, ...] = ()
    complete: bool = True


class TwinPair(Frozen):
    """A held-out sample and the training sample that is nearest to it."""

    training_index: int
    held_out_index: int
    ratio: float = Field(description="Its distance over that to a farther neighbour.")
    training_label: str = ""
    held_out_label: str = ""
    thumbnail: str = ""
    held_out_thumbnail: str = ""
    row: Row | None = None
    held_out_row: Row | None = None


class NearDuplicates(Part):
    """Distances from held-out samples to training samples, by small descriptors; equal samples are left out."""

    training: str
    held_out: str
    kind: Literal["image", "vector"]
    training_samples: int
    held_out_samples: int
    compared: int = Field(description="Held-out samples whose neighbours were looked for, equal ones left out.")
    searched: int = Field(description="Training samples that they were looked for in.")
    neighbours: int = Field(description="The farther neighbour that distances are related to is the n-th.")
    dimension: float = Field(description="Intrinsic dimension of the data, from its farther neighbours.")
    chance: float = Field(description="Share of samples that such data put below the limit of the ratio by chance.")
    ratio_limit: float = Field(description="Nearest over farther distance below which two samples count as twins.")
    twins: int
    within_twins: float = Field(0.0, description="Share of training samples with a twin within the training set.")
    median_ratio: float = Field(1.0, description="Of all compared samples.")
    labels_agree: float | None = None
    ordered: bool = Field(False, description="Neighbours in the data set's order are alike: frames, windows, tracks.")
    pairs: tuple[TwinPair, ...] = ()
    location: Location | None = None


class CopiedTarget(Frozen):
    """A target that is, bit for bit, one place of the input in all samples that were compared."""

    shape: tuple[int, ...] = Field(description="Of the input, samples first.")
    place: tuple[int, ...] = Field(description="In one sample of the input: a column, or a step and a feature.")
    samples: int
    distinct: int = Field(description="Different values of the target among those that were looked at.")
    location: Location | None = None


class ClassFill(Frozen):
    """A column of measurements in which one value comes again and again, another one for each class of the target."""

    column: int
    classes: int = Field(description="Each with a value of its own, which no row of another class has.")
    rows: int = Field(description="Different rows that were looked at.")
    filled: int = Field(description="Those with such a value.")
    location: Location | None = None


class TargetWindow(Frozen):
    """A column, or a feature of the last step, that is a mean of the targets around its row, the row's own included."""

    shape: tuple[int, ...] = Field(description="Of one sample of the input.")
    column: int = Field(description="Or the feature, of the last step.")
    rows: int = Field(description="Whose neighbours in the series were all seen.")
    weights: tuple[float, ...] = Field(description="Of the targets, from `past` rows before; their sum is 1.")
    past: int
    location: Location | None = None


class CopiedTargets(Part):
    """Targets with few values a sample, beside the inputs of numbers that the model was called with."""

    samples: int = Field(description="Samples that were compared, of the target with the most.")
    copies: tuple[CopiedTarget, ...] = ()
    fills: tuple[ClassFill, ...] = ()
    windows: tuple[TargetWindow, ...] = ()
