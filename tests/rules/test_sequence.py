"""The rules about token models: causal-leak, label-shift, padding-in-loss, mask-ignored, all-labels-ignored,
untied-weights, missing-positions."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import (
    EmptyMean,
    IgnoredLabels,
    LabelSite,
    Offset,
    PaddedOutputs,
    PaddedSite,
    PairedReplay,
    PlacedTokens,
    TiedPair,
    TiedWeights,
    TokenInfluence,
    TokenLabels,
    TokenSite,
)
from auditor.testing import judge, place


def influence(**changes):
    given = {
        "embedding": "embed",
        "shape": (16, 32),
        "shifted": 1.0,
        "same": 0.1,
        "cuts": 3,
        "before": 0.4,
        "after": 1.2,
        "leaking": 3,
        "own": 1.1,
        "noise": 1e-5,
        "layer": "blocks.0.attn",
        "layer_location": place(17),
        "loss_location": place(50),
    }
    return TokenInfluence(**{**given, **changes})


# ----------------------------------------------------------------------------------------- causal-leak


def leak(**changes):
    return judge("causal-leak", influence(**changes))


def test_predictions_that_change_with_later_tokens_fail():
    (finding,) = leak().findings
    assert finding.confidence == "confirmed"
    assert finding.location.line == 17
    assert "3 cuts" in finding.message
    assert finding.measured == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"before": 0.0, "leaking": 0},
        {"before": 9e-6, "leaking": 0},
        {"before": 1e-4, "leaking": 1},  # a soft mask
    ],
)
def test_causal_models_pass(changes):
    assert leak(**changes).verdict.outcome == "pass"


@pytest.mark.parametrize("shifted", [None, 0.15, 0.9, math.nan])
def test_other_labels_are_not_judged(shifted):
    assert leak(shifted=shifted).verdict.outcome == "not-applicable"


@pytest.mark.parametrize("changes", [{"cuts": 0}, {"after": 0.0}])
def test_nothing_to_compare_is_inconclusive(changes):
    assert leak(**changes).verdict.outcome == "inconclusive"


# ----------------------------------------------------------------------------------------- label-shift


def tokens(equal, compared=4000, **changes):
    """`equal`: share by offset."""
    offsets = tuple(
        Offset(offset=offset, equal=int(equal.get(offset, 0.08) * compared), compared=compared)
        for offset in (-2, -1, 0, 1, 2, 3)
    )
    given = {"function": "cross_entropy", "location": place(50), "calls": 9, "embedding": "embed", "shape": (16, 32)}
    return TokenSite(**{**given, "offsets": offsets, **changes})


def shift(*sites, seen=influence(before=0.0, leaking=0, shifted=0.08, same=1.0)):  # noqa: B008
    return judge("label-shift", TokenLabels(sites=sites), *([seen] if seen else []))


def test_labels_shifted_twice_fail():
    (finding,) = shift(tokens({2: 1.0}), seen=None).findings
    assert finding.confidence == "confirmed"
    assert finding.location.line == 50
    assert "shifted 2 times" in finding.message


def test_labels_that_are_not_shifted_fail_where_the_model_is_causal():
    (finding,) = shift(tokens({0: 1.0})).findings
    assert "just been given" in finding.message


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        (None, "inconclusive"),
        (influence(before=0.9, same=1.0), "not-applicable"),  # an autoencoder reads all of it
        (influence(cuts=0, own=None), "inconclusive"),
        (influence(before=0.0, own=0.0), "pass"),  # the position does not see its own token
    ],
)
def test_labels_that_are_not_shifted_in_other_models(seen, outcome):
    assert shift(tokens({0: 1.0}), seen=seen).verdict.outcome == outcome


@pytest.mark.parametrize(
    "sites",
    [
        (tokens({1: 1.0}),),
        (tokens({1: 1.0}), tokens({2: 1.0})),  # two heads
        (tokens({-1: 1.0}),),  # copying after a delay
    ],
)
def test_right_labels_pass(sites):
    assert shift(*sites).verdict.outcome == "pass"


@pytest.mark.parametrize("equal", [{0: 0.86}, {}, {1: 0.97, 2: 1.0}, {0: 1.0, 2: 1.0}])
def test_labels_of_another_kind_are_not_judged(equal):
    assert shift(tokens(equal)).verdict.outcome == "not-applicable"


def test_few_labels_are_inconclusive():
    assert shift(tokens({2: 1.0}, compared=50)).verdict.outcome == "inconclusive"
    assert shift().verdict.outcome == "inconclusive"


# ------------------------------------------------------------------------------------- padding-in-loss


def padding(**changes):
    given = {"counted": 1000, "pad": 0, "pad_reason": "padding_idx of the embedding", "padded": 400}
    site = tokens({1: 1.0}, **{**given, **changes})
    return judge("padding-in-loss", TokenLabels(sites=(site,)))


def test_padding_that_counts_fails():
    (finding,) = padding(padded_counted=400).findings
    assert (finding.confidence, finding.severity) == ("confirmed", "error")
    assert "40 %" in finding.message
    (finding,) = padding(padded_counted=80).findings
    assert finding.severity == "warning"


@pytest.mark.parametrize("counted", [0, 40])
def test_padding_that_hardly_counts_passes(counted):
    assert padding(padded_counted=counted).verdict.outcome == "pass"


def padded_outputs(**changes):
    given = {"module": "Net", "calls": 9, "padded": 400, "padded_counted": 400, "counted": 1000, "strength": 0.8}
    return judge("padding-in-loss", PaddedOutputs(sites=(PaddedSite(**{**given, **changes}),)))


def test_outputs_at_padding_that_count_fail():
    (finding,) = padded_outputs().findings
    assert (finding.confidence, finding.severity) == ("confirmed", "error")
    (finding,) = padded_outputs(told=False).findings
    assert finding.severity == "warning"


@pytest.mark.parametrize("changes", [{"padded_counted": 0}, {"strength": 0.01}])
def test_outputs_at_padding_that_hardly_count_pass(changes):
    assert padded_outputs(**changes).verdict.outcome == "pass"


def test_few_outputs_at_padding_are_inconclusive():
    assert padded_outputs(padded=10, padded_counted=10).verdict.outcome == "inconclusive"


def test_padding_that_is_not_known_or_not_there():
    assert padding(pad=None, padded_counted=400).verdict.outcome == "not-applicable"
    assert padding(padded=0).verdict.outcome == "not-applicable"
    assert padding(padded=4, padded_counted=4).verdict.outcome == "inconclusive"


# ---------------------------------------------------------------------------------------- mask-ignored


def mask(**changes):
    given = {"mask": "Classifier", "pad": 0, "padded": 60, "pad_change": 0.5, "real_change": 1.0, "location": place(30)}
    return judge("mask-ignored", influence(**{**given, **changes}))


def test_padding_that_decides_fails():
    (finding,) = mask().findings
    assert finding.confidence == "confirmed"
    assert finding.location.line == 30
    assert "Classifier is given a mask" in finding.message
    assert "Classifier makes a mask" in mask(mask_made=True).findings[0].message
    assert "9 positions more of padding" in mask(appended=9).findings[0].message
    assert "inverted" in mask(real_change=0.0).findings[0].message
    assert mask(recurrent=True).findings[0].severity == "warning"
    (finding,) = mask(indices="neighbours").findings
    assert "other indices in 60 padded positions" in finding.message.lower()
    assert "neighbours is padded with 0, which real entries have as well" in finding.detail[0]


def test_lengths_that_no_output_depends_on_warn():
    (finding,) = mask(told_unused=True, pad_change=None, local_layer="LSTM").findings
    assert (finding.severity, finding.confidence) == ("warning", "confirmed")
    assert "not one output changes" in finding.message


@pytest.mark.parametrize("change", [0.0, 1e-4])
def test_a_mask_that_works_passes(change):
    assert mask(pad_change=change).verdict.outcome == "pass"


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"mask": ""}, "not-applicable"),
        ({"local_layer": "LSTM"}, "not-applicable"),
        ({"padded": 3}, "inconclusive"),
        ({"pad_change": None}, "inconclusive"),
        ({"real_change": 0.0, "pad_change": 0.0}, "inconclusive"),
    ],
)
def test_where_a_mask_is_not_judged(changes, outcome):
    assert mask(**changes).verdict.outcome == outcome


# ---------------------------------------------------------------------------------- all-labels-ignored


def labels(**changes):
    given = {"function": "cross_entropy", "location": place(9), "ignore_index": -100, "calls": 60, "empty": 0}
    given |= {"labels": 6000, "ignored": 2000}
    return judge("all-labels-ignored", IgnoredLabels(sites=(LabelSite(**{**given, **changes}),)))


def test_one_empty_batch_of_a_mean_fails():
    (finding,) = labels(empty=1, first_empty=11).findings
    assert finding.confidence == "confirmed"
    assert "first in step 12" in finding.message
    assert "NaN" in finding.message


def test_empty_batches_of_a_sum_fail_only_when_all_are():
    assert labels(empty=3, reduction="sum").verdict.outcome == "pass"
    assert labels(empty=60, reduction="sum").verdict.outcome == "fail"


def test_partly_ignored_labels_pass():
    assert labels().verdict.outcome == "pass"
    assert judge("all-labels-ignored", IgnoredLabels(sites=())).verdict.outcome == "not-applicable"


def test_a_loss_by_hand_that_is_divided_by_a_count_of_nothing_fails():
    mean = EmptyMean(location=place(79), calls=300, empty=2, first_empty=97)
    (finding,) = judge("all-labels-ignored", IgnoredLabels(sites=(), means=(mean,))).findings
    assert finding.location.line == 79
    assert "first at step 98" in finding.message


# -------------------------------------------------------------------------------------- untied-weights


def tied(**changes):
    given = {"embedding": "embed", "head": "head", "tied": False, "shape": (50, 8), "location": place(14)}
    return judge("untied-weights", TiedWeights(pairs=(TiedPair(**{**given, **changes}),)))


def test_a_declared_tie_that_is_none_fails():
    (finding,) = tied(declared="config.tie_word_embeddings").findings
    assert (finding.confidence, finding.severity) == ("confirmed", "warning")
    assert finding.location.line == 14


def test_a_copy_is_noted():
    (finding,) = tied(equal_start=True).findings
    assert (finding.confidence, finding.severity) == ("suspected", "note")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tied": True, "declared": "tie_weights", "equal_start": True, "equal_end": True},
        {"declared": "tie_weights", "equal_start": True, "equal_end": True},  # kept equal by other means
    ],
)
def test_ties_that_hold_and_separate_weights_pass(changes):
    assert tied(**changes).verdict.outcome == "pass"


def test_a_tie_that_was_undone_fails_and_one_parted_by_a_copy_is_noted():
    (finding,) = tied(was_tied=True, tie_location=place(20)).findings
    assert (finding.confidence, finding.severity, finding.location.line) == ("confirmed", "warning", 20)
    (finding,) = tied(was_tied=True, equal_start=True).findings
    assert finding.severity == "note"


def test_frozen_weights_are_not_judged():
    assert tied(declared="tied", trained=False).verdict.outcome == "not-applicable"


# ----------------------------------------------------------------------------------------- missing-positions


def arm(end, steps=120):
    """A loss that falls from 1 to `end` within the first third, and stays there, but for some noise."""
    return tuple(max(end, 1 - (1 - end) * 3 * step / steps) + 0.004 * (step % 5) for step in range(steps))


def placed(*, change=2e-7, kept=0.6, told=0.2, looks=2, fidelity=0.0, steps=120):
    pair = PairedReplay(start="initial", control=arm(kept, steps), treated=arm(told, steps))
    part = PlacedTokens(
        embedding="embed",
        shape=(16, 32),
        exchanged=400,
        change=change,
        mixing=0.3,
        location=place(12),
        looks=(pair,) * looks,
        fidelity=fidelity,
    )
    return judge("missing-positions", part)


def test_an_order_that_is_lost_and_matters_fails():
    (finding,) = placed().findings
    assert (finding.confidence, finding.location.line) == ("confirmed", 12)
    assert "400 tokens" in finding.message
    assert finding.measured == pytest.approx(2 / 3, abs=0.02)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"change": 1e-3}, "pass"),
        ({"told": 0.5}, "pass"),
        ({"told": 0.9}, "pass"),
        ({"looks": 1}, "pass"),
        ({"looks": 0}, "inconclusive"),
        ({"steps": 30}, "inconclusive"),
        ({"fidelity": 0.4}, "inconclusive"),
        ({"change": math.nan}, "pass"),
    ],
)
def test_an_order_that_is_seen_or_does_not_matter(changes, outcome):
    assert placed(**changes).verdict.outcome == outcome
