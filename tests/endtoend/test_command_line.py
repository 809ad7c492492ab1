"""`audit run` on scripts that fail, end, take arguments and lack a loop: exit code, status, report.

Those that hang, die, flee or break things are in test_hostile.py.
"""

from __future__ import annotations

import pytest

SETUP = """
import argparse
import torch
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x, y = torch.randn(800, 4), torch.randint(0, 2, (800,))
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def step(a, b):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(a), b).backward()
    optimizer.step()


"""
LOOP = """
for epoch in range(10):
    for i, (a, b) in enumerate(DataLoader(TensorDataset(x, y), batch_size=8)):
        {line}
        step(a, b)
print("trained to the end")
"""


def loop(line="pass"):
    return SETUP + LOOP.format(line=line)


# ------------------------------------------------------------------------------------- refused before anything runs


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("missing.py",), "no such file"),
        (("folder",), "without a __main__.py"),
        (("--no-such-option", "train.py"), "no such option"),
        (("--format", "yaml", "train.py"), "yaml"),
        (("--select", "no-such-rule", "train.py"), "no-such-rule"),
        (("-m", "no.such.module"), "no module"),
        (("-o", "report.yaml", "train.py"), "yaml"),
        ((), "TARGET"),
    ],
)
def test_refused(warm_shell, arguments, said):
    warm_shell.write("open('ran', 'w')\n")
    (warm_shell.folder / "folder").mkdir()
    ended = warm_shell.audit("run", *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert not (warm_shell.folder / "ran").exists()
    assert not ended.report.exists()


def test_an_output_that_cannot_be_written(warm_shell):
    warm_shell.write("pass\n")
    ended = warm_shell.audit("run", "-o", "no/such/folder/audit.json", "train.py")
    assert ended.code == 2
    assert "no/such/folder" in ended.err
    assert "Traceback" not in ended.err


# ------------------------------------------------------------------------------------------------- scripts that fail


def test_a_syntax_error(warm_shell):
    ended = warm_shell.run("import torch\n\nfor epoch in range(3:\n    pass\n")
    assert (ended.code, ended.status) == (3, "script-failed")
    crash = ended.audit["run"]["crash"]
    assert (crash["kind"], crash["location"]["line"]) == ("SyntaxError", 3)
    assert ended.report.exists()


def test_a_crash_before_the_first_step(warm_shell):
    ended = warm_shell.run(SETUP + "raise FileNotFoundError('data.csv')\n")
    assert (ended.code, ended.status, ended.audit["run"]["steps"]) == (3, "script-failed", 0)
    assert ended.audit["run"]["crash"]["kind"] == "FileNotFoundError"
    assert "data.csv" in ended.err
    assert ended.report.exists()


def test_a_crash_in_the_fifth_step(shell):
    ended = shell.run(loop("a = a[:, :3] if i == 5 else a"))
    assert (ended.code, ended.status, ended.audit["run"]["steps"]) == (3, "script-failed", 5)
    crash = ended.audit["run"]["crash"]
    assert (crash["kind"], crash["step"]) == ("RuntimeError", 5)
    assert "step(a, b)" in crash["traceback"]
    assert "auditor/" not in crash["traceback"]
    assert "auditor/" not in ended.err
    assert crash["location"]["function"] == "step"
    assert ended.audit["evidence"]["trajectory"]["losses"]
    assert ended.report.exists()


# ---------------------------------------------------------------------------------------------------- scripts that end


def test_a_script_that_trains_to_its_end(warm_shell):
    ended = warm_shell.run(loop().replace("range(10)", "range(1)").replace("batch_size=8", "batch_size=100"))
    assert (ended.code, ended.status, ended.audit["run"]["steps"]) == (0, "completed", 8)
    assert ended.report.exists()


def test_a_script_that_never_trains(warm_shell):
    ended = warm_shell.run("import torch\nprint(torch.ones(3).sum())\n")
    assert (ended.code, ended.status) == (5, "nothing-to-audit")
    assert "audit_target" in ended.err


def test_an_empty_file(warm_shell):
    ended = warm_shell.run("\n")
    assert (ended.code, ended.status) == (5, "nothing-to-audit")


# ------------------------------------------------------------------------------------------------ arguments and shapes


def test_arguments_belong_to_the_script(warm_shell):
    script = """
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--steps", type=int)
args = parser.parse_args()
for group in optimizer.param_groups:
    group["lr"] = args.lr
for i in range(args.steps):
    step(x[:8], y[:8])
"""
    ended = warm_shell.run(SETUP + script, "--lr", "0.25", "--steps", "7")
    assert (ended.code, ended.audit["run"]["steps"]) == (0, 7)
    assert ended.audit["run"]["args"] == ["--lr", "0.25", "--steps", "7"]
    assert ended.audit["evidence"]["trajectory"]["learning_rates"] == [0.25] * 7


def test_arguments_that_the_script_refuses(warm_shell):
    ended = warm_shell.run("import argparse\nargparse.ArgumentParser().parse_args()\n", "--unknown")
    assert (ended.code, ended.status) == (3, "script-failed")
    assert "--unknown" in ended.err


def test_a_module(shell):
    shell.write("", "pkg/__init__.py")
    shell.write("size = 8\n", "pkg/settings.py")
    text = SETUP + "from .settings import size\n" + LOOP.format(line="pass").replace("batch_size=8", "batch_size=size")
    shell.write(text, "pkg/train.py")
    options = ("--steps", "10", "--select", "missing-zero-grad", "--format", "json")
    ended = shell.audit("run", *options, "-m", "pkg.train")
    assert (ended.code, ended.status, ended.audit["run"]["steps"]) == (0, "completed", 10)
    assert ended.audit["run"]["module"]


def test_standard_output_is_the_report_alone(warm_shell):
    ended = warm_shell.run(loop("print('this is noise', flush=True)"))
    assert ended.audit["run"]["steps"] == 20
    assert "this is noise" not in ended.out


TARGET = """
import torch
from auditor import Target

torch.manual_seed(0)


def audit_target():
    x = torch.randn(200, 4)
    return Target(model=torch.nn.Linear(4, 3), train=(x, torch.randint(0, 3, (200,))))
"""


def test_a_file_that_declares_its_target(warm_shell):
    ended = warm_shell.run(TARGET)
    assert (ended.code, ended.status, ended.audit["run"]["steps"]) == (0, "completed", 20)
    assert ended.audit["evidence"]["program"]["loop"] == "target"
    notes = " ".join(ended.audit["run"]["notes"])
    assert "audit_target()" in notes
    assert "cross entropy" in notes
    assert "Adam" in notes


def test_a_target_of_the_wrong_kind(warm_shell):
    ended = warm_shell.run("def audit_target():\n    return {}\n")
    assert (ended.code, ended.status) == (3, "script-failed")
    assert "auditor.Target" in ended.audit["run"]["crash"]["message"]


RECOGNISED = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))

    def forward(self, x):
        return self.body(x)


