"""Writes small training scripts as people write them: a model, a feed, a loss, an update, a loop, each drawn at random.

The same seed gives the same script. Every script ends by itself, without an exception, and leaves the lists `losses`
and `weights` behind, so that a plain run can be compared with an observed one bit for bit.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from script_draft import Draft, block, indent
from script_models import data_and_model
from script_update import update

IMPORTS = """\
import copy
import itertools
import math
from collections import namedtuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
"""


@dataclass(frozen=True)
class Script:
    """A script and the options it was made of."""

    seed: int
    text: str
    features: tuple[str, ...]


def write(seed: int) -> Script:
    """The script of this seed."""
    draft = Draft(random.Random(seed))
    data_and_model(draft)
    step, prepare = update(draft)
    header, unpack = _feed(draft)
    loop = _loop(draft, header, unpack, step)
    return Script(seed, _styled(draft, prepare, loop, seed), tuple(draft.features))


# -------------------------------------------------------------------------------------------------------------- feed


def _feed(draft: Draft) -> tuple[str, str]:
    """The header of the inner loop ('' for a full batch), and the line that unpacks a batch."""
    kinds = ["loader", "loader", "loader", "generator", "slices", "permuted", "random", "endless", "full", "numpy"]
    kinds += ["iterable", "dict", "pair", "workers"]
    kind = draft.one("feed", *(kinds if draft.batch > 1 else ["loader", "slices", "generator", "iterable"]))
    size, n = draft.batch, draft.samples
    last = ", drop_last=True" if draft.model == "mlp-norm" or draft.has("drop_last", 0.15) else ""
    shuffle = ", shuffle=True" if draft.has("shuffle", 0.6) else ""
    if kind in {"loader", "endless", "workers", "dict", "pair", "iterable"}:
        dataset, classes = _dataset(kind)
        draft.classes += [block(text) for text in classes]
        options = f"batch_size={size}" + ("" if kind == "iterable" else shuffle) + last
        options += ", num_workers=1" if kind == "workers" else ""
        draft.setup.append(f"loader = DataLoader({dataset}, {options})")
    if kind == "generator":
        draft.setup.append(
            f"def batches():\n    for i in range(0, {n}, {size}):\n        yield X[i : i + {size}], Y[i : i + {size}]"
        )
    stop = n - n % size if draft.model == "mlp-norm" else n
    return {
        "loader": ("for x, y in loader:", ""),
        "workers": ("for x, y in loader:", ""),
        "iterable": ("for i, (x, y) in enumerate(loader):", ""),
        "dict": ("for batch in loader:", 'x, y = batch["x"], batch["y"]'),
        "pair": ("for batch in loader:", "x, y = batch.x, batch.y"),
        "endless": (f"for _ in range({n // size}):", "x, y = next(stream)"),
        "generator": ("for x, y in batches():", ""),
        "slices": (f"for i in range(0, {stop}, {size}):", f"x, y = X[i : i + {size}], Y[i : i + {size}]"),
        "permuted": (f"for rows in torch.randperm({stop}).split({size}):", "x, y = X[rows], Y[rows]"),
        "random": (f"for _ in range({n // size}):",
                   f"rows = torch.randint(0, {n}, ({size},))\nx, y = X[rows], Y[rows]"),
        "numpy": (f"for i in range(0, {stop}, {size}):",
                  f"x = torch.from_numpy(X.numpy()[i : i + {size}])\ny = torch.as_tensor(Y.numpy()[i : i + {size}])"),
        "full": ("", "x, y = X, Y"),
    }[kind]  # fmt: skip


def _dataset(kind: str) -> tuple[str, list[str]]:
    if kind == "iterable":
        return "Stream(X, Y)", [
            """
            class Stream(IterableDataset):
                def __init__(self, x, y):
                    self.x, self.y = x, y

                def __iter__(self):
                    yield from zip(self.x, self.y)
            """
        ]
    if kind in {"dict", "pair"}:
        item = '{"x": self.x[i], "y": self.y[i]}' if kind == "dict" else "Pair(self.x[i], self.y[i])"
        return "Samples(X, Y)", [
            'Pair = namedtuple("Pair", "x y")',
            f"""
            class Samples(Dataset):
                def __init__(self, x, y):
                    self.x, self.y = x, y

                def __len__(self):
                    return len(self.x)

                def __getitem__(self, i):
                    return {item}
            """,
        ]
    return "TensorDataset(X, Y)", []


# -------------------------------------------------------------------------------------------------------------- loop


def _loop(draft: Draft, header: str, unpack: str, step: list[str]) -> list[str]:
    body = [unpack, *step] if unpack else list(step)
    per_epoch = 1 if not header else max(1, draft.samples // draft.batch)
    epochs = max(2, draft.dice.choice([12, 60, 250]) // per_epoch)
    if draft.has("early break", 0.15):
        body += ["if len(losses) % 17 == 16:", "    break"] if header else []
    mode = draft.is_module and draft.has("train and eval", 0.7)
    lines = ["model.train()"] if mode else []
    if "feed:endless" in draft.features:
        lines.append("stream = itertools.cycle(loader)" if draft.has("cycle", 0.5) else "stream = endless(loader)")
        draft.classes.append("def endless(loader):\n    while True:\n        yield from loader")
    lines += [header, *indent(body)] if header else body
    lines += _epoch_end(draft, mode)
    result = [f"for epoch in range({epochs}):", *indent(lines)]
    if draft.is_module and draft.has("saves at the end", 0.2):
        result.append('torch.save(model.state_dict(), "final.pt")')
        if draft.has("loads again", 0.5):
            result.append('model.load_state_dict(torch.load("final.pt"))')
    return result


def _epoch_end(draft: Draft, mode: bool) -> list[str]:
    lines = list(draft.epoch_end)
    if draft.has("evaluation", 0.4):
        call = "model(X[:10])"
        guard = draft.one("guard", "torch.no_grad()", "torch.inference_mode()")
        lines += ["model.eval()"] if mode else []
        lines += [f"with {guard}:", f"    held_out = float(({call}).float().mean())"]
    if draft.is_module and draft.has("saves each epoch", 0.2):
        lines.append('torch.save({"model": model.state_dict(), "epoch": epoch}, "last.pt")')
    if draft.has("prints", 0.6):
        lines.append('print(f"epoch {epoch}: {losses[-1]:.4f}")')
    return lines


def _styled(draft: Draft, prepare: list[str], loop: list[str], seed: int) -> str:
    """The pieces as a module, a function or a class."""
    kept = "params" if not draft.is_module else "list(model.parameters())"
    style = draft.one("style", "module", "function", "class")
    head = [IMPORTS, *(f"\n{text}\n" for text in dict.fromkeys(draft.classes)), f"torch.manual_seed({seed})"]
    every = [*draft.setup, *prepare]
    if style == "module":
        rows = [*head, *every, "losses = []", *loop, f"weights = {kept}"]
    elif style == "function":
        body = [*every, "losses = []", *loop, f"return losses, {kept}"]
        rows = [*head, "", "", "def main():", *indent(body), "", "", 'if __name__ == "__main__":',
                "    losses, weights = main()"]  # fmt: skip
    else:
        names = ["params"] if not draft.is_module else []
        names += [line.split(" = ")[0] for line in every if _assigns(line)]
        shared = [name for name in dict.fromkeys(names) if name.isidentifier()]
        body = [*every, *(f"self.{name} = {name}" for name in shared if name != "count")]
        fit = [*(f"{name} = self.{name}" for name in shared if name != "count"), *_functions(every)]
        fit += ["count = 0"] if "count" in shared else []
        rows = [*head, "", "", "class Trainer:", "    def __init__(self):", *indent(body, 2), "",
                "    def fit(self):", *indent([*fit, "losses = []", *loop, f"return losses, {kept}"], 2), "", "",
                "losses, weights = Trainer().fit()"]  # fmt: skip
    return "\n".join(rows) + "\n"


def _assigns(line: str) -> bool:
    return " = " in line.split("\n")[0] and not line.startswith(("def ", "for ", " "))


def _functions(lines: list[str]) -> list[str]:
    """Functions among the setup must be there in the method too."""
    found = [line for line in lines if line.startswith("def ")]
    if any("w1 = " in line for line in lines):  # the functional model keeps its parameters as names
        found = ["w1, b1, w2 = params", "def model(x):\n    return torch.relu(x @ w1 + b1) @ w2", *found]
    return found
