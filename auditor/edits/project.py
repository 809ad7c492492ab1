"""Which files an edit may touch: the user's own, in the project of the audited script."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from auditor.edits.changes import NoEdit
from auditor.errors import AuditError
from auditor.evidence import Run

_MARKERS = ("pyproject.toml", ".git", "setup.cfg", "setup.py")
_PACKAGES = {"site-packages", "dist-packages"}
_LARGEST = 2_000_000  # bytes; nobody wrote a larger file by hand


def project_of(run: Run, base: Path | None = None) -> Path:
    """The root of what was audited, with `base` as the folder in which the audit was started.

    It is the nearest folder above the script that looks like a project's, else the script's own. A module is taken to
    be below `base`.
    """
    base = (base or Path.cwd()).resolve()
    script = base / "-" if run.module or run.source_only else (base / run.target).resolve()
    folder = script if script.is_dir() else script.parent
    for each in (folder, *folder.parents):
        if any((each / marker).exists() for marker in _MARKERS):
            return each
    return folder


def check_touchable(path: Path, root: Path) -> Path:
    """The real file. Raises NoEdit, in a sentence that begins with the file's name, for one that is left alone."""
    real = Path(os.path.realpath(path))
    if _PACKAGES & set(real.parts) or any(real.is_relative_to(each) for each in _installed(root)):
        raise NoEdit(f"{path.name} belongs to an installed package")
    if not real.is_relative_to(root):
        raise NoEdit(f"{path.name} lies outside of the project {root}")
    if not real.is_file():
        raise NoEdit(f"{path.name} is not there")
    if real.stat().st_size > _LARGEST:
        raise NoEdit(f"{path.name} is too large to be edited")
    if not os.access(real, os.W_OK) or not os.access(real.parent, os.W_OK):
        raise NoEdit(f"{path.name} cannot be written")
    return real


def _installed(root: Path) -> list[Path]:
    """Folders of packages, unless the project is in one of them or is all of it."""
    folders = {Path(os.path.realpath(sysconfig.get_path(name))) for name in ("stdlib", "purelib", "platlib")}
    return [folder for folder in folders if not root.is_relative_to(folder)]


def relative(path: Path, root: Path) -> str:
    """As the headers of a diff have it."""
    return path.relative_to(root).as_posix()


def inside(name: str, root: Path) -> Path:
    """The file that a diff's header names. Raises AuditError when the name leads out of the project."""
    path = root / name
    if os.path.isabs(name) or not Path(os.path.realpath(path)).is_relative_to(root):
        raise AuditError(f"{name} lies outside of the project {root}")
    return path
