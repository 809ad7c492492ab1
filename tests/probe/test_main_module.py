"""A script under the probe is `__main__` as Python itself would make it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

DUMP = """
import json, os, sys
main = sys.modules["__main__"]
spec = globals()["__spec__"]
state = {
    "argv": sys.argv,
    "name": __name__,
    "file": __file__,
    "spec": spec and [spec.name, spec.origin],
    "package": __package__,
    "cached": globals().get("__cached__"),
    "loader": type(__loader__).__name__,
    "doc": __doc__,
    "path": sys.path[0],
    "cwd": os.getcwd(),
    "same": main.__dict__ is globals(),
    "builtins": hasattr(__builtins__, "print"),
    "names": sorted(name for name in globals() if name.startswith("__") and name != "__annotations__"),
}
with open(os.path.join(BASE, "state.json"), "w") as file:
    json.dump(state, file)
"""


@pytest.fixture
def program(tmp_path):
    """A folder with a script, a package and an executable folder, all of which dump what they see."""
    dump = f'"""What I see."""\nBASE = {str(tmp_path)!r}\n{DUMP}'
    (tmp_path / "pkg/inner").mkdir(parents=True)
    (tmp_path / "app").mkdir()
    for name in ("train.py", "pkg/train.py", "pkg/__main__.py", "pkg/inner/deep.py", "app/__main__.py"):
        (tmp_path / name).write_text(dump)
    for name in ("pkg/__init__.py", "pkg/inner/__init__.py"):
        (tmp_path / name).write_text("")
    return tmp_path


def state(folder):
    found = json.loads((folder / "state.json").read_text())
    (folder / "state.json").unlink()
    return found


@pytest.mark.parametrize(
    ("target", "module"),
    [
        ("train.py", False),
        ("./train.py", False),
        ("pkg/train.py", False),
        ("ABSOLUTE/train.py", False),
        ("app", False),
        ("app/", False),
        ("pkg.train", True),
        ("pkg", True),
        ("pkg.inner.deep", True),
    ],
)
def test_everything_that_a_script_can_see_of_itself(zygote, program, target, module):
    target = target.replace("ABSOLUTE", str(program))
    command = [sys.executable, *(["-m"] if module else []), target, "--lr", "0.1", "-m"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    subprocess.run(command, cwd=program, check=True, env=environment)
    plain = state(program)
    seen = zygote.probe(target, "--lr", "0.1", "-m", module=module, folder=program, side_effects="allow")
    assert seen.exit_code == 0, seen.output
    assert state(program) == plain


def test_a_linked_script_finds_its_neighbours(zygote, program):
    """Python resolves the link before it looks for modules beside the script."""
    (program / "real").mkdir()
    (program / "real/neighbour.py").write_text("")
    (program / "real/train.py").write_text("import neighbour\nnote(found=True)\n")
    (program / "linked.py").symlink_to(program / "real/train.py")
    assert zygote.probe("linked.py", folder=program).noted("found") == [True]


WORKER = """
import torch
from torch.utils.data import DataLoader, Dataset


class Squares(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        return torch.tensor([index / 64.0]), torch.tensor([(index / 64.0) ** 2])


def main():
    loader = DataLoader(Squares(), batch_size=8, num_workers=1, multiprocessing_context="spawn")
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in loader:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    note(done=True)


if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("module", [False, True], ids=["script", "module"])
def test_spawned_workers_can_unpickle_classes_of_the_script(zygote, tmp_path, module):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").write_text("")
    (tmp_path / "pkg/train.py").write_text(WORKER)
    seen = zygote.probe("pkg.train" if module else "pkg/train.py", module=module, folder=tmp_path)
    assert seen.noted("done") == [True], seen.output
    assert seen.run["steps"] == 8
    assert seen["program"].loaders[0].workers == 1


@pytest.mark.parametrize(
    ("ending", "code", "crash"),
    [
        ("pass", 0, None),
        ("sys.exit()", 0, None),
        ("sys.exit(0)", 0, None),
        ("sys.exit(3)", 3, "SystemExit"),
        ("sys.exit('no data')", 1, "SystemExit"),
        ("raise ValueError('odd')", 1, "ValueError"),
        ("os._exit(4)", 4, None),
        ("os.kill(os.getpid(), 9)", -9, None),
    ],
)
def test_exit_codes(zygote, ending, code, crash):
    seen = zygote.probe(f"import os, sys\n{ending}\n")
    assert seen.exit_code == code
    assert (seen.run.get("crash") or {}).get("kind") == crash


def test_the_message_of_sys_exit_is_printed(zygote):
    assert "no data here" in zygote.probe("import sys\nsys.exit('no data here')\n").output


CRASH = """
import torch
from torch.utils.data import DataLoader, TensorDataset

model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def train(batch):
    optimizer.zero_grad()
    {line}
    optimizer.step()

for (x,) in DataLoader(TensorDataset(torch.ones(8, 2)), batch_size=2):
    train(x)
"""


@pytest.mark.parametrize(
    "line",
    [
        "model(batch[:, :1]).sum().backward()",
        "torch.nn.functional.mse_loss(model(batch), None).backward()",
        "model(batch).backward()",
        "raise RuntimeError('mine')",
    ],
    ids=["module", "loss", "backward", "own"],
)
def test_tracebacks_show_no_frame_of_ours(zygote, line):
    script = CRASH.format(line=line)
    seen = zygote.probe(script)
    assert seen.exit_code == 1
    crash = seen.run["crash"]
    assert crash["location"]["line"] == 10
    assert crash["location"]["function"] == "train"
    assert "train(x)" in crash["traceback"]
    for text in (crash["traceback"], seen.output):
        assert f"auditor{os.sep}probe" not in text
    assert seen.output.strip() == crash["traceback"].strip()


def test_a_traceback_equals_that_of_a_bare_run(zygote, tmp_path):
    """Torch's own frames stay: only what the probe has put in between is taken out."""
    script = CRASH.format(line="model(batch[:, :1]).sum().backward()")
    (tmp_path / "train.py").write_text(script)
    bare = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    seen = zygote.probe("train.py", folder=tmp_path)
    assert lines(seen.output) == lines(bare.stderr)


def lines(text):
    """Traceback lines with the script's path shortened."""
    return [line.replace("./", "").strip() for line in text.splitlines() if line.strip()]
