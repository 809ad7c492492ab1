"""Which two indices of rows take complementary parts: by what they are made of, and by their names."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from auditor.static.wholes import part_of

TRAINING = ("train", "tr", "fit")
HELD_OUT = ("test", "val", "va", "valid", "validation", "dev", "held", "te", "ts", "eval", "holdout")
CUTS = ("chunk", "split", "array_split", "tensor_split")  # pieces of one permutation
DRAWS = ("choice", "permutation", "sample")  # rows of what they are given
DRAWN = ("randint", "integers", "randperm", "permutation", "choice")
OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
SIGNS = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.GtE: ">=", ast.Gt: ">", ast.LtE: "<="}


@dataclass(frozen=True)
class _Index:
    """Rows of `base`: a slice (`:80`), a piece of several (`piece 0`), a comparison (`== 3`) or what is left of it."""

    base: str
    part: str = ""

    def complements(self, other: _Index) -> bool:
        if self.part == "~" and not other.part:
            return self.base == other.base
        if self.base != other.base or self == other:
            return False
        if self.part.startswith("piece") and other.part.startswith("piece"):
            return True
        if ":" in self.part and ":" in other.part:
            (low, high), (its_low, its_high) = self.part.split(":", 1), other.part.split(":", 1)
            return bool(high and high == its_low) or bool(low and low == its_high)
        sign, _, value = self.part.partition(" ")
        its_sign, _, its_value = other.part.partition(" ")
        return value == its_value and OPPOSITE.get(sign) == its_sign


@dataclass
class Partition:
    """Follows the variables that hold indices of rows, statement by statement."""

    _known: dict[str, _Index] = field(default_factory=dict)

    def assign(self, names: list[str], value: ast.expr) -> None:
        for name in names:
            self._known.pop(name, None)
        if len(names) == 1 and "[" not in names[0]:
            index = self._read(value)
            if index is not None and index.base != names[0]:
                self._known[names[0]] = index
        elif len(names) > 1 and isinstance(value, ast.Call) and getattr(value.func, "attr", "") in CUTS:
            for number, name in enumerate(names):
                self._known[name] = _Index(ast.unparse(value), f"piece {number}")

    def complementary(self, one: ast.expr, other: ast.expr) -> bool:
        """`x[one]` and `x[other]` are a split of x."""
        mine, its = self._of(one), self._of(other)
        if mine.complements(its) or its.complements(mine):
            return True
        words = (part_of(one).lower(), part_of(other).lower())
        return any(_says(a, TRAINING) and _says(b, HELD_OUT) for a, b in (words, words[::-1]))

    def _of(self, index: ast.expr) -> _Index:
        if isinstance(index, ast.Tuple) and index.elts:
            index = index.elts[0]
        if isinstance(index, ast.Slice):
            return _Index("", part_of(index))
        return self._read(index) or _Index(ast.unparse(index))

    def _read(self, value: ast.expr) -> _Index | None:
        if isinstance(value, ast.Name):
            return self._known.get(value.id, _Index(value.id))
        if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.Invert):
            inner = self._read(value.operand)
            return _opposite(inner) if inner is not None else None
        if isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name):
            whole = self._known.get(value.value.id)
            if whole is not None and whole.part and _is_batch(value.slice):
                return whole
            return _Index(value.value.id, part_of(value.slice))
        if isinstance(value, ast.Compare) and len(value.ops) == 1 and type(value.ops[0]) in SIGNS:
            sign = SIGNS[type(value.ops[0])]
            return _Index(ast.unparse(value.left), f"{sign} {ast.unparse(value.comparators[0])}")
        if isinstance(value, ast.Call):
            return self._rest(value)
        return None

    def _rest(self, call: ast.Call) -> _Index | None:
        """`np.setdiff1d(np.arange(n), train)` is what is left of `train`; `list(rows)` is `rows`."""
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name == "setdiff1d" and len(call.args) >= 2:
            inner = self._read(call.args[1])
            return _opposite(inner) if inner is not None else None
        if name in DRAWS and call.args and isinstance(call.args[0], ast.Name):
            drawn = self._known.get(call.args[0].id)  # rows of a part, for one batch or for one epoch
            return drawn if drawn is not None and drawn.part else None
        if name in ("list", "sorted", "array", "tensor", "from_numpy", "as_tensor") and len(call.args) == 1:
            return self._read(call.args[0])
        if name in ("tolist", "numpy", "long", "sort") and isinstance(call.func, ast.Attribute) and not call.args:
            return self._read(call.func.value)
        return None


def _is_batch(rows: ast.expr) -> bool:
    """`i:i + 64`, `randint(...)` or `order[i:j]`: some rows of a part, and others in the next step."""
    if isinstance(rows, ast.Slice):
        low, high = rows.lower, rows.upper
        if low is None or isinstance(low, ast.Constant) or not isinstance(high, ast.BinOp):
            return False
        return isinstance(high.op, ast.Add) and ast.unparse(high.left) == ast.unparse(low)
    name = getattr(rows.func, "attr", getattr(rows.func, "id", "")) if isinstance(rows, ast.Call) else ""
    return name in DRAWN or isinstance(rows, ast.Subscript)


def _opposite(index: _Index) -> _Index:
    sign, _, value = index.part.partition(" ")
    if sign in OPPOSITE:
        return _Index(index.base, f"{OPPOSITE[sign]} {value}")
    if index.part == "~":
        return _Index(index.base)
    return _Index(f"{index.base}[{index.part}]" if index.part else index.base, "~")


def says_split(text: str) -> bool:
    """The name of folds, or of a part of the data."""
    return _says(text.lower(), (*TRAINING, *HELD_OUT, "fold", "split", "part", "partition", "subset", "group"))


def _says(text: str, words: tuple[str, ...]) -> bool:
    pieces = text.replace("[", "_").replace("]", "_").replace(".", "_").split("_")
    return any(piece in words or piece.rstrip("s") in words for piece in pieces)
