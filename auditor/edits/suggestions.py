"""Remedies in, diffs out. libcst is loaded when the first edit is asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from auditor.edits import diffs
from auditor.edits.changes import Change, NoEdit, apply, check_parses
from auditor.edits.project import check_touchable, project_of, relative
from auditor.edits.textfile import read
from auditor.evidence import Remedy, Run

if TYPE_CHECKING:
    from auditor.edits.parsed import Parsed

MISSING = "libcst is not installed: pip install libcst"


def available() -> bool:
    """Whether edits can be written at all."""
    return importlib.util.find_spec("libcst") is not None


def edited(remedies: Iterable[Remedy], text: str, arguments: Sequence[str] = ()) -> str:
    """The text of one file after all remedies, whose sites are lines of `text`.

    `arguments` are what the script was started with. Raises NoEdit unless every one of them can be written.
    """
    return _together(remedies, _parsed(text, arguments))


def _parsed(text: str, arguments: Sequence[str]) -> Parsed:
    if not available():
        raise NoEdit(MISSING)
    from auditor.edits.parsed import Parsed

    return Parsed(text, arguments)


def _together(remedies: Iterable[Remedy], source: Parsed) -> str:
    from auditor.edits.registry import changes

    wanted: list[Change] = [change for remedy in remedies for change in changes(source, remedy)]
    after = apply(source.text, wanted)
    if after == source.text:
        raise NoEdit("it would change nothing")
    check_parses(after)
    return after


class Suggestions:
    """Diffs for the findings of one audit; files are read and parsed once.

    `base` is the folder in which the audit was started, the current one if not given.
    """

    def __init__(self, run: Run, base: Path | None = None) -> None:
        self._run = run
        self._base = base
        self._root: Path | None = None
        self._sources: dict[Path, Parsed] = {}

    @property
    def root(self) -> Path:
        """The project, outside of which nothing is touched."""
        if self._root is None:
            self._root = project_of(self._run, self._base)
        return self._root

    def diff(self, remedies: Iterable[Remedy]) -> str:
        """All remedies together as one unified diff, with paths relative to the project. Raises NoEdit."""
        if not available():
            raise NoEdit(MISSING)
        files: dict[Path, list[Remedy]] = {}
        for remedy in remedies:
            if remedy.site is None:
                raise NoEdit("the line that it concerns is not known")
            files.setdefault(check_touchable(Path(remedy.site.file), self.root), []).append(remedy)
        return "".join(self._of_file(path, wanted) for path, wanted in sorted(files.items()))

    def _of_file(self, path: Path, remedies: Sequence[Remedy]) -> str:
        if path not in self._sources:
            self._sources[path] = _parsed(read(path).text, self._run.args)
        source = self._sources[path]
        return diffs.unified(relative(path, self.root), source.text, _together(remedies, source))

    def first(self, remedies: Iterable[Remedy]) -> tuple[str | None, str]:
        """The diff of the first remedy that can be written; else None and why the first of all cannot be.

        A bug of an edit costs its diff, never the audit.
        """
        reasons: list[str] = []
        for remedy in remedies:
            try:
                return self.diff([remedy]), ""
            except NoEdit as why:
                reasons.append(str(why))
            except Exception as bug:
                reasons.append(f"the edit itself failed: {type(bug).__name__}: {bug}")
        return None, reasons[0] if reasons else ""
