"""Which expressions reduce over rows, and what else a flow analysis of tables reads from single expressions."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from auditor.static.names import Names, assigned
from auditor.static.partition import says_split
from auditor.static.wholes import takes_a_part, unsliced

# Reductions over rows. A largest value alone is left out: dividing by it is a matter of units.
REDUCTIONS = frozenset({"mean", "std", "var", "median", "quantile", "percentile", "nanmean", "nanstd", "sum", "cov",
                        "corrcoef", "svd", "pca_lowrank", "std_mean", "var_mean", "average", "groupby"})  # fmt: skip
# Sums by category: the first operand says which one a row belongs to.
COUNTED = frozenset({"bincount", "index_add", "index_add_", "scatter_add", "scatter_add_", "scatter_reduce"})
# Between the rows of two: of a feature and the targets, for example.
BETWEEN = frozenset({"corrcoef", "pearsonr", "spearmanr", "ttest_ind", "f_classif", "f_regression", "chi2",
                     "mutual_info_classif", "mutual_info_regression"})  # fmt: skip
SPLITTERS = ("KFold", "StratifiedKFold", "GroupKFold", "ShuffleSplit", "StratifiedShuffleSplit", "TimeSeriesSplit")
TARGETS = ("y", "t", "target", "targets", "label", "labels", "ys")


def bindings(statement: ast.stmt) -> Iterator[tuple[list[str], ast.expr]]:
    """(bound names, value); `a, b = x, y` is two."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value = statement.targets[0], statement.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            for one, its in zip(target.elts, value.elts, strict=True):
                yield [ast.unparse(one)], its
            return
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign) and statement.value is not None:
        yield assigned(statement), statement.value


def expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    """Expressions of the statement itself, not those of statements in it."""
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.expr):
            yield child
        elif isinstance(child, ast.withitem):
            yield child.context_expr


def calls(expression: ast.expr) -> Iterator[ast.Call]:
    return (node for node in ast.walk(expression) if isinstance(node, ast.Call))


def reduced(node: ast.AST, names: Names) -> set[str]:
    """Variables whose rows a call reduces; empty when it reduces none, or each row by itself, or a part of them."""
    # A method of something that was called, of a loss for example, reduces no rows of a variable.
    rows = [
        _by_category(operand) or (set() if takes_a_part(operand) else unsliced(operand))
        for operand in operands(node, names)
    ]
    return set().union(*rows) if all(rows) else set()


def _by_category(operand: ast.expr) -> set[str]:
    """`y[shop == c]` for each c reads all of y and shop, unless the comparison says which rows are held out."""
    if not isinstance(operand, ast.Subscript) or not isinstance(operand.slice, ast.Compare):
        return set()
    index, rows = operand.slice, unsliced(operand.value)
    plain = len(index.ops) == 1 and isinstance(index.ops[0], ast.Eq) and isinstance(index.left, ast.Name)
    value = index.comparators[0]
    if not plain or not rows or not isinstance(value, ast.Name | ast.Constant):
        return set()
    category = index.left.id if isinstance(index.left, ast.Name) else ""
    return set() if says_split(category) or says_split(ast.unparse(value)) else rows | {category}


def runs_over(value: ast.expr) -> set[str]:
    """The variables of comprehensions in it: one row, one column or one batch each."""
    loops = (loop for node in ast.walk(value) for loop in getattr(node, "generators", []))
    return {name.id for loop in loops for name in ast.walk(loop.target) if isinstance(name, ast.Name)}


def operands(node: ast.AST, names: Names) -> list[ast.expr]:
    """What a call reduces over its rows: one expression, or the categories and the numbers that are summed by them."""
    if not isinstance(node, ast.Call):
        return []
    name = getattr(node.func, "attr", "") or getattr(node.func, "id", "")
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    function = names.dotted(owner) in ("torch", "numpy", "np", "torch.linalg", "numpy.linalg")
    given = [word.value for word in node.keywords if word.arg in ("weights", "index", "src", "source")]
    if name in COUNTED:
        first = [owner] if name == "bincount" and not function and owner is not None else []
        skipped = 0 if name == "bincount" else 1 + function  # the dimension, and what is added to
        return [*first, *node.args[skipped : skipped + 2], *given]
    if name in BETWEEN and len(node.args) >= 2:
        return node.args[:2]
    if name not in REDUCTIONS:
        return []
    rows = node.args[0] if function and node.args else owner
    axis = _axis(node, 1 if function else 0)
    return [] if rows is None or (function and not node.args) or axis not in (None, 0) else [rows]


def _axis(call: ast.Call, position: int) -> int | None:
    """The reduced dimension that is nearest to the rows; None for all of them."""
    given = next((word.value for word in call.keywords if word.arg in ("dim", "axis")), None)
    if given is None and len(call.args) > position and getattr(call.func, "attr", "") not in ("quantile", "percentile"):
        given = call.args[position]
    try:
        value = ast.literal_eval(given) if given is not None else None
    except ValueError:
        return -1  # not known
    if isinstance(value, tuple | list):
        return 0 if 0 in value else -1
    return value if isinstance(value, int) else None


def is_splitter(owner: ast.expr) -> bool:
    text = ast.unparse(owner)
    return any(name in text for name in SPLITTERS) or text.lower() in ("kf", "skf", "kfold", "splitter", "cv", "gkf")


def is_target(name: str) -> bool:
    name = name.lower().removeprefix("self.")
    return name in TARGETS or name.endswith(("_y", "labels", "targets", "target"))


def is_reduction(value: ast.expr, names: Names) -> bool:
    """`mean = x.mean(0)` itself, also wrapped in another call (`x.std(0).clamp(min=1)`), or `Scaler().fit(x)`."""
    while isinstance(value, ast.Call):
        if reduced(value, names) or getattr(value.func, "attr", "") == "fit":
            return True
        if not isinstance(value.func, ast.Attribute):
            return False
        value = value.func.value
    return False
