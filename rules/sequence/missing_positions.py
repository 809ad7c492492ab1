"""SEQ107: tokens enter a model that cannot see in which order they come, and their order matters."""

from __future__ import annotations

from pydantic import Field

from auditor.declare import Confidence, Finding, Inconclusive, Judgement, Measured, Options, Severity, rule
from auditor.evidence import PlacedTokens
from auditor.paired import Comparison, compare, untrue

from ..symptoms import NOT_LEARNING
from ..words import count, named, number, percent


class Limits(Options):
    max_change: float = Field(
        1e-5, gt=0, lt=1, description="Largest change of the outputs, relative, that counts as none: rounding."
    )
    min_gain: float = Field(
        0.3, gt=0, lt=1, description="Share of the loss that goes when tokens are told their places, for a finding."
    )
    max_p_value: float = Field(0.01, gt=0, lt=1, description="Largest p-value of the paired test for that.")
    min_steps: int = Field(60, ge=12, description="Steps that a look has to have.")
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "SEQ107",
    "missing-positions",
    severity=Severity.WARNING,
    explains=(*NOT_LEARNING, "cannot-overfit", "lr-too-low"),
    fix="""Add a code of the position to each token before the first attention layer, learned
    (`nn.Embedding(max_length, width)`) or sinusoidal.""",
    references=(
        "https://arxiv.org/abs/1706.03762",
        "https://arxiv.org/abs/1810.00825",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.TransformerEncoderLayer.html",
    ),
)
def missing_positions(placed: PlacedTokens, limits: Limits) -> Judgement:
    """The model cannot see in which order its tokens come, and their order matters.

    ## What it does

    Lets tokens change places where they leave the embedding, and looks whether any output changes. Where none does, it
    replays the loop with a code of its place added to each token.

    ## Why is it bad?

    Attention computes a weighted sum over all tokens: it is the same sum in whatever order they come. So are means and
    maxima over the length. Without positions a transformer reads a sentence as a bag of words, and nothing fails: the
    loss falls as far as the words alone can tell, and stops there.

    ## How it is measured

    An identity, then an experiment. In evaluation mode and after some steps, the tokens of each sample are reversed,
    but for the first, the last and the padding; no output may change by more than rounding (`max-change`), or it goes
    with its token. Another token in the middle does change the sample's other outputs: positions are mixed. Then the
    loop is replayed from the same weights, on the same batches and with the same random numbers, as it is and with a
    sinusoidal code, as large as the tokens' own vectors. It fails when two looks end lower by `min-gain`,
    significantly by a paired Wilcoxon test.

    ## When it may be wrong

    - Sets have no order: baskets, tags, atoms. There, the code helps nothing, and the rule passes.
    - Values of fields that have a place each, as columns of a table, are told apart by their ids: not asked.
    - A causal mask tells positions by itself, and so do convolutions, recurrences and rotations inside the attention:
      the outputs change, and the rule is not applicable.
    - A code of the place may also help to learn few samples by heart. `min-gain` is far above what that gave.

    ## How to fix

    ```python
    self.position = nn.Embedding(max_length, width)
    ...
    x = self.token(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))
    ```
    """
    if untrue(placed.fidelity, limits.max_fidelity):
        raise Inconclusive("the replay of your own loop gave other losses than were observed")
    if not placed.change <= limits.max_change:
        yield Measured(placed.change, limits.max_change, "the outputs depend on the order of the tokens")
        return
    looks = [look for look in map(compare, placed.looks) if look.steps >= limits.min_steps]
    if not looks:
        most = max((min(len(look.control), len(look.treated)) for look in placed.looks), default=0)
        raise Inconclusive(f"needs {limits.min_steps} replayed steps, saw {most}")
    shown = looks[0]
    account = (
        f"told their places, the tokens leave a loss of {number(shown.treated_end)} after {count(shown.steps, 'step')}"
    )
    yield Measured(shown.gain, limits.min_gain, f"{account} instead of {number(shown.control_end)}")
    if len(looks) > 1 and all(_lower(look, limits) for look in looks):
        yield _finding(placed, looks, limits)


def _lower(look: Comparison, limits: Limits) -> bool:
    return look.gain >= limits.min_gain and look.p_value <= limits.max_p_value and not look.treated_diverged


def _finding(placed: PlacedTokens, looks: list[Comparison], limits: Limits) -> Finding:
    shown = looks[0]
    return Finding(
        message=(
            f"the order of tokens is lost: no output changes when {count(placed.exchanged, 'token')} change places; "
            f"with a code of its place added to each the loss after {count(shown.steps, 'step')} is "
            f"{number(shown.treated_end)} instead of {number(shown.control_end)} ({percent(shown.gain)} less)"
        ),
        where=named(placed.embedding),
        location=placed.location,
        measured=shown.gain,
        limit=limits.min_gain,
        confidence=Confidence.CONFIRMED,
        detail=tuple(
            f"look {place}: loss {number(look.control_end)} as it is, {number(look.treated_end)} with places, from "
            f"{number(look.first)} (p = {number(look.p_value)})"
            for place, look in enumerate(looks, 1)
        ),
    )
