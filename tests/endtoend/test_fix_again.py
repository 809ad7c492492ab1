"""`audit fix` on faulty training scripts: what is written takes the finding away, and the script still runs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.capture import Capture
from auditor.config import Settings
from auditor.configfile import load
from auditor.edits.fixes import plan
from auditor.registry import rules
from auditor.result import Audit, ReportedFinding
from auditor.session import Request, conduct

FIXTURES = Path(__file__).parents[2] / "fixtures"
SECONDS = 400.0

FIXED = {
    "optimizer/misplaced_zero_grad/bad_before_step.py": "        self.optimizer.zero_grad()\n        loss.backward()",
    "model/unregistered_modules/bad.py": "nn.ModuleList([Block(width) for _ in range(depth)])",
    "evaluation/eval_mode_in_training/bad.py": "        model.train()\n        images, labels = next(batches)",
    "optimizer/stale_optimizer_params/bad.py": "model.fc = nn.Linear(48, 4)\noptimizer = torch.optim.SGD(",
    "loss/single_unit_softmax/bad.py": "    nn.Sigmoid(),",
    "loss/broadcast_in_loss/bad.py": "((prediction - y.view_as(prediction)) ** 2).mean()",
    "loss/restricted_output_range/bad.py": "        x = self.fc3(x)\n",
    "loss/softmax_wrong_dim/bad.py": "F.log_softmax(self.fc2(x), dim=1)",
    "data/feature_scale_mismatch/bad.py": "x_train, x_test = (x_train - mean) / std, (x_test - mean) / std\n",
}
FIXED_TOO = {  # like one of the above, or slow
    "optimizer/missing_zero_grad/bad_trainer.py": "            self.optimizer.zero_grad()\n            loss.backward()",
    "optimizer/params_not_in_optimizer/bad.py": "(list(encoder.parameters()) + list(decoder.parameters()), lr=2e-3)",
    "loss/loss_activation_mismatch/bad_nll.py": "F.cross_entropy(model(x), y)",
    "data/class_imbalance/bad.py": "nn.CrossEntropyLoss(weight=torch.tensor([0.519, 13.8]))",
    "learning/lr_too_high/bad_regression.py": "lr=0.075)",
    "model/cross_sample_dependence/bad.py": "nn.LSTM(2, hidden, batch_first=True)",
    "optimizer/misplaced_zero_grad/bad.py": "            optimizer.step()\n            optimizer.zero_grad()",
    "learning/loss_oscillation/bad.py": "lr=0.125, momentum=0.9)",
    "loss/broadcast_in_loss/bad_huber.py": "F.huber_loss(self.model(history), tomorrow.unsqueeze(-1))",
    "loss/double_softmax/bad_lstm.py": "return self.linear(out[:, -1])",
    "loss/softmax_wrong_dim/bad_attention.py": ".squeeze(-1), dim=1)",
    "loss/loss_activation_mismatch/bad.py": "return self.head(h)",
    "optimizer/missing_zero_grad/bad.py": "        optimizer.zero_grad()\n        loss.backward()",
    "optimizer/missing_zero_grad/bad_gpt.py": "    optimizer.zero_grad()\n    loss.backward()",
    "optimizer/accumulation_not_normalised/bad.py": "(loss / 8).backward()",
    "loss/restricted_output_range/bad_autoencoder.py": "nn.Linear(64, 48))",
    "loss/double_softmax/bad.py": "nn.Linear(64, k),\n        )",
    "loss/double_softmax/bad_functional.py": "return self.fc2(x)",
    "data/class_imbalance/bad_defects.py": "nn.CrossEntropyLoss(weight=torch.tensor([0.354, 12.1, 10.7]))",
    "learning/lr_too_high/bad.py": 'parser.add_argument("--lr", type=float, default=0.0375)',
    "learning/lr_too_high/bad_transformer.py": "lr=0.025)",
    "evaluation/train_mode_in_evaluation/bad.py": "    model.eval()\n",
    "evaluation/stochastic_evaluation/bad.py": "F.dropout(weights, DROP, training=self.training)",
    "sequence/padding_in_loss/bad.py": "nn.CrossEntropyLoss(ignore_index=0)",
    "learning/lr_too_low/bad.py": 'parser.add_argument("--lr", type=float, default=2.56e-4)',
}

# What helps there is for its author to write; the words of the reason are checked.
BY_HAND = {
    "gradients/nonfinite_loss/bad.py": "how small a value may be",
    "gradients/nonfinite_loss/bad_counts.py": "how small a value may be",
    "gradients/nonfinite_loss/bad_windows.py": "how small a value may be",
    "evaluation/broadcast_in_metric/bad.py": "which of the two shapes",
    "sequence/mask_ignored/bad.py": "which way round the mask is",
    "sequence/label_shift/bad.py": "in which of the places",
    "sequence/label_shift/bad_copy.py": "in which of the places",
    "sequence/causal_leak/bad.py": "not one call of scaled_dot_product_attention",
    "model/missing_nonlinearity/bad.py": "which nonlinearity it is",
    "model/shadowed_train_method/bad.py": "of its own",
    "precision/clip_before_unscale/bad.py": "once an update",
    "precision/fp16_without_scaler/bad.py": "three calls",
    "precision/scaler_misuse/bad.py": "which call",
    "model/incorrect_gradient/bad.py": "which of the two",
    "model/norm_on_tiny_batch/bad.py": "how many groups",
    "data/invalid_labels/bad.py": "what the labels outside",
    "data/nonfinite_inputs/bad.py": "a missing value",
    "loss/regularization_dominates/bad.py": "terms of the loss",  # a strength that has many names
    "optimizer/scheduler_cadence/bad.py": "the steps that it really takes",
    "data/uncentered_inputs/bad.py": "which transforms",  # a data set of the script's own
    "data/uncentered_inputs/bad_tabular.py": "which transforms|not measured",  # the same
    "data/inputs_scaled_twice/bad.py": "which transforms",  # the second division has to go
    "data/unscaled_targets/bad.py": "scaled back",
    "init/symmetric_init/bad.py": "weights are drawn",
    "init/symmetric_init/bad_autoencoder.py": "weights are drawn",
    "init/initial_loss/bad_head.py": "weights are drawn",
    "init/init_scale/bad.py": "weights are drawn",
    "activations/dead_units/bad.py": "weights are drawn",
    "activations/dead_units/bad_cnn.py": "weights are drawn",
    "activations/saturated_activations/bad.py": "weights are drawn",  # with standardized inputs
    "leakage/test_set_leakage/bad.py": "where the data are split",
    "leakage/test_set_leakage/bad_oversampled.py": "where the data are split",
    "leakage/test_set_leakage/bad_slices.py": "where the data are split",
    "gradients/exploding_gradients/bad.py": "weights are drawn",
    "gradients/exploding_gradients/bad_deep.py": "weights are drawn",
}

# No remedy helped within a trial, or none could be tried; then nothing may be written.
NOT_HELPED = {
    "model/cross_sample_dependence/bad_view.py": "the view mixes more than the order of two axes",
    "model/frozen_norm_drift/bad.py": "the harm is to evaluations, which the training loss does not see",
    "model/input_independence/bad.py": "what is left without the norm says as little of the inputs",
    "precision/scaler_misuse/bad_rebuilt.py": "the scaler is built anew all the time",
    "sequence/untied_weights/bad.py": "it is capacity that is lost, and shows later",
    "model/broken_graph/bad.py": "a number leaves torch, where no graph can follow",
    "model/broken_graph/bad_features.py": "the script does not run with the graph kept",
    "evaluation/broadcast_in_metric/bad_argmax.py": "an argmax over one column has no pairs",
    "precision/low_precision_lost_updates/bad.py": "what is lost adds up to little within a trial",
    "gradients/vanishing_gradients/bad.py": "sigmoids squash the signal whatever the weights are",
    "optimizer/update_ratio/bad.py": "the loss is at its floor in both arms",
    "optimizer/weight_decay_misapplied/bad.py": "the harm is to words that the training loss does not see",
    "optimizer/weight_growth/bad.py": "a loss without a minimum falls faster as it is",
    "optimizer/scheduler_cadence/bad_one_cycle.py": "the rate rises within the probe, and falls only later",
    "data/unshuffled_training_data/bad.py": "the samples of the later classes are not met within the probe",
    "init/symmetric_init/bad_lstm.py": "recurrent weights in a module that cannot be drawn anew",
    "init/initial_loss/bad.py": "the observed loop is too short for a replay",
    "leakage/test_set_leakage/bad_subsets.py": "all of the test set is in the training set",
    "leakage/near_duplicate_leakage/bad.py": "each validation sample has a twin",
    "leakage/group_leakage/bad.py": "each patient is on both sides",
    "learning/cannot_overfit/bad.py": "the labels do not belong to the samples",
    "learning/cannot_overfit/bad_causal_cls.py": "the first position, which sees nothing, is classified",
    "learning/cannot_overfit/bad_centred.py": "the signal is removed before the last layer",
    "learning/cannot_overfit/bad_mixed_rows.py": "the rows are mixed up",
    "learning/loss_plateau/bad.py": "what is learnt is noise",
    "learning/majority_class_collapse/bad.py": "the inputs do not reach the outputs",
}


@pytest.fixture
def audited(warm, tmp_path, monkeypatch) -> Callable[[str], Audit]:
    """Audits a copy of a fixture by the rule that it stands for, and what has become of the copy again."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)

    def run(name: str) -> Audit:
        script, copy = FIXTURES / name, tmp_path / "train.py"
        if not copy.exists():
            shutil.copy(script, copy)
        options = {"max_time": SECONDS, "look_on": 0, "select": (script.parent.name.replace("_", "-"),)}
        settings = Settings(**options)  # type: ignore[arg-type]
        if (script.parent / "auditor.toml").exists():
            shutil.copy(script.parent / "auditor.toml", tmp_path)
            settings = load(tmp_path, rules(), overrides=options)
        audit = conduct(Request(str(copy)), settings, command=warm.command, capture=Capture(None)).audit
        assert audit.run.status == "completed", audit.run.crash
        return audit

    return run


