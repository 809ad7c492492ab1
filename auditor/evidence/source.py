"""What the user's source says by itself, read without running it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part


class SourceFile(Frozen):
    path: str
    lines: int
    problem: str = Field("", description="Why it could not be read, '' where it was.")


class OwnTrainMethod(Frozen):
    """A method of an nn.Module that stands where Module.train or Module.eval is expected."""

    owner: str = Field(description="Name of the class.")
    name: Literal["train", "eval"]
    signature: str = Field(description="As written, e.g. '(self, x, y)'.")
    location: Location


class WholeFit(Frozen):
    """A statistic of all rows that transforms rows which are split afterwards."""

    what: str = Field(description="What is computed, e.g. 'StandardScaler.fit_transform' or 'x.mean'.")
    data: str = Field(description="The variable that holds all rows.")
    supervised: bool = Field(False, description="It looks at the targets too.")
    location: Location
    split: str = Field(description="What splits the rows, e.g. 'train_test_split'.")
    split_location: Location


class FutureFilter(Frozen):
    """A filter over a whole series that looks ahead, and windows of the outcome that are to forecast that series."""

    what: str = Field(description="The filter, e.g. 'savgol_filter' or 'rolling(center=True)'.")
    data: str = Field(description="The variable that holds the series.")
    location: Location
    target_location: Location = Field(description="Where the later value is taken as the target.")


class FoldLoop(Frozen):
    """A loop over the folds of a cross-validation that trains a model which was built before it, and never set back."""

    model: str
    built: Location
    location: Location


class Refit(Frozen):
    """A training on data that the test data were joined to, before these are evaluated by what came of it."""

    data: str = Field(description="The variable that holds the test data.")
    joined: Location
    location: Location = Field(description="Where it trains.")
    evaluated: Location


class Accumulator(Frozen):
    """A sum over batches that the epoch loop around them never starts anew, and that is divided as if it did."""

    name: str
    divisor: str
    together: bool = Field(
        False,
        description="The divisor goes on as well, over the same data in every epoch, which are not trained on there.",
    )
    lasting: bool = Field(False, description="A list that is a default argument: it lives on from call to call.")
    location: Location = Field(description="Where it is added to.")
    started: Location | None = Field(None, description="Where it is set before the loops.")
    used: Location = Field(description="Where it is divided.")


class MisfitCall(Frozen):
    """A call of torch's KL divergence that gets a softmax as its input, by the source."""

    text: str = Field(description="The input as it is written, or as its variable was set.")
    location: Location


class OwnOrders(Frozen):
    """Inputs and targets that belong together, each shuffled by itself."""

    inputs: str
    targets: str
    first: Location
    location: Location = Field(description="Of the second shuffle.")


class Mention(Frozen):
    """A call or statement that says what its author meant."""

    kind: Literal["freeze", "detach", "no-grad", "seed", "eval-mode", "train-mode", "dropout-switched-on", "backward"]
    text: str = ""
    location: Location


class Source(Part):
    """Facts from the script and the modules beside it that it imports."""

    files: tuple[SourceFile, ...] = ()
    train_methods: tuple[OwnTrainMethod, ...] = ()
    whole_fits: tuple[WholeFit, ...] = ()
    future_filters: tuple[FutureFilter, ...] = ()
    fold_loops: tuple[FoldLoop, ...] = ()
    refits: tuple[Refit, ...] = ()
    accumulators: tuple[Accumulator, ...] = ()
    softmax_divergences: tuple[MisfitCall, ...] = ()
    own_orders: tuple[OwnOrders, ...] = ()
    mentions: tuple[Mention, ...] = ()

    def mentioned(self, *kinds: str) -> tuple[Mention, ...]:
        """Mentions of these kinds, in the order of the source."""
        return tuple(mention for mention in self.mentions if mention.kind in kinds)
