"""The rules of distributed programs, on fingerprints made by hand."""

from __future__ import annotations

import random

import pytest

from auditor.evidence import RankPrint, Ranks, SampleOrder
from auditor.testing import judge, place


def batches(indices, size=16):
    return tuple(tuple(indices[i : i + size]) for i in range(0, len(indices), size))


def shuffled(seed, indices):
    kept = list(indices)
    random.Random(seed).shuffle(kept)
    return kept


def one(rank, indices, **changes):
    given = {"dataset": "abc", "samples": 1000, "sampler": "RandomSampler", "pass_samples": 1000, "location": place(7)}
    return RankPrint(rank=rank, batches=batches(list(indices)), **{**given, **changes})


def sampling(*prints, world_size=2):
    return judge("missing-distributed-sampler", Ranks(world_size=world_size, rank=0, prints=prints))


def test_the_same_batches_fail():
    order = shuffled(1, range(1000))
    (finding,) = sampling(one(0, order), one(1, order)).findings
    assert (finding.confidence, finding.severity, finding.location.line) == ("confirmed", None, 7)
    assert "100 %" in finding.message
    assert "same gradient" in finding.message


def test_two_shuffles_of_the_whole_are_a_warning():
    (finding,) = sampling(one(0, shuffled(1, range(1000))), one(1, shuffled(2, range(1000)))).findings
    assert finding.severity == "warning"
    assert "once per rank" in finding.message


def test_parts_that_overlap_fail():
    parts = {"pass_samples": 500}
    (finding,) = sampling(one(0, range(500), **parts), one(1, reversed(range(400, 900)), **parts)).findings
    assert finding.severity == "error"
    assert "not disjoint" in finding.message


def test_parts_of_their_own_pass():
    answer = sampling(one(0, range(0, 1000, 2)), one(1, range(1, 1000, 2)))
    assert (answer.verdict.outcome, answer.verdict.measured) == ("pass", 0.0)


def test_samples_repeated_to_even_out_the_parts_pass():
    """1003 samples on 8 ranks: five are handed out twice."""
    order = [*range(1003), *range(5)]
    prints = [one(rank, order[rank::8], samples=1003) for rank in range(8)]
    assert sampling(*prints, world_size=8).verdict.outcome == "pass"


def test_sampling_with_replacement_passes():
    draw = random.Random(0)
    prints = [one(r, [draw.randrange(1000) for _ in range(500)], replacement=True) for r in range(2)]
    assert sampling(*prints).verdict.outcome == "pass"


def test_other_datasets_pass():
    assert sampling(one(0, range(500)), one(1, range(500), dataset="xyz")).verdict.outcome == "pass"
    assert sampling(one(0, range(500)), one(1, range(500), dataset="")).verdict.outcome == "inconclusive"


def test_streams_are_compared_by_content():
    stream = {"dataset": "", "samples": None, "sampler": "", "pass_samples": None, "by": "content"}
    assert sampling(one(0, range(500), **stream), one(1, range(500), **stream)).verdict.outcome == "fail"
    assert sampling(one(0, range(500), **stream), one(1, range(500, 900), **stream)).verdict.outcome == "pass"


def test_a_small_set_may_be_replicated():
    few = one(0, range(60), samples=60), one(1, range(60), samples=60)
    assert sampling(*few).verdict.outcome == "not-applicable"


def test_one_rank_alone_is_inconclusive():
    answer = sampling(one(0, range(1000)))
    assert answer.verdict.outcome == "inconclusive"
    assert "1 of 2" in answer.verdict.reason
    assert sampling(one(0, range(1000)), world_size=1).verdict.outcome == "not-applicable"


# ----------------------------------------------------------------------------------------------------------- set_epoch


def order(**changes):
    given = {"loader": "loader", "sampler": "DistributedSampler", "sequential": False, "distributed": True}
    given |= {"shuffles": True, "passes": 2, "compared": 320, "repeated": True, "location": place(5)}
    return judge("missing-set-epoch", SampleOrder(**{**given, **changes}))


def test_a_repeated_order_fails():
    (finding,) = order().findings
    assert (finding.confidence, finding.location.line) == ("confirmed", 5)
    assert "320 samples" in finding.message


def test_another_order_passes():
    assert order(repeated=False).verdict.outcome == "pass"


@pytest.mark.parametrize("changes", [{"distributed": False}, {"shuffles": False}])
def test_other_samplers_are_not_judged(changes):
    assert order(**changes).verdict.outcome == "not-applicable"


@pytest.mark.parametrize("changes", [{"passes": 1, "compared": 0}, {"compared": 3}])
def test_one_pass_is_inconclusive(changes):
    assert order(**changes).verdict.outcome == "inconclusive"


# ---------------------------------------------------------------------------------------------------------- divergence


def weights(rank, digests, **changes):
    given = {"parallel": "ddp", "levels": tuple(1.0 + rank * 0.01 for _ in digests), "model_location": place(12)}
    return RankPrint(rank=rank, digests=tuple(digests), **{**given, **changes})


def divergence(first, second, **changes):
    return judge(
        "rank-divergence",
        Ranks(world_size=2, rank=0, prints=(weights(0, first, **changes), weights(1, second, **changes))),
    )


def test_weights_that_differ_fail():
    (finding,) = divergence("abcdefgh", "abCDEFGH").findings
    assert (finding.confidence, finding.location.line, finding.measured) == ("confirmed", 12, 6.0)
    assert "from step 3 on" in finding.message
    assert "from the first step on" in divergence("abcd", "ABCD").findings[0].message


def test_equal_weights_pass():
    assert divergence("abcdefgh", "abcdefgh").verdict.outcome == "pass"


def test_weights_that_are_averaged_now_and_then_pass():
    assert divergence("abcdefgh", "ABCdEFGh").verdict.outcome == "pass"


def test_without_ddp_they_must_have_been_equal_first():
    assert divergence("abcdefgh", "abCDEFGH", parallel="").verdict.outcome == "fail"
    assert divergence("abcdefgh", "ABCDEFGH", parallel="").verdict.outcome == "not-applicable"


def test_sharded_models_are_not_judged():
    assert divergence("abcd", "ABCD", parallel="sharded").verdict.outcome == "not-applicable"


def test_too_little_is_inconclusive():
    assert divergence("abcdefgh", "abcdefgH").verdict.outcome == "inconclusive"
    answer = judge("rank-divergence", Ranks(world_size=4, rank=0, prints=(weights(0, "abc"),)))
    assert "1 of 4" in answer.verdict.reason
