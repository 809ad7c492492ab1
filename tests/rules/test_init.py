"""INI101 symmetric-init and INI103 initial-loss."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import CopiedWeights, InitialLoss, Layer, LayerSymmetry, Model, Program, Symmetry
from auditor.testing import judge, place


def layer(name="fc1", units=64, start=63, end=63, gradient=True, moved=True, zero=False):
    return LayerSymmetry(
        name=name,
        location=place(12),
        units=units,
        duplicates_start=start,
        duplicates_end=end,
        gradient_nonzero=gradient,
        moved=moved,
        zero_start=zero,
    )


def healthy(name="fc2"):
    return layer(name, start=0, end=0)


def symmetric(*layers, steps=60, program=None):
    parts = [Symmetry(steps=steps, layers=layers)]
    return judge("symmetric-init", *parts, *([program] if program else []))


def test_constant_weights_fail_confirmed():
    answer = symmetric(layer(), layer("fc2"), layer("head", units=5, start=4, end=0))
    assert answer.verdict.outcome == "fail"
    (finding,) = answer.findings
    assert finding.confidence == "confirmed"
    assert finding.severity is None  # the rule's own: error
    assert finding.location.line == 12
    assert "64 of the 64 units of fc1" in finding.message
    assert finding.measured == 1.0
    assert any("fc2" in line for line in finding.detail)


def test_random_weights_pass_with_the_measured_share():
    answer = symmetric(healthy("fc1"), healthy())
    assert answer.verdict.outcome == "pass"
    assert answer.verdict.measured == 0.0
    assert answer.verdict.limit == 0.5


@pytest.mark.parametrize("name", ["lora_b", "gate", "adaln", "head"])
def test_zero_starts_that_part_pass(name):
    assert symmetric(layer(name, start=63, end=0, zero=True), healthy()).verdict.outcome == "pass"


def test_zero_starts_that_hardly_move_pass():
    # A rate so small that rows still agree to 1e-6: nothing but intended zero starts is equal.
    lora = [layer(f"{i}.lora_b", zero=True) for i in range(4)]
    assert symmetric(*lora, healthy("lora_a")).verdict.outcome == "pass"


def test_half_of_the_units_is_the_limit():
    assert symmetric(layer(units=65, start=32, end=32), healthy()).verdict.outcome == "pass"
    assert symmetric(layer(units=65, start=33, end=33), healthy()).verdict.outcome == "fail"


def test_frozen_and_unrouted_layers_pass():
    frozen = layer("expert7", gradient=False, moved=False)
    assert symmetric(frozen, healthy()).verdict.outcome == "pass"


def test_a_network_of_zeros_fails():
    zeros = [layer(name, gradient=False, moved=False, zero=True) for name in ("fc1", "fc2", "head")]
    answer = symmetric(*zeros)
    assert answer.verdict.outcome == "fail"
    assert "no gradient" in answer.findings[0].message


def test_warm_up_from_zero_is_inconclusive():
    answer = symmetric(layer(moved=False), layer("fc2", moved=False))
    assert answer.verdict.outcome == "inconclusive"
    assert "warm-up" in answer.verdict.reason


def test_too_few_steps_are_inconclusive():
    answer = symmetric(layer(), layer("fc2"), steps=2)
    assert answer.verdict.outcome == "inconclusive"
    assert "needs 3" in answer.verdict.reason


def test_one_unit_heads_are_not_judged():
    assert symmetric(layer("head", units=1, start=0, end=0)).verdict.outcome == "not-applicable"
    assert symmetric().verdict.outcome == "not-applicable"


def test_embedding_rows_are_not_units():
    program = Program(
        loop="loader",
        models=(
            Model(name="Net", kind="Net", parameters=1, trainable=1, layers=(Layer(name="pos", kind="Embedding"),)),
        ),
    )
    answer = symmetric(layer("pos.weight"), healthy(), program=program)
    assert answer.verdict.outcome == "pass"


def initial(value, classes=27, **changes):
    given = {
        "function": "cross_entropy",
        "value": value,
        "standard_error": 0.5,
        "samples": 32,
        "classes": classes,
        "uniform": math.log(max(classes, 1)),
        "marginal": 2.8,
        "max_logit": 46.0,
        "where": "W2",
        "layer_location": place(38),
    }
    return judge("initial-loss", InitialLoss(**{**given, **changes}))


def test_a_confident_start_warns():
    answer = initial(26.0)
    assert answer.verdict.outcome == "fail"
    (finding,) = answer.findings
    assert finding.severity is None  # the rule's own: warning
    assert finding.confidence == "suspected"
    assert finding.location.line == 38
    assert "26" in finding.message
    assert "27 classes" in finding.message
    assert any("46" in line for line in finding.detail)


@pytest.mark.parametrize("factor", [0.3, 0.9, 1.0, 1.1, 1.9])
def test_usual_starts_pass(factor):
    answer = initial(factor * math.log(27))
    assert answer.verdict.outcome == "pass"
    assert answer.verdict.measured == pytest.approx(factor)


@pytest.mark.parametrize(
    "changes", [{"pretrained": True}, {"soft_targets": True}, {"classes": 1}, {"classes": 32, "samples": 32}]
)
def test_starts_without_a_reference_are_not_judged(changes):
    assert initial(26.0, **changes).verdict.outcome == "not-applicable"


@pytest.mark.parametrize(
    "changes", [{"samples": 4}, {"standard_error": 10.0}, {"standard_error": math.nan}, {"value": math.nan}]
)
def test_uncertain_starts_are_inconclusive(changes):
    assert initial(**{"value": 26.0, **changes}).verdict.outcome == "inconclusive"


def test_the_limit_can_be_configured():
    part = InitialLoss(
        function="cross_entropy",
        value=5.0,
        standard_error=0.01,
        samples=64,
        classes=10,
        uniform=math.log(10),
        marginal=2.3,
    )
    assert judge("initial-loss", part).verdict.outcome == "fail"
    assert judge("initial-loss", part, limits={"max-ratio": 3.0}).verdict.outcome == "pass"


# ----------------------------------------------------------------------------------- copies that never part


@pytest.mark.parametrize(("apart", "moved", "found"), [(0.0, 0.1, 1), (0.05, 0.1, 0), (0.0, 0.0, 0)])
def test_layers_that_stay_copies_of_each_other(apart, moved, found):
    copies = CopiedWeights(names=("experts.0", "experts.1"), shape=(6, 4), moved=moved, apart=apart)
    seen = Symmetry(steps=60, layers=(healthy(),), copies=(copies,))
    findings = judge("symmetric-init", seen).findings
    assert len(findings) == found
    assert all("began as copies" in finding.message for finding in findings)
