"""Waiting for data, graphs that are kept, and capacity against samples."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import (
    DataWait,
    FedFromMemory,
    Loader,
    Model,
    Program,
    RetainedGraphs,
    Trajectory,
)
from auditor.testing import judge, place


def wait(*parts, **changes):
    given = {"loader": "loader", "waits": (0.05,) * 40, "seconds": (0.08,) * 40, "batches": 500, "epochs": 20}
    return judge("data-bound", DataWait(**{**given, "location": place(14), **changes}), *parts)


def fed(seconds):
    return FedFromMemory(observed=0.08, seconds=(seconds,) * 12)


def test_waiting_that_the_experiment_confirms():
    (finding,) = wait(fed(0.031)).findings
    assert (finding.confidence, finding.location.line) == ("confirmed", 14)
    assert "62.5 %" in finding.message
    assert "31 ms instead of 80 ms" in finding.detail[0]
    assert any("8.33 minutes" in line for line in finding.detail)


def test_without_the_experiment_it_is_a_suspicion():
    assert wait().findings[0].confidence == "suspected"


def test_waiting_that_overlaps_with_the_device_passes():
    assert wait(fed(0.078)).verdict.outcome == "pass"


@pytest.mark.parametrize(
    "changes",
    [
        {"waits": (0.01,) * 40},
        {"waits": (5.0,) * 3 + (0.001,) * 37},  # workers that start
        {"epochs": 1, "batches": 20},  # a second in all
        {"epochs": None, "batches": 100},
    ],
)
def test_little_waiting_passes(changes):
    assert wait(**changes).verdict.outcome == "pass"


def test_an_unknown_length():
    assert wait(epochs=None).verdict.outcome == "fail"  # ten epochs of 500 batches
    assert wait(batches=None).verdict.outcome == "inconclusive"


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"waits": (0.0008,) * 40, "seconds": (0.0015,) * 40}, "not-applicable"),
        ({"waits": (0.05,) * 8, "seconds": (0.08,) * 8}, "inconclusive"),
        ({"waits": (math.nan,) * 40}, "inconclusive"),
    ],
)
def test_steps_that_are_not_judged(changes, outcome):
    assert wait(**changes).verdict.outcome == outcome


# -------------------------------------------------------------------------------------------------------------- graphs


def graphs(**changes):
    given = {"alive": tuple(range(60)), "nodes": 30, "memory": tuple(10**8 + i * 2**20 for i in range(60))}
    given |= {"holder": "losses", "holder_kind": "collection", "location": place(21)}
    return judge("retained-graph", RetainedGraphs(**{**given, **changes}))


def test_graphs_that_are_kept():
    (finding,) = graphs().findings
    assert (finding.confidence, finding.location.line, finding.where) == ("confirmed", 21, "losses")
    assert "59 earlier steps" in finding.message
    assert "the collection losses" in finding.message
    assert any("1 MB a step" in line for line in finding.detail)
    assert "losses.append(loss.item())" in finding.fix


def test_a_sum_and_an_unknown_holder():
    assert "total += loss.item()" in graphs(holder="total", holder_kind="tensor").findings[0].fix
    (finding,) = graphs(holder="", holder_kind="", location=None, backward_location=place(9)).findings
    assert (finding.fix, finding.location.line) == (None, 9)


def test_a_sum_that_begins_anew_every_epoch():
    assert graphs(alive=tuple(step % 15 for step in range(60))).verdict.outcome == "fail"


@pytest.mark.parametrize("alive", [(0,) * 60, (3,) * 60, tuple(step % 6 for step in range(60))])
def test_a_few_graphs_pass(alive):
    assert graphs(alive=alive).verdict.outcome == "pass"


def test_few_steps_are_inconclusive():
    assert graphs(alive=(0, 1, 2)).verdict.outcome == "inconclusive"


# ------------------------------------------------------------------------------------------------------------ capacity


def capacity(
    held_out=((10, 1.0), (20, 1.0), (30, 1.1), (40, 1.3), (50, 1.6)), trainable=100_000, samples=500, losses=None
):
    program = Program(
        loop="loader",
        models=(Model(name="Net", kind="Net", parameters=trainable, trainable=trainable),),
        loaders=(Loader(name="train", role="training", samples=samples, location=place(5)),),
    )
    falling = losses or tuple(0.96**step for step in range(60))
    nothing = (math.nan,) * 60
    return judge(
        "small-data-for-capacity",
        program,
        Trajectory(losses=falling, learning_rates=nothing, grad_norms=nothing, held_out=held_out),
    )


def test_losses_that_part():
    (finding,) = capacity().findings
    assert (finding.confidence, finding.location.line, finding.measured) == ("suspected", 5, 200.0)
    assert "500 training samples" in finding.message


def test_capacity_alone_is_no_fault():
    assert capacity(held_out=tuple((step, 0.96**step) for step in (10, 20, 30, 40, 50))).verdict.outcome == "pass"


def test_another_kind_of_loss_is_no_gap():
    # The held-out loss is a sum over the batch: it is far off from the start, and stays so.
    assert capacity(held_out=tuple((step, 64 * 0.96**step) for step in (10, 20, 30, 40, 50))).verdict.outcome == "pass"


def test_few_parameters_pass():
    assert capacity(trainable=2000).verdict.outcome == "pass"


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"held_out": ((10, 1.0),)}, "inconclusive"),
        ({"samples": None}, "not-applicable"),
        ({"losses": (-1.0,) * 60}, "not-applicable"),
        ({"losses": (0.0,) * 60}, "inconclusive"),
    ],
)
def test_what_cannot_be_told(changes, outcome):
    assert capacity(**changes).verdict.outcome == outcome
