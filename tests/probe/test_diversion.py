"""Whatever a script writes, the user's folder stays as it was, and the script reads back what it wrote."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

START = """
import json, logging, os, pathlib, pickle, shutil, sqlite3, sys
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def step():
    optimizer.zero_grad()
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()


def same(state):
    return bool((state["weight"] == model.weight).all())


step()
"""

# name -> what it does, ending with note(back=what it reads back)
WRITERS = {
    "torch.save": """
torch.save(model.state_dict(), "old.pt")
note(back=same(torch.load("old.pt")))
""",
    "torch.save under another name": """
from torch.serialization import load, save
save(model.state_dict(), pathlib.Path("new.pt"))
note(back=same(load("new.pt", mmap=True)))
""",
    "torch.save to an open file": """
with open("old.pt", "wb") as file:
    torch.save(model.state_dict(), file)
note(back=same(torch.load("old.pt")))
""",
    "jit": """
torch.jit.save(torch.jit.script(torch.nn.Linear(3, 1)), "model.ts")
torch.jit.script(torch.nn.Linear(3, 1)).save("other.ts")
note(back=[sorted(torch.jit.load(name).state_dict()) for name in ("model.ts", "other.ts")])
""",
    "safetensors": """
from safetensors.torch import load_file, save_file, save_model
save_file(model.state_dict(), "model.safetensors")
save_model(model, "whole.safetensors")
note(back=[same(load_file("model.safetensors")), same(load_file("whole.safetensors"))])
""",
    "numpy": """
np.save("a.npy", np.arange(3)); np.savez("b.npz", x=np.ones(2)); np.savetxt("c.txt", np.eye(2))
np.arange(4, dtype=np.uint8).tofile("d.bin")
memory = np.memmap("old.bin", dtype=np.uint8, mode="r+", shape=(4,)); memory[:] = 7; memory.flush(); del memory
note(back=[np.load("a.npy").tolist(), np.load("b.npz")["x"].tolist(), np.loadtxt("c.txt").tolist(),
           np.fromfile("d.bin", dtype=np.uint8).tolist(), np.memmap("old.bin", dtype=np.uint8, mode="r").tolist()])
""",
    "tokenizers": """
import importlib.util
assert importlib.util.find_spec("tokenizers")
from tokenizers import Tokenizer, models
tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
os.makedirs("out/checkpoint-1")
tokenizer.save("out/checkpoint-1/tokenizer.json")
note(back=Tokenizer.from_file("out/checkpoint-1/tokenizer.json").get_vocab())
""",
    "h5py": """
import h5py
with h5py.File("x.h5", "w") as file:
    file["a"] = np.arange(3)
note(back=h5py.File("x.h5", "r")["a"][:].tolist())
""",
    "sqlite": """
with sqlite3.connect("runs.db") as base:
    base.execute("create table runs (loss real)"); base.execute("insert into runs values (0.5)")
note(back=sqlite3.connect("runs.db").execute("select * from runs").fetchall())
""",
    "texts": """
with open("log.csv", "a") as file: file.write("1,0.5\\n")
pathlib.Path("config.json").write_text(json.dumps({"lr": 0.1}))
with open("data.pkl", "wb") as file: pickle.dump([1, 2], file)
handler = logging.FileHandler("train.log"); logging.getLogger().addHandler(handler)
logging.warning("step"); handler.close()
note(back=[open("log.csv").read(), json.load(open("config.json")), pickle.load(open("data.pkl", "rb")),
           pathlib.Path("train.log").read_text()])
""",
    "folders and rotation": """
os.makedirs("checkpoints/run1", exist_ok=True)
for epoch in range(4):
    torch.save(epoch, f"checkpoints/run1/{epoch}.pt.tmp")
    os.replace(f"checkpoints/run1/{epoch}.pt.tmp", f"checkpoints/run1/{epoch}.pt")
    for old in sorted(pathlib.Path("checkpoints/run1").glob("*.pt"))[:-2]:
        old.unlink()
