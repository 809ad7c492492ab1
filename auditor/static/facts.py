"""Facts from the source, for the rules: what stands in the script and in the modules beside it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from auditor.evidence import Location, Mention, OwnTrainMethod, Source, SourceFile
from auditor.static.accumulators import accumulators
from auditor.static.divergences import softmax_divergences
from auditor.static.folds import fold_loops
from auditor.static.lasting import lasting_lists
from auditor.static.meters import meters
from auditor.static.modules import Parsed, below, parse, with_imports
from auditor.static.names import Names
from auditor.static.orders import own_orders
from auditor.static.preprocessing import whole_fits
from auditor.static.refits import refits
from auditor.static.smoothing import future_filters

_SEEDS = ("manual_seed", "manual_seed_all", "seed_everything", "set_seed", "set_random_seed", "seed", "default_rng")


def of_script(script: Path) -> Source:
    """The script with the modules beside it that it imports."""
    return _source(with_imports(script))


def of_paths(paths: Iterable[Path]) -> Source:
    """Files, and every Python file in folders; each by itself."""
    return _source(parse(path) for path in dict.fromkeys(below(list(paths))))


def _source(files: Iterable[Parsed]) -> Source:
    files = list(files)
    read = [(file.path, file.tree, Names(file.tree)) for file in files if file.tree is not None]
    bases = {base for path, tree, names in read for base in _modules(tree, names)}
    return Source(
        files=tuple(SourceFile(path=file.path, lines=file.lines, problem=file.problem) for file in files),
        train_methods=tuple(found for entry in read for found in _train_methods(*entry, bases)),
        whole_fits=tuple(found for path, tree, names in read for found in whole_fits(path, tree, names)),
        future_filters=tuple(found for entry in read for found in future_filters(*entry)),
        fold_loops=tuple(found for path, tree, _ in read for found in fold_loops(path, tree)),
        refits=tuple(found for path, tree, _ in read for found in refits(path, tree)),
        accumulators=tuple(
            found
            for path, tree, _ in read
            for look in (accumulators, meters, lasting_lists)
            for found in look(path, tree)
        ),
        softmax_divergences=tuple(found for entry in read for found in softmax_divergences(*entry)),
        own_orders=tuple(found for entry in read for found in own_orders(*entry)),
        mentions=tuple(found for entry in read for found in _mentions(*entry)),
    )


# --------------------------------------------------------------------------------------------------- classes of modules


def _modules(tree: ast.Module, names: Names) -> set[str]:
    """Names of the classes that are nn.Modules, also by way of other classes of the file."""
    classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found: set[str] = set()
    while True:
        more = {
            name
            for name, node in classes.items()
            if name not in found and any(_is_module(names.dotted(base), found) for base in node.bases)
        }
        if not more:
            return found
        found |= more


def _is_module(base: str, known: set[str]) -> bool:
    return base in ("torch.nn.Module", "nn.Module") or base.rpartition(".")[2] in known


def _train_methods(path: str, tree: ast.Module, names: Names, modules: set[str]) -> Iterator[OwnTrainMethod]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        if node.name not in modules and not any(_is_module(names.dotted(base), modules) for base in node.bases):
            continue
        methods = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
        for name in ("train", "eval"):
            method = methods.get(name)
            if method is not None and not _stands_in(method, name):
                yield OwnTrainMethod(
                    owner=node.name,
                    name=name,
                    signature=f"({ast.unparse(method.args)})",
                    location=Location(file=path, line=method.lineno, function=name),
                )


def _stands_in(method: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> bool:
    """Whether `module.train()`, `module.train(False)` and `module.eval()` mean what they mean for every module: they
    can be called so, and the mode is passed on or set."""
    if any(isinstance(mark, ast.Name) and mark.id in ("staticmethod", "classmethod") for mark in method.decorator_list):
        return False
    positional = [*method.args.posonlyargs, *method.args.args][1:]
    required = len(positional) - len(method.args.defaults)
    wanted = 1 if name == "train" else 0
    possible = required <= 0 and (len(positional) >= wanted or method.args.vararg is not None)
    inside = {child.attr for child in ast.walk(method) if isinstance(child, ast.Attribute)}
    return possible and bool(inside & {"train", "eval", "training"})


# ------------------------------------------------------------------------------------------------------------ mentions


def _mentions(path: str, tree: ast.Module, names: Names) -> Iterator[Mention]:
    for node in ast.walk(tree):
        kind = _kind(node, names)
        if kind:
            place = Location(file=path, line=node.lineno)  # type: ignore[attr-defined]
            yield Mention(kind=kind, text=ast.unparse(node)[:80], location=place)


def _kind(node: ast.AST, names: Names) -> str:
    if isinstance(node, ast.Assign):
        freezes = isinstance(node.value, ast.Constant) and node.value.value is False
        attributes = [target.attr for target in node.targets if isinstance(target, ast.Attribute)]
        return "freeze" if freezes and "requires_grad" in attributes else ""
    if not isinstance(node, ast.Call):
        return ""
    name = names.dotted(node.func).rpartition(".")[2] or getattr(node.func, "attr", "")
    first = node.args[0] if node.args else next((word.value for word in node.keywords if word.arg == "mode"), None)
    off = isinstance(first, ast.Constant) and first.value is False
    if name == "requires_grad_" and off:
        return "freeze"
    if name in _SEEDS:
        return "seed"
    if name == "train" and isinstance(node.func, ast.Attribute) and len(node.args) <= 1:
        return "eval-mode" if off else _switched_on(node)
    return {"detach": "detach", "detach_": "detach", "no_grad": "no-grad", "inference_mode": "no-grad",
            "eval": "eval-mode", "backward": "backward"}.get(name, "")  # fmt: skip


def _switched_on(node: ast.Call) -> str:
    """`module.train()` on a single module of a loop or by its name: dropout that stays on in evaluation on purpose."""
    owner = ast.unparse(node.func.value).lower() if isinstance(node.func, ast.Attribute) else ""
    return "dropout-switched-on" if "drop" in owner or owner in ("m", "module", "layer") else "train-mode"
