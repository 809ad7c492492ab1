"""Imports point one way: rules and reports know the engine, the engine knows neither; only the probe knows torch."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {
    "rules": {"auditor", "pydantic", "numpy", "scipy"},
    "reports": {"auditor", "pydantic", "jinja2", "markupsafe", "markdown_it", "rich", "PIL", "numpy"},
}
HEAVY = ("torch", "scipy", "numpy", "rich", "jinja2", "PIL", "libcst")


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path, package: tuple[str, ...]) -> Iterator[str]:
    """Every module that a file's import statements name, in full, wherever they stand in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *filter(None, [node.module])))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def package_of(path: Path) -> tuple[str, ...]:
    """Dotted name of the package a file lies in, as it is imported."""
    parts = path.parent.relative_to(ROOT).parts
    return parts if parts[0] == "auditor" else ("auditor", *parts)


def named(path: Path) -> Iterator[str]:
    return imported(path, package_of(path))


def below(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", modules("auditor"), ids=ids)
def test_engine_names_no_rule_and_no_report(path: Path) -> None:
    wrong = [name for name in named(path) if below(name, "auditor.rules") or below(name, "auditor.reports")]
    wrong += [name for name in named(path) if name.split(".")[0] in ("rules", "reports")]
    assert not wrong


@pytest.mark.parametrize("path", modules("auditor"), ids=ids)
def test_only_the_probe_imports_torch(path: Path) -> None:
    if package_of(path)[:2] == ("auditor", "probe"):
        return
    assert not [name for name in named(path) if below(name, "torch") or below(name, "auditor.probe")]


@pytest.mark.parametrize("path", [*modules("rules"), *modules("reports")], ids=ids)
def test_rules_and_reports_import_the_engine_and_little_else(path: Path) -> None:
    own = package_of(path)[1]
    other = {"rules": "auditor.reports", "reports": "auditor.rules"}[own]
    names = list(named(path))
    strange = {name.split(".")[0] for name in names} - ALLOWED[own] - sys.stdlib_module_names
    assert not strange
    assert not [name for name in names if below(name, other) or below(name, "auditor.probe")]


@pytest.mark.parametrize("path", modules("rules"), ids=ids)
def test_rules_import_scipy_only_where_they_use_it(path: Path) -> None:
    """Loading scipy.stats takes seconds, and every `audit rules` would pay them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [
        name
        for node in top
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if name.split(".")[0] in ("scipy", "numpy")
    ]


@pytest.mark.parametrize("statement", ["import auditor", "import auditor.cli"])
def test_import_is_light(statement: str, tmp_path: Path) -> None:
    script = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert not {name.split(".")[0] for name in json.loads(done.stdout)} & set(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["rules"], ["explain", "LOS101"]], ids=" ".join)
def test_quick_commands_stay_light(arguments: list[str], tmp_path: Path) -> None:
    script = (
        "import json, sys\nfrom auditor.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}
    assert not loaded & {"torch", "scipy", "numpy"}


@pytest.mark.parametrize("name", ["rules", "reports"])
def test_no_top_level_package_that_would_hide_a_users_own(name: str, tmp_path: Path) -> None:
    script = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False)
    assert done.returncode == 0