def pairs(default: dict[str, str], further: dict[str, str]) -> pytest.MarkDecorator:
    marked = [pytest.param(name, text, marks=pytest.mark.corpus, id=name) for name, text in further.items()]
    return pytest.mark.parametrize(
        ("name", "text"), [*(pytest.param(name, text, id=name) for name, text in default.items()), *marked]
    )


def told(finding: ReportedFinding) -> str:
    """What a failure should show."""
    fix = finding.fix
    return f"{fix.by_hand} {fix.untried} {fix.trial and fix.trial.what} {fix.trial and fix.trial.helped}\n{fix.diff}"


@pairs(FIXED, FIXED_TOO)
def test_the_finding_is_gone_and_the_script_still_runs(name, text, audited, warm, tmp_path):
    audit = audited(name)
    assert audit.findings
    for finding in audit.findings:
        assert finding.fix.trial is not None, told(finding)
        assert finding.fix.trial.helped, told(finding)
        assert finding.fix.diff, told(finding)
    made = plan(audit.findings, tmp_path)
    assert made.fixed == audit.findings
    made.write()
    assert text in (tmp_path / "train.py").read_text()

    again = audited(name)
    assert not again.findings, [each.message for each in again.findings]
    assert {each.outcome for each in again.verdicts} <= {"pass", "not-applicable"}
    ran = subprocess.run([*warm.python, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "final" in ran.stdout


FIRST_BY_HAND = ["gradients/nonfinite_loss/bad.py", "data/uncentered_inputs/bad.py", "init/symmetric_init/bad.py"]
FIRST_NOT_HELPED = ["optimizer/update_ratio/bad.py"]


def halves(names: dict[str, str], first: list[str]) -> pytest.MarkDecorator:
    return pairs({name: names[name] for name in first}, {name: names[name] for name in names if name not in first})


@halves(BY_HAND, FIRST_BY_HAND)
def test_what_helps_but_cannot_be_written_says_why(name, text, audited, tmp_path):
    audit = audited(name)
    made = plan(audit.findings, tmp_path)
    assert not made.files
    for finding in audit.findings:
        assert finding.fix.trial is not None, told(finding)
        assert finding.fix.trial.helped, told(finding)
        assert any(each in finding.fix.by_hand for each in text.split("|")), told(finding)


@halves(NOT_HELPED, FIRST_NOT_HELPED)
def test_what_does_not_help_is_not_written(name, text, audited, tmp_path):  # noqa: ARG001
    audit = audited(name)
    assert audit.findings
    made = plan(audit.findings, tmp_path)
    assert not made.files, made.diff()


def test_every_faulty_script_with_a_remedy_has_its_place_here():
    told_of = {*FIXED, *FIXED_TOO, *BY_HAND, *NOT_HELPED}
    known = {
        path.relative_to(FIXTURES).as_posix()
        for rule in rules()
        if rule.remedies
        for path in FIXTURES.glob(f"*/{rule.name.replace('-', '_')}/bad*.py")
    }
    assert known <= told_of