criterion = nn.CrossEntropyLoss()
x, y = torch.randn(200, 4), torch.randint(0, 3, (200,))
train_set, test_set = TensorDataset(x[:150], y[:150]), TensorDataset(x[150:], y[150:])
"""


def test_a_file_of_definitions(warm_shell):
    ended = warm_shell.run(RECOGNISED)
    assert (ended.code, ended.status, ended.audit["run"]["steps"]) == (0, "completed", 20)
    notes = " ".join(ended.audit["run"]["notes"])
    for words in ("model = Net()", "train = train_set", "test = test_set", "loss = criterion"):
        assert words in notes


def test_a_file_with_a_model_alone(warm_shell):
    ended = warm_shell.run("import torch\nmodel = torch.nn.Linear(3, 1)\n")
    assert "Traceback" not in ended.err
    assert (ended.code, ended.status) == (5, "nothing-to-audit")


# ------------------------------------------------------------------------------------------------------------- findings


def test_a_finding_and_the_gate(warm_shell):
    script = loop().replace("    optimizer.zero_grad()\n", "")
    ended = warm_shell.run(script)
    assert (ended.code, ended.status) == (1, "completed")
    [finding] = ended.audit["findings"]
    assert finding["rule"] == "missing-zero-grad"
    ended = warm_shell.run(script, options=("--fail-on", "never"))
    assert ended.code == 0
    assert len(ended.audit["findings"]) == 1


def test_everything_at_once(shell):
    """All rules, all experiments, reports of every kind, and not a file more in the folder."""
    learnable = loop("torch.save(model.state_dict(), 'model.pt')").replace(
        "torch.randint(0, 2, (800,))", "(x[:, 0] > 0).long()"
    )
    shell.write(learnable.replace("x, y = torch.randn(800, 4), ", "x = torch.randn(800, 4)\ny = "))
    ended = shell.audit("run", "--steps", "20", "-o", "a.json", "-o", "b.md", "train.py")
    assert ended.code in (0, 1), ended.err
    assert sorted(path.name for path in shell.folder.iterdir()) == [".audit", "a.json", "b.md", "train.py"]
    assert ended.report.exists()