shutil.copy("checkpoints/run1/3.pt", "best.pt")
os.symlink("run1", "checkpoints/latest")
shutil.rmtree("earlier")
os.rename("old.pt", "older.pt")
note(back=[sorted(os.listdir("checkpoints/latest")), torch.load("checkpoints/latest/3.pt"), torch.load("best.pt"),
           os.path.exists("earlier"), sorted(os.listdir("."))[-3:], torch.load("older.pt")])
""",
    "another folder": """
began = os.getcwd(); os.makedirs("outputs/today"); os.chdir("outputs/today")
torch.save(5, "model.pt"); os.mkdir("deep")
note(back=[torch.load("model.pt"), torch.load("../../old.pt"), sorted(os.listdir(".")),
           sorted(os.listdir("../.."))[-4:], os.path.relpath(os.getcwd(), began)])
""",
    "a worker": """
class Cached(Dataset):
    def __len__(self): return 4
    def __getitem__(self, index):
        path = f"cache/{index}.npy"
        os.makedirs("cache", exist_ok=True)
        if not os.path.exists(path):
            np.save(path, np.full(3, index))
        return torch.as_tensor(np.load(path))
loader = DataLoader(Cached(), batch_size=2, num_workers=1)
note(back=[[batch.tolist() for batch in loader] for _ in range(2)] + [sorted(os.listdir("cache"))])
""",
    "workers of a fork server": """
import multiprocessing
def save(index):
    os.makedirs("cache", exist_ok=True)
    np.save(f"cache/{index}.npy", np.full(3, index))
if __name__ == "__main__":
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        pool.map(save, range(2))
    note(back=sorted(os.listdir("cache")))
""",
    "temporary files beside the target": """
import tempfile
with tempfile.NamedTemporaryFile(dir=".") as file:
    file.write(b"1"); file.flush()
with tempfile.NamedTemporaryFile("w", dir=".", delete=False) as file:
    file.write("whole")
os.replace(file.name, "final.txt")
note(back=open("final.txt").read())
""",
    "a module that is written and imported": """
pathlib.Path("settings_of_run.py").write_text("rate = 0.25")
os.makedirs("generated"); pathlib.Path("generated/__init__.py").write_text("x = 3")
import importlib.util, generated, settings_of_run
spec = importlib.util.spec_from_file_location("again", "settings_of_run.py")
again = importlib.util.module_from_spec(spec); spec.loader.exec_module(again)
note(back=[settings_of_run.rate, generated.x, again.rate])
""",
    "a copy of a folder with a link": """
os.makedirs("runs/one"); pathlib.Path("runs/one/a").write_text("1"); os.symlink("one", "runs/latest")
shutil.copytree("runs", "copied", symlinks=True)
note(back=[os.readlink("copied/latest"), open("copied/latest/a").read()])
""",
    "functions held by others": """
class Files:
    open = open
    names = os.listdir
held = pickle.loads(pickle.dumps([open, os.stat, os.listdir]))
with Files().open("a.txt", "w") as file: file.write("1")
note(back=[sorted(name for name in Files().names(".") if name == "a.txt"), held[1]("a.txt").st_size,
           os.path.basename(os.getcwdb()) == os.path.basename(os.getcwd()).encode()])
""",
    "another program": """
import subprocess
pathlib.Path("numbers.txt").write_text("12")
note(back=subprocess.run([sys.executable, "-c", "import sys; print(open(sys.argv[1]).read())", "numbers.txt"],
                         capture_output=True, text=True).stdout)
os.makedirs("videos")
subprocess.run([sys.executable, "-c", "import sys; open(sys.argv[1], 'w').write('film')", "videos/1.txt"], check=True)
note(back=open("videos/1.txt").read())
""",
    "tensorboard": """
from torch.utils.tensorboard import SummaryWriter
writer = SummaryWriter("runs/first"); writer.add_scalar("loss", 0.5, 1); writer.close()
note(back=len(os.listdir("runs/first")))
""",
    "a profile": """
with torch.profiler.profile() as profile:
    step()
profile.export_chrome_trace("trace.json")
note(back="traceEvents" in open("trace.json").read())
""",
}
NEEDS = {"safetensors": "safetensors", "tokenizers": "tokenizers", "h5py": "h5py", "tensorboard": "tensorboard"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder under version control, with files of an earlier run."""
    folder = tmp_path / "project"
    (folder / "earlier").mkdir(parents=True)
    (folder / "earlier/model.pt").write_bytes(b"precious")
    (folder / "old.bin").write_bytes(bytes(4))
    (folder / "log.csv").write_text("0,0.7\n")
    return folder


