"""A script of many parts, and a remedy of every kind for it. Imported by name: tests/ is on the path."""

from __future__ import annotations

from auditor.edits import diffs
from auditor.evidence import Location, Remedy, RemedyKind

SCRIPT = '''
"""Trains a network."""

import argparse

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader


def traced(function):
    return function


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(3, width),
            nn.ReLU(),
            nn.Dropout(0.5),  # a lot
            nn.Linear(width, 2),
        )

    def forward(self, x):
        return F.softmax(self.body(x), dim=1)  # größer


@traced
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-2, help="rate")
    args = parser.parse_args()
    loader = DataLoader(
        data(),
        batch_size=16,
        num_workers=0  # in this process
    )
    model = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)

    def run():
        for epoch in range(3):
            total = 0.0
            for x, y in loader:
                loss = criterion(model(x), y)
                loss.backward()
                optimizer.step()
                total += loss.item()
            print(f"{epoch}: {total}")

    run()


if __name__ == "__main__":
    main()
'''
KINDS: dict[RemedyKind, tuple[str, dict[str, object]]] = {
    RemedyKind.RATE: ("optimizer = ", {"amount": 0.1}),
    RemedyKind.CLIP: ("optimizer.step", {"amount": 1.0, "subject": "model"}),
    RemedyKind.ZERO_GRADIENTS: ("loss.backward", {"subject": "optimizer"}),
    RemedyKind.TRAINING_MODE: ("loss = ", {"subject": "model"}),
    RemedyKind.LEAVE_OUT: ("F.softmax", {"subject": "softmax"}),
    RemedyKind.SHUFFLE: ("loader = ", {}),
    RemedyKind.DIVIDE_LOSS: ("loss.backward", {"amount": 2.0}),
    RemedyKind.LEAKY_UNITS: ("nn.ReLU", {}),
    RemedyKind.CLASS_WEIGHTS: ("criterion = ", {"values": (1.0, 3.0)}),
    RemedyKind.NO_DROPOUT: ("nn.Dropout", {}),
    RemedyKind.NO_PENALTY: ("optimizer = ", {}),
}


def sample(kind: RemedyKind, text: str, file: str = "/home/user/train.py") -> Remedy:
    at, fields = KINDS[kind]
    line = next(number for number, row in enumerate(diffs.split(text), 1) if at in row)
    return Remedy.model_validate({"kind": kind, "site": Location(file=file, line=line), **fields})
