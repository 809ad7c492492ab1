"""What is in the tree is in the wheel, nothing else is, and the wheel works where there is no checkout."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import auditor

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SOURCES = {"auditor": "auditor", "rules": "auditor/rules", "reports": "auditor/reports"}


def in_wheel(path: Path) -> str:
    """Where a file of the tree lies in the wheel."""
    top, *rest = path.relative_to(ROOT).parts
    return "/".join([SOURCES[top], *rest])


def shipped(pattern: str) -> set[str]:
    return {in_wheel(path) for folder in SOURCES for path in (ROOT / folder).rglob(pattern)}


def test_every_package_is_listed() -> None:
    """A folder missing from the list works in a checkout and is absent from the wheel."""
    found = {name.removesuffix("/__init__.py").replace("/", ".") for name in shipped("__init__.py")}
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(found)


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for folder in SOURCES for path in (ROOT / folder).rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_version_is_in_the_changelog() -> None:
    assert re.search(rf"^## {re.escape(auditor.__version__)}\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)


def test_every_direct_dependency_is_pinned() -> None:
    """`make demo` and `make test` install the versions that were tried."""
    pins = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()}
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["dev"]]
    assert not [name for name in (re.split(r"[<>=!~\[; ]", line)[0] for line in wanted) if name not in pins]


def _run(command: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the tracked and new files, built without the network and without touching the tree."""
    for name in ("build", "setuptools"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    version = tuple(map(int, importlib.metadata.version("setuptools").split(".")[:1]))
    if version < (77,):
        pytest.skip("setuptools is older than 77")
    copy = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                target = copy / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    out = tmp_path_factory.mktemp("dist")
    _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)], cwd=out)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is installed into, without its dependencies."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    _run([*pip, "--target", str(target), str(wheel)], cwd=target)
    return target


def test_wheel_holds_the_whole_tree(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = shipped("*.py")
    assets = shipped("*.j2") | shipped("*.css") | shipped("*.js") | shipped("py.typed")
    assert modules | assets <= names
    assert {"auditor/py.typed", "auditor/reports/report.html.j2"} <= assets
    inside = {name for name in names if name.startswith("auditor/")}
    assert inside == modules | assets, "the wheel holds what is not in the tree"


def test_wheel_claims_one_top_level_name(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"auditor"}


def test_wheel_installs_both_console_scripts(site: Path) -> None:
    assert {"audit", "auditor"} <= {path.name for path in (site / "bin").iterdir()}


def _installed(site: Path, code: str, folder: Path) -> str:
    """Output of Python code that sees the installed wheel and the dependencies, and not the checkout.

    -S leaves out the .pth files of site-packages, through which an editable install reaches the checkout.
    """
    dependencies = [path for path in sys.path if Path(path).name == "site-packages" or path.endswith("dist-packages")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *dependencies]), "PYTHONSAFEPATH": "1"}
    return _run([sys.executable, "-S", "-c", code], cwd=folder, env=environment).stdout


def test_installed_wheel_works(site: Path, tmp_path: Path) -> None:
    code = "import auditor; print(auditor.__file__); print(auditor.__path__)"
    file, path = _installed(site, code, tmp_path).splitlines()
    assert Path(file) == site / "auditor" / "__init__.py"
    assert path == repr([str(site / "auditor")])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["--version"], auditor.__version__), (["rules"], "LOS101"), (["explain", "double-softmax"], "## How to fix")],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_installed_command_works(site: Path, tmp_path: Path, arguments: list[str], expected: str) -> None:
    code = f"import sys; from auditor.cli import main; sys.argv = ['audit']; main({arguments!r})"
    assert expected in _installed(site, code, tmp_path)


def test_installed_wheel_discovers_all_rules_and_reports(site: Path, tmp_path: Path) -> None:
    code = (
        "from auditor.registry import report_formats, rules\n"
        "print(*[rule.code for rule in rules()])\nprint(*sorted(report_formats()))\n"
        "print(*[module.__file__ for module in report_formats().values()])"
    )
    codes, formats, files = (line.split() for line in _installed(site, code, tmp_path).splitlines())
    declared = [
        match[1]
        for path in (ROOT / "rules").rglob("*.py")
        for match in re.finditer(r'^@rule\(\s*"(\w+)"', path.read_text(encoding="utf-8"), re.M)
    ]
    assert codes == sorted(declared)
    assert {"text", "json", "markdown", "html"} <= set(formats)
    assert all(Path(file).is_relative_to(site) for file in files)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []


def test_every_import_is_declared() -> None:
    """What is imported is a dependency by its own name, not by way of another one."""
    names = {"PIL": "pillow", "markdown_it": "markdown-it-py"}
    own = {"auditor", *sys.stdlib_module_names}
    imports = {
        name.partition(".")[0]
        for folder in SOURCES
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in _imported(node)
    }
    optional = PROJECT["project"]["optional-dependencies"]["fix"]
    declared = {re.split(r"[<>=!~\[; ]", line)[0] for line in [*PROJECT["project"]["dependencies"], *optional]}
    by_method = {"numpy"}  # tensor.numpy() needs it, and says so only when it is called
    assert {names.get(name, name) for name in imports - own} == declared - by_method
