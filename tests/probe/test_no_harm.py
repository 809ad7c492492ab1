"""Observation changes nothing: not one bit of what a script computes, not one file of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

FIXTURES = Path(__file__).parents[2] / "fixtures"
HEALTHY = sorted((FIXTURES / "healthy").glob("*.py"))
BACKWARDS = 25


@pytest.mark.parametrize("script", HEALTHY, ids=lambda path: path.stem)
def test_observed_steps_are_bit_identical(zygote, script):
    bare = zygote.bare(script, record=BACKWARDS)
    seen = zygote.probe(script, record=BACKWARDS)
    assert bare.exit_code == 0, bare.output
    assert len(bare.notes) >= 5
    assert seen.notes == bare.notes


@pytest.mark.parametrize("name", ["mlp", "cnn_batchnorm", "nano_gpt", "next_iter", "gradient_accumulation"])
def test_recording_for_experiments_is_bit_identical_too(zygote, name):
    script = FIXTURES / f"healthy/{name}.py"
    bare = zygote.bare(script, record=BACKWARDS)
    seen = zygote.probe(script, record=BACKWARDS, experiments=True)
    assert seen.notes == bare.notes


SCALARS = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
losses = []
for step in range(8):
    optimizer.zero_grad()
    loss = model(torch.randn(4, 3)[1:]).square().mean()
    loss.backward()
    optimizer.step()
    losses.append(loss.detach())
note(
    joined=torch.tensor(losses).tolist() == [float(each) for each in losses],
    nested=torch.as_tensor([[losses[0]], [losses[1]]]).shape == (2, 1),
    parameter=torch.tensor([torch.nn.Parameter(losses[0])]).shape == (1,),
)
"""


def test_scalars_can_be_joined_while_subscripts_are_listened_to(zygote):
    """A `__getitem__` in Python makes a tensor a sequence for C, and `torch.tensor` asks sequences for their length."""
    seen = zygote.probe(SCALARS, experiments=True)
    assert seen.noted("joined") == seen.noted("nested") == seen.noted("parameter") == [True], seen.output


LOOP = """
import os, pathlib, torch
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def step():
    optimizer.zero_grad()
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()

step()
"""


@pytest.mark.parametrize(
    "path",
    ["'kept.pt'", "pathlib.Path('kept.pt')", "os.path.abspath('kept.pt')", "'sub/../kept.pt'"],
)
def test_a_saved_file_is_diverted_and_read_back(zygote, tmp_path, path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "kept.pt").write_bytes(b"precious")
    script = f"{LOOP}\ntorch.save({{'a': 7}}, {path})\nnote(loaded=torch.load({path})['a'])\n"
    seen = zygote.probe(script, folder=tmp_path)
    assert seen.noted("loaded") == [7], seen.output
    assert (tmp_path / "kept.pt").read_bytes() == b"precious"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["kept.pt", "sub", "train.py"]
    assert seen.diverted == [str(tmp_path / "kept.pt")]


def test_a_file_of_an_earlier_run_can_be_read(zygote, tmp_path):
    bare = zygote.bare("import torch\ntorch.save(3, 'old.pt')\n", folder=tmp_path)
    seen = zygote.probe(f"{LOOP}\nnote(loaded=torch.load('old.pt'))\n", folder=tmp_path)
    assert (bare.exit_code, seen.noted("loaded")) == (0, [3])


def test_two_checkpoints_of_the_same_name_are_kept_apart(zygote):
    script = f"""{LOOP}
os.mkdir('a'); os.mkdir('b')
torch.save(1, 'a/model.pt'); torch.save(2, 'b/model.pt')
note(loaded=[torch.load('a/model.pt'), torch.load('b/model.pt')])
"""
    seen = zygote.probe(script)
    assert seen.noted("loaded") == [[1, 2]]
    assert not list(seen.folder.glob("*/*.pt"))


def test_saving_fails_where_it_would_fail(zygote):
    script = f"""{LOOP}
try:
    torch.save(1, 'missing/model.pt')
except Exception as error:
    note(kind=type(error).__name__)
"""
    assert zygote.probe(script).noted("kind") == zygote.bare(script).noted("kind") != []


def test_the_working_folder_stays_and_nothing_is_left_in_it(zygote):
    script = f"{LOOP}\nfor _ in range(200):\n    step()\n    note(folder=os.getcwd())\n"
    seen = zygote.probe(script, steps=20, experiments=True, parts=("program", "overfit"))
    assert set(seen.noted("folder")) == {str(seen.folder)}
    assert [entry.name for entry in seen.folder.iterdir()] == ["train.py"]


def test_weights_gone_to_disk_are_not_those_of_an_experiment(zygote):
    """The script's own ending must not run once experiments have changed the weights."""
    script = f"""{LOOP}
import atexit
atexit.register(lambda: note(late="atexit"))
try:
    while True:
        step()
finally:
    note(late="finally")
"""
    seen = zygote.probe(script, steps=20, experiments=True, parts=("overfit",))
    assert seen.exit_code == 0
    assert seen.notes == []
    assert seen["overfit"].arms
