"""Edits of sources given as text, the site named by what its line holds."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from auditor.edits import NoEdit, diffs, edited
from auditor.evidence import Location, Remedy, RemedyKind

IMPORTS = """\
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader
"""


def remedy(text: str, at: str, kind: RemedyKind, **fields: Any) -> Remedy:
    """A remedy whose site is the first line of the text that holds `at`."""
    line = next(number for number, row in enumerate(diffs.split(text), 1) if at in row)
    return Remedy(kind=kind, site=Location(file="/home/user/train.py", line=line), **fields)


@dataclass(frozen=True)
class Edits:
    """Applies one remedy to a source, below the usual imports."""

    imports: str = IMPORTS

    def __call__(
        self, body: str, at: str, kind: RemedyKind, arguments: tuple[str, ...] = (), **fields: Any
    ) -> list[str]:
        """The rows of the diff that go and come, '-' and '+' first."""
        text = self.imports + textwrap.dedent(body)
        after = edited([remedy(text, at, kind, **fields)], text, arguments)
        rows = diffs.unified("train.py", text, after).splitlines()
        return [row for row in rows if row[0] in "+-" and not row.startswith(("+++", "---"))]

    def refused(self, body: str, at: str, kind: RemedyKind, arguments: tuple[str, ...] = (), **fields: Any) -> str:
        """The reason why there is no edit."""
        with pytest.raises(NoEdit) as refusal:
            self(body, at, kind, arguments, **fields)
        return str(refusal.value)


@pytest.fixture
def edit() -> Edits:
    return Edits()


@pytest.fixture
def bare() -> Edits:
    """Without imports."""
    return Edits("")


@pytest.fixture
def at() -> Callable[..., Remedy]:
    return remedy
