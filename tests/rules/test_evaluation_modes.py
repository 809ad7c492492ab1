"""Rules about the modes of models and what an evaluation builds, on handmade evidence."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import (
    DropoutCall,
    EvaluationNoise,
    MeanDraw,
    ModeEffect,
    ModelModes,
    Modes,
    ModuleMode,
    PairedReplay,
    RandomDraw,
)
from auditor.testing import judge, place

DROPOUT = ModuleMode(name="drop", kind="Dropout", role="dropout", training_on=40, evaluation_on=6)
NORM = ModuleMode(name="bn", kind="BatchNorm2d", role="norm", training_on=40, training_off=20, evaluation_on=6)


def model(**changes):
    given = {
        "model": "Net",
        "location": place(10),
        "training_forwards": 60,
        "evaluation_forwards": 6,
        "modules": (DROPOUT, NORM),
        "evaluation_location": place(50),
        "eval_location": place(44),
    }
    return ModelModes(**{**given, **changes})


def modes(*models, **changes):
    return Modes(steps=60, models=models, **changes)


def effect(**changes):
    given = {
        "steps": 20,
        "output_change": 0.4,
        "decisions_changed": 0.2,
        "training_loss": 1.9,
        "evaluation_loss": 0.7,
    }
    return ModeEffect(**{**given, **changes})


# ------------------------------------------------------------------------------------------- train-mode-in-evaluation


def test_an_evaluation_in_training_mode_fails_at_its_forward():
    answer = judge("train-mode-in-evaluation", modes(model(train_mode_evaluations=6)), effect())
    (finding,) = answer.findings
    assert finding.location.line == 50
    assert finding.confidence == "confirmed"
    assert "6 of 6" in finding.message
    assert "0.7 in evaluation mode and 1.9 in training mode" in finding.message
    assert "drop dropped elements" in finding.message


def test_without_a_replay_it_fails_too():
    assert judge("train-mode-in-evaluation", modes(model(train_mode_evaluations=6))).verdict.outcome == "fail"


@pytest.mark.parametrize(
    "changes",
    [
        {},  # in evaluation mode, as it should be
        {"train_mode_evaluations": 2},  # most of them are
        {"train_mode_evaluations": 6, "repeated_evaluations": 6},  # Monte Carlo dropout
        {"train_mode_evaluations": 6, "modules": (DROPOUT.model_copy(update={"evaluation_on": 0}),)},
    ],
)
def test_evaluations_that_pass(changes):
    assert judge("train-mode-in-evaluation", modes(model(**changes))).verdict.outcome == "pass"


def test_samples_of_a_generator_pass():
    generator = model(train_mode_evaluations=6, held_out_evaluations=6)
    assert judge("train-mode-in-evaluation", modes(generator, adversarial=True)).verdict.outcome == "pass"
    measured = generator.model_copy(update={"measured_evaluations": 6})
    assert judge("train-mode-in-evaluation", modes(measured, adversarial=True)).verdict.outcome == "fail"


def test_no_effect_is_no_finding():
    same = effect(output_change=0.0, training_loss=0.7, evaluation_loss=0.7)
    assert judge("train-mode-in-evaluation", modes(model(train_mode_evaluations=6)), same).verdict.outcome == "pass"


@pytest.mark.parametrize("changes", [{"modules": ()}, {"evaluation_forwards": 0}])
def test_evaluations_that_are_not_applicable(changes):
    answer = judge("train-mode-in-evaluation", modes(model(train_mode_evaluations=6, **changes)))
    assert answer.verdict.outcome == "not-applicable"


# ---------------------------------------------------------------------------------------------- eval-mode-in-training

FORGOTTEN = {"forgotten": 20, "forgotten_since": 40, "trained_before": 40}


def test_a_forgotten_eval_fails_at_its_call():
    (finding,) = judge("eval-mode-in-training", modes(model(**FORGOTTEN)), effect()).findings
    assert finding.location.line == 44
    assert finding.severity == "error"
    assert "since step 41" in finding.message
    assert "bn keeps old statistics" in finding.message
    assert "drop" not in finding.message.split("bn")[0].split("trains")[0]


def test_a_model_that_never_was_in_training_mode_is_a_warning():
    never = {**FORGOTTEN, "trained_before": 0, "forgotten": 60, "forgotten_since": 0}
    (finding,) = judge("eval-mode-in-training", modes(model(**never))).findings
    assert (finding.severity, finding.confidence) == ("warning", "suspected")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"chosen": 60},  # in evaluation mode from the start
        {**FORGOTTEN, "modules": (DROPOUT, NORM.model_copy(update={"training_off": 0}))},
    ],
)
def test_training_that_passes(changes):
    assert judge("eval-mode-in-training", modes(model(**changes))).verdict.outcome == "pass"


@pytest.mark.parametrize("modules", [(), (NORM.model_copy(update={"frozen": True}),)])
def test_nothing_to_switch_is_not_applicable(modules):
    answer = judge("eval-mode-in-training", modes(model(**{**FORGOTTEN, "modules": modules})))
    assert answer.verdict.outcome == "not-applicable"


def test_a_forgotten_eval_without_effect_passes():
    same = effect(output_change=0.0, training_loss=0.7, evaluation_loss=0.7)
    assert judge("eval-mode-in-training", modes(model(**FORGOTTEN)), same).verdict.outcome == "pass"


# ---------------------------------------------------------------------------------------------- stochastic-evaluation


def call(**changes):
    given = {"function": "dropout", "module": "head", "p": 0.5, "calls": 6, "active": 6, "location": place(31)}
    return DropoutCall(**{**given, **changes})


def noise(*draws, difference=0.4, repeats=True):
    return EvaluationNoise(difference=difference, repeats=repeats, draws=draws)


def test_a_dropout_without_its_flag_fails_at_its_line():
    draw = RandomDraw(operation="dropout", module="head", dropout=True, given="default", location=place(31))
    (finding,) = judge("stochastic-evaluation", modes(model(), dropout_calls=(call(),)), noise(draw)).findings
    assert finding.location.line == 31
    assert (finding.severity, finding.confidence) == ("error", "confirmed")
    assert "without training=self.training" in finding.message
    assert "40 %" in finding.message


def test_the_identity_alone_decides_too():
    assert judge("stochastic-evaluation", modes(model(), dropout_calls=(call(),))).verdict.outcome == "fail"


def test_the_experiment_alone_is_a_warning_when_nothing_was_evaluated():
    draw = RandomDraw(operation="scaled_dot_product_attention", dropout=True, given="rate", location=place(12))
    (finding,) = judge("stochastic-evaluation", modes(model(evaluation_forwards=0)), noise(draw)).findings
    assert finding.severity == "warning"
    assert "dropout_p" in finding.message


@pytest.mark.parametrize(
    ("calls", "draws", "difference"),
    [
        ((), (), 0.0),
        ((call(active=0),), (), 0.0),
        ((call(given="literal"),), (RandomDraw(operation="dropout", dropout=True, given="literal"),), 0.5),
        ((), (RandomDraw(operation="randn_like", location=place(36)),), 0.8),  # a variational autoencoder
        ((call(),), (), 0.0),  # heard, and the outputs are the same all the same
    ],
)
def test_randomness_that_passes(calls, draws, difference):
    answer = judge("stochastic-evaluation", modes(model(), dropout_calls=calls), noise(*draws, difference=difference))
    assert answer.verdict.outcome == "pass"


def sampling(mean=0.012, spread=0.002, **changes):
    """A held-out loss of 0.02, in groups that differ by `spread`, and what it is with the mean of what is drawn."""
    drawn = [0.02 + spread * (group % 5 - 2) for group in range(30)]
    still = [mean + spread * (group % 7 - 3) for group in range(30)]
    groups = PairedReplay(start="later", control=drawn, treated=still)
    measured = MeanDraw(steps=480, samples=900, drawn=0.02, mean=mean, groups=groups)
    draw = RandomDraw(operation="randn_like", module="SoilVAE", location=place(26))
    seen = noise(draw, difference=0.5).model_copy(update={"mean_draw": measured})
    return judge("stochastic-evaluation", modes(model(**changes)), seen)


def test_samples_drawn_in_evaluation_that_cost_something_are_a_note():
    (finding,) = sampling().findings
    assert (finding.severity, finding.location.line, finding.measured) == ("note", 26, pytest.approx(0.4))
    assert "0.012 with the mean of what it draws, 40 % less" in finding.message


@pytest.mark.parametrize(
    "changes", [{"mean": 0.019}, {"mean": 0.03}, {"mean": 0.017, "spread": 0.02}, {"repeated_evaluations": 9}]
)
def test_samples_drawn_in_evaluation_that_pass(changes):
    assert sampling(**changes).verdict.outcome == "pass"


def test_a_flag_given_by_an_expression_is_a_warning():
    (finding,) = judge("stochastic-evaluation", modes(model(), dropout_calls=(call(given="expression"),))).findings
    assert finding.severity == "warning"


def test_dropout_by_hand_is_a_warning():
    draw = RandomDraw(operation="rand", module="drop_path", dropout=True, given="mask", location=place(38))
    (finding,) = judge("stochastic-evaluation", modes(model()), noise(draw)).findings
    assert (finding.severity, finding.location.line) == ("warning", 38)
    assert "drop_path draws a mask" in finding.message


def test_monte_carlo_dropout_passes():
    several = model(repeated_evaluations=12, train_mode_evaluations=12)
    assert judge("stochastic-evaluation", modes(several, dropout_calls=(call(),))).verdict.outcome == "pass"


def test_without_evaluation_and_replay_there_is_nothing_to_say():
    answer = judge("stochastic-evaluation", modes(model(evaluation_forwards=0)))
    assert answer.verdict.outcome == "not-applicable"


def test_outputs_that_are_not_finite_do_not_fail():
    assert judge("stochastic-evaluation", modes(model()), noise(difference=math.nan)).verdict.outcome == "pass"


# -------------------------------------------------------------------------------------------- gradients-in-evaluation


def test_unused_graphs_are_noted():
    (finding,) = judge("gradients-in-evaluation", modes(model(graph_evaluations=6, graph_location=place(70)))).findings
    assert finding.location.line == 70
    assert "6 of 6" in finding.message


@pytest.mark.parametrize(("changes", "outcome"), [({}, "pass"), ({"evaluation_forwards": 0}, "not-applicable")])
def test_evaluations_without_graphs(changes, outcome):
    assert judge("gradients-in-evaluation", modes(model(**changes))).verdict.outcome == outcome
