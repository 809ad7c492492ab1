"""Paths as other programs need them: below the root of the sources, whatever machine the audit was made on.

A hosting service knows files by their paths in the repository. So the root is the nearest folder above the current one
that holds `.git`; for files that are not in there, the folder in which the audit was started, which the script's own
path tells; else the current folder.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from auditor.result import Audit

_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_LONGEST = 4_096  # no system has a longer path


class Rooted:
    """The files of one audit, below their root."""

    def __init__(self, audit: Audit) -> None:
        self._target = "" if audit.run.source_only else audit.run.target
        self._module = audit.run.module
        checkout, here = _here()
        self._folders = tuple(dict.fromkeys(filter(None, (checkout, self._started(audit), here))))

    def path(self, file: str) -> str:
        """The path below the root with slashes, or '' for a file outside of it."""
        if not file or len(file) > _LONGEST or "\0" in file:
            return ""
        if not _absolute(file):
            found = posixpath.normpath(file)
            return "" if found.split("/")[0] in ("..", ".") else found
        for each in dict.fromkeys((_plain(_real(file)), _plain(file))):
            for folder in self._folders:
                if each.startswith(folder + "/"):
                    return each[len(folder) + 1 :]
        return ""

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders below which files are named, the checkout first."""
        return self._folders

    @property
    def script(self) -> str:
        """The audited script, for a finding that has no place of its own; '' when it lies elsewhere too."""
        if self._module:
            return self._target.replace(".", "/") + ".py"
        return self.path(self._target) or (_plain(self._target).rpartition("/")[2] if self._target else "")

    def _started(self, audit: Audit) -> str:
        """The folder in which the audit was started: what stands before the script's name in its locations."""
        if not self._target or len(self._target) > _LONGEST:
            return ""
        if _absolute(self._target) and not self._module:
            return _plain(self._target).rpartition("/")[0]
        stem = self._target.replace(".", "/")
        names = [f"{stem}.py", f"{stem}/__main__.py"] if self._module else [self._target.replace("\\", "/")]
        endings = tuple("/" + posixpath.normpath(name) for name in (*names, self._target))
        for file in map(_plain, _files(audit)):
            ending = next((each for each in endings if file.endswith(each)), "")
            if ending:
                return file.removesuffix(ending)
        return ""


def _files(audit: Audit) -> Iterator[str]:
    findings = (*audit.findings, *(waived.finding for waived in audit.suppressed))
    yield from _absolutes(finding.location.file for finding in findings if finding.location)
    if audit.run.crash and audit.run.crash.location:
        yield from _absolutes([audit.run.crash.location.file])
    if audit.evidence.source is not None:
        yield from _absolutes(file.path for file in audit.evidence.source.files)


def _absolutes(files: Iterable[str]) -> Iterator[str]:
    return (file for file in files if _absolute(file) and len(file) <= _LONGEST)


def _absolute(file: str) -> bool:
    return file.startswith("/") or bool(_WINDOWS.match(file))


def _plain(file: str) -> str:
    """With slashes, also where it came from Windows."""
    return posixpath.normpath(file.replace("\\", "/") if _WINDOWS.match(file) else file) if file else ""


def _real(file: str) -> str:
    """A service knows the file that a link leads to, not the link."""
    if not file.startswith("/"):
        return file
    try:
        return os.path.realpath(file)
    except (OSError, ValueError):
        return file


def _here() -> tuple[str, str]:
    """(the checkout around the current folder or '', the current folder)."""
    try:
        here = Path.cwd().resolve()
    except OSError:
        return "", ""
    return _checkout(here), _plain(str(here)).rstrip("/")


@lru_cache(maxsize=16)
def _checkout(here: Path) -> str:
    root = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), None)
    return _plain(str(root)).rstrip("/") if root else ""