def _git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("name", WRITERS)
def test_the_folder_stays_clean_and_the_script_sees_its_files(zygote, checkout, tmp_path, name):
    package = NEEDS.get(name)
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    script = START + WRITERS[name]
    twin = tmp_path / "twin"
    for folder in (checkout, twin):
        folder.mkdir(exist_ok=True)
        if folder is twin:
            subprocess.run(["cp", "-r", f"{checkout}/.", str(twin)], check=True)
        zygote.bare("import torch\ntorch.save(3, 'old.pt')\n", folder=folder)
    bare = zygote.bare(script, folder=twin)
    (checkout / "train.py").write_text(script)
    _git(checkout, "init", "--quiet")
    _git(checkout, "add", ".")
    _git(checkout, "commit", "--quiet", "-m", "all")
    seen = zygote.probe(script, folder=checkout)
    assert bare.exit_code == 0, bare.output
    assert seen.exit_code == 0, seen.output
    assert seen.noted("back") == bare.noted("back")
    assert _git(checkout, "status", "--porcelain", "--ignored") == ""
    assert seen.diverted


def test_side_effects_can_be_allowed(zygote, tmp_path):
    script = f"{START}\ntorch.save(1, 'model.pt')\nos.makedirs('runs')\nnote(mode=os.environ.get('WANDB_MODE'))\n"
    seen = zygote.probe(script, folder=tmp_path, side_effects="allow")
    assert (tmp_path / "model.pt").exists()
    assert (tmp_path / "runs").is_dir()
    assert seen.noted("mode") == [None]
    assert seen.diverted == []


def test_what_could_not_simply_be_diverted_is_said(zygote, tmp_path):
    (tmp_path / "old.txt").write_text("precious")
    seen = zygote.probe(f"{START}\nos.remove('old.txt')\nstep()\n", folder=tmp_path)
    assert (tmp_path / "old.txt").read_text() == "precious"
    assert any("old.txt" in note and "left in place" in note for note in seen.run["notes"])


def test_other_programs_are_named(zygote, tmp_path):
    seen = zygote.probe(f"{START}\nimport subprocess\nsubprocess.run(['true', 'x'])\nstep()\n", folder=tmp_path)
    assert any("other programs" in note and "true" in note for note in seen.run["notes"])


def test_downloads_are_kept(zygote, tmp_path):
    package = tmp_path / "work/torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "datasets.py").write_text(
        "import os\ndef fetch(root):\n    os.makedirs(root + '/raw', exist_ok=True)\n"
        "    open(root + '/raw/x', 'w').write('1')\n    return open(root + '/raw/x').read()\n"
    )
    script = f"{START}\nimport torchvision.datasets as d\nos.makedirs('data')\nnote(back=d.fetch('data'))\n"
    seen = zygote.probe(script, folder=tmp_path / "work")
    assert seen.noted("back") == ["1"], seen.output
    assert (tmp_path / "work/data/raw/x").exists()
    assert any("kept" in note for note in seen.run["notes"])


def test_nothing_is_uploaded(zygote, tmp_path):
    if importlib.util.find_spec("huggingface_hub") is None:
        pytest.skip("huggingface_hub is not installed")
    script = f"""{START}
import huggingface_hub
client = huggingface_hub.HfApi(token="none")
client.create_repo("me/model", exist_ok=True)
torch.save(model.state_dict(), "model.pt")
answer = client.upload_file(path_or_fileobj="model.pt", path_in_repo="model.pt", repo_id="me/model")
later = huggingface_hub.upload_file(
    path_or_fileobj="model.pt", path_in_repo="model.pt", repo_id="me/model", token="none", run_as_future=True
)
note(back=[answer.oid, later.result().commit_message])
"""
    seen = zygote.probe(script, folder=tmp_path)
    assert seen.noted("back") == [["0" * 40, "Upload model.pt with huggingface_hub"]], seen.output
    assert any("Hub" in note for note in seen.run["notes"])
