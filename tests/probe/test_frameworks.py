"""Training through frameworks: watching changes nothing, places are the user's, experiments run or say why not."""

from __future__ import annotations

import importlib.util

import pytest

DATA = """
import logging, os, warnings
warnings.filterwarnings("ignore")
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

torch.manual_seed(0)
x = torch.randn(640, 6)
y = (x[:, 0] + x[:, 1] > 0).long()
data = TensorDataset(x, y)


def network():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))


"""
QUIET = "accelerator='cpu', logger=False, enable_progress_bar=False, enable_model_summary=False"
SCRIPTS = {
    "lightning, automatic optimization": f"""
import lightning as L
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = network()
    def training_step(self, batch, index):
        a, b = batch
        return F.cross_entropy(self.net(a), b)
    def validation_step(self, batch, index):
        self.log("loss", F.cross_entropy(self.net(batch[0]), batch[1]))
    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 5)]

trainer = L.Trainer(max_epochs=30, gradient_clip_val=1.0, {QUIET})
trainer.fit(Net(), DataLoader(data, batch_size=16, shuffle=True), DataLoader(data, batch_size=64))
""",
    "lightning, manual optimization": f"""
import lightning as L
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.net = network()
    def training_step(self, batch, index):
        a, b = batch
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(F.cross_entropy(self.net(a), b))
        optimizer.step()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

L.Trainer(max_epochs=30, enable_checkpointing=False, {QUIET}).fit(Net(), DataLoader(data, batch_size=16, shuffle=True))
""",
    "fabric": """
from lightning.fabric import Fabric
fabric = Fabric(accelerator="cpu", devices=1)
model = network()
model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
loader = fabric.setup_dataloaders(DataLoader(data, batch_size=16, shuffle=True))
for epoch in range(30):
    for a, b in loader:
        optimizer.zero_grad()
        fabric.backward(F.cross_entropy(model(a), b))
        optimizer.step()
    fabric.save("state.ckpt", {"model": model})
""",
    "accelerate": """
from accelerate import Accelerator
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
model = network()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 10)
loader = DataLoader(data, batch_size=16, shuffle=True)
model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
for epoch in range(60):
    for a, b in loader:
        with accelerator.accumulate(model):
            accelerator.backward(F.cross_entropy(model(a), b))
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    accelerator.save_state("state")
""",
    "transformers Trainer": """
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

class Tokens(Dataset):
    def __init__(self):
        start = torch.randint(0, 50, (320, 1))
        self.rows = (start + torch.arange(12)) % 50
    def __len__(self):
        return len(self.rows)
    def __getitem__(self, index):
        return {"input_ids": self.rows[index], "labels": self.rows[index]}

torch.manual_seed(1)
model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=2))
arguments = TrainingArguments(
    "out", num_train_epochs=20, per_device_train_batch_size=16, learning_rate=1e-3, use_cpu=True, report_to=[],
    disable_tqdm=True, save_steps=10, logging_steps=1000, dataloader_pin_memory=False,
)
Trainer(model, arguments, train_dataset=Tokens(), eval_dataset=Tokens()).train()
""",
    "ignite": """
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import ModelCheckpoint
from ignite.metrics import Accuracy
model = network()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = DataLoader(data, batch_size=16, shuffle=True)
trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())
evaluator = create_supervised_evaluator(model, metrics={"accuracy": Accuracy()})
trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(DataLoader(data, batch_size=64)))
saver = ModelCheckpoint("checkpoints", require_empty=False, n_saved=1)
trainer.add_event_handler(Events.EPOCH_COMPLETED, saver, {"model": model})
trainer.run(loader, max_epochs=30)
""",
    "geometric": """
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader as GraphLoader
from torch_geometric.nn import GCNConv, global_mean_pool

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = GCNConv(6, 16), nn.Linear(16, 2)
    def forward(self, graphs):
        hidden = self.conv(graphs.x, graphs.edge_index).relu()
        return self.out(global_mean_pool(hidden, graphs.batch))

def graph(label):
    edges = torch.randint(0, 8, (2, 20))
    return Data(x=torch.randn(8, 6) + 0.5 * label, edge_index=edges, y=torch.tensor([label]))

model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
loader = GraphLoader([graph(i % 2) for i in range(320)], batch_size=16, shuffle=True)
for epoch in range(60):
    for graphs in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(graphs), graphs.y).backward()
        optimizer.step()
""",
    "timm": """
import timm
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
images = torch.randn(96, 3, 32, 32)
labels = (images.mean((1, 2, 3)) > 0).long()
model = timm.create_model("resnet10t", num_classes=2)
optimizer = create_optimizer_v2(model, opt="lamb", lr=1e-2)
schedule = CosineLRScheduler(optimizer, t_initial=10, warmup_t=2)
for epoch in range(30):
    for a, b in DataLoader(TensorDataset(images, labels), batch_size=8, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(model(a), b).backward()
        optimizer.step()
    schedule.step(epoch)
""",
}
PACKAGES = {
    "lightning": "lightning",
    "fabric": "lightning",
    "accelerate": "accelerate",
    "transformers": "transformers",
    "ignite": "ignite",
    "geometric": "torch_geometric",
    "timm": "timm",
}
# What does not run with a framework, and the reason that is given.
EXCEPTIONS: dict[tuple[str, str], str] = {}
STEPS = 15


def script_for(name: str) -> str:
    package = PACKAGES[name.replace(",", " ").split()[0]]
    for needed in (package, *(("torchvision",) if package == "timm" else ())):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    return DATA + SCRIPTS[name]


@pytest.mark.parametrize("name", SCRIPTS)
def test_watching_changes_nothing(zygote, name):
    script = script_for(name)
    bare = zygote.bare(script, record=25)
    seen = zygote.probe(script, record=25, experiments=True)
    assert bare.exit_code == 0, bare.output
    assert len(bare.notes) >= 20
    assert seen.notes == bare.notes


@pytest.mark.parametrize("name", SCRIPTS)
def test_experiments_run_and_places_are_the_users(zygote, name):
    seen = zygote.probe(script_for(name), steps=STEPS, experiments=True, parts=("program", "overfit", "lower_rate"))
    assert seen.exit_code == 0, seen.output
    assert seen.run["steps"] == STEPS, seen.run
    assert not [note for note in seen.run["notes"] if "audit itself" in note]
    for part in ("overfit", "lower_rate"):
        reason = EXCEPTIONS.get((name, part))
        if reason is None:
            assert part in seen.gathered.parts, (part, seen.gathered.absent.get(part), seen.run["phases"])
        else:
            assert reason in seen.absent(part)
    program = seen["program"]
    places = [*(model.location for model in program.models), *(one.location for one in program.optimizers)]
    assert places
    assert {place.file for place in places if place} == {str(seen.folder / "train.py")}
    assert [entry.name for entry in seen.folder.iterdir()] == ["train.py"]
