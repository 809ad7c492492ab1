"""What the user's source calls the data of a forward that only evaluates: `accuracy(model, x_test)` says held-out."""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from linecache import getlines
from types import FrameType

import torch

from auditor.probe.locate import is_users

HELD_OUT = frozenset(
    {"val", "valid", "validation", "validate", "test", "testing", "heldout", "holdout", "unseen", "te", "tst", "va"}
)
TRAINED = frozenset({"train", "training", "trained", "fit", "seen", "tr", "trn"})
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_METHOD = re.compile(r"\s*(\(|=(?!=))")  # model.train(), training=True
_NO_DATA = frozenset({"train", "training", "eval"})  # model.train() says nothing of the data
MOST_FRAMES = 8


def held_out_name(given: torch.Tensor) -> str:
    """The name that says so; '' where none does, or one says that it is trained on. `given`: the model's input."""
    groups = _names(given)
    names = [name for group in groups for name in group if name.lower() not in _NO_DATA]
    said = [name for name in names if words(name) & HELD_OUT]
    return said[0] if said and not any(words(name) & TRAINED for name in names) else ""


def nearest_name(given: torch.Tensor) -> tuple[str, bool]:
    """(the name that says which part of the data it is, whether it says that it is trained on), of the innermost call
    that has such a name: calls further out may hand over several parts. ('', False) where none does, or one says
    both."""
    for group in _names(given):
        held_out = [name for name in group if words(name) & HELD_OUT]
        trained = [name for name in group if words(name) & TRAINED]
        if held_out or trained:
            return ("", False) if held_out and trained else ((held_out or trained)[0], bool(trained))
    return "", False


def _names(given: torch.Tensor) -> list[list[str]]:
    """Names in the calls that led to the forward, the innermost first, and those of variables that hold its input."""
    names: list[list[str]] = []
    frame: FrameType | None = sys._getframe(2)
    seen = 0
    scopes: dict[int, dict[str, object]] = {}
    while frame is not None and seen < MOST_FRAMES:
        if is_users(frame.f_code.co_filename):
            seen += 1
            names.append(_called(frame))
            scopes[id(frame.f_globals)] = frame.f_globals
        frame = frame.f_back
    return [*names, *(_bound(scope, given) for scope in scopes.values())]


@lru_cache(maxsize=4096)
def words(name: str) -> frozenset[str]:
    """'X_test', 'xTest' and 'Xtest' hold the word 'test', 'latest' does not."""
    found = {word.lower() for word in _WORD.findall(name.replace("held_out", "heldout").replace("hold_out", "holdout"))}
    after = {word[1:] for word in found if word[0] in "xy"}
    return frozenset(found | (after & (HELD_OUT | TRAINED)))


def _called(frame: FrameType) -> list[str]:
    """Names among the arguments of the call that the frame is in the middle of."""
    start, end, first, last = _place(frame)
    lines = getlines(frame.f_code.co_filename)[start - 1 : end]
    if not lines:
        return []
    lines[-1] = lines[-1].encode()[:last].decode(errors="ignore")
    lines[0] = lines[0].encode()[first:].decode(errors="ignore")
    _, _, arguments = " ".join(lines).partition("(")  # what is called may be named after anything
    found = [(each.group(), each.end()) for each in _NAME.finditer(arguments)]
    return [name for name, end in found if name.lower() not in _NO_DATA or not _METHOD.match(arguments, end)]


def _place(frame: FrameType) -> tuple[int, int, int, int]:
    """(first line, last line, first byte, last byte) of the instruction that runs."""
    for index, (line, end, first, last) in enumerate(frame.f_code.co_positions()):
        if index == frame.f_lasti // 2:
            if line is None or end is None or first is None or last is None:
                break
            return line, end, first, last
    return frame.f_lineno, frame.f_lineno, 0, 1 << 16


def _bound(scope: dict[str, object], given: torch.Tensor) -> list[str]:
    """Global variables that hold the tensor itself or the smallest one that it is a part of: in a leak, the training
    set holds it, too. Variables of functions are left alone: to read them keeps what they hold alive for as long as
    the function runs."""
    begin = given.data_ptr()
    found: dict[int, list[str]] = {}
    for name, value in [*scope.items()]:
        if isinstance(value, torch.Tensor) and value.device == given.device and value.layout == torch.strided:
            start = value.data_ptr()
            if start and start <= begin < start + value.numel() * value.element_size():
                found.setdefault(value.numel(), []).append(name)
    return found[min(found)] if found else []
