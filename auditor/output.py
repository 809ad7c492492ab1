"""Where an audit goes: standard output, the files asked for with -o, the folder .audit/."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from auditor.compare import Difference
from auditor.declare import Severity
from auditor.errors import AuditError
from auditor.registry import comparison_formats, report_formats
from auditor.result import Audit

FOLDER = ".audit"
KEPT_REPORTS = {"html": "report.html", "markdown": "report.md"}
_WIDTH = 100  # without a terminal
_NARROWEST, _WIDEST = 60, 120
_SIGNS = "✖⚠✔→"


@dataclass(frozen=True)
class Output:
    """One file to write."""

    path: Path
    format: str


@dataclass(frozen=True)
class Wanted:
    """What a format gets besides the audit, if its signature names it."""

    fail_on: Severity | None = Severity.ERROR
    difference: Difference | None = None

    def of(self, module: ModuleType) -> dict[str, Any]:
        taken = inspect.signature(module.render).parameters
        given = {"fail_on": self.fail_on, "difference": self.difference}
        return {name: value for name, value in given.items() if name in taken}


def check_format(name: str, formats: Mapping[str, ModuleType] | None = None) -> str:
    """The name of an installed format. Raises AuditError."""
    known = report_formats() if formats is None else formats
    if name not in known:
        raise AuditError(f"there is no format {name!r}; known are {', '.join(sorted(known))}")
    return name


def parse_output(text: str, formats: Mapping[str, ModuleType] | None = None) -> Output:
    """'report.html' by its suffix, or 'markdown:FILE'. The path is made absolute: later steps may run elsewhere.

    Raises AuditError when the format is unknown or the file could not be written.
    """
    formats = report_formats() if formats is None else formats
    prefix, colon, rest = text.partition(":")
    if colon and rest and prefix in formats:
        return Output(_writable(Path(rest).absolute(), text), prefix)
    path = Path(text).absolute()
    for name, module in formats.items():
        if path.suffix.lower() in module.SUFFIXES:
            return Output(_writable(path, text), name)
    known = sorted(suffix for module in formats.values() for suffix in module.SUFFIXES)
    raise AuditError(
        f"-o {text}: no format has the suffix {path.suffix!r}; known are {', '.join(known)}, or FORMAT:FILE"
    )


def _writable(path: Path, shown: str) -> Path:
    folder = path.parent
    problem = ""
    try:
        if path.is_dir():
            problem = "it is a folder"
        elif not folder.is_dir():
            problem = f"there is no folder {folder}"
        elif not os.access(path if path.exists() else folder, os.W_OK):
            problem = "permission denied"
    except (OSError, ValueError) as why:
        problem = getattr(why, "strerror", None) or str(why)
    if problem:
        raise AuditError(f"-o {shown} cannot be written: {problem}")
    return path


def use_color(choice: str) -> bool:
    """--color, else NO_COLOR, else FORCE_COLOR, else whether standard output is a terminal."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def terminal_width() -> int:
    """Of standard output, within what stays readable."""
    try:
        columns = int(os.environ.get("COLUMNS", "0"))
    except ValueError:
        columns = 0
    if columns <= 0:
        try:
            columns = os.get_terminal_size(sys.stdout.fileno()).columns
        except (OSError, ValueError):
            columns = _WIDTH
    return max(_NARROWEST, min(columns or _WIDTH, _WIDEST))


def render(audit: Audit, format: str, *, color: str = "auto", wanted: Wanted | None = None) -> str:
    """The audit in one format, as standard output should have it."""
    module = report_formats()[format]
    return _rendered(module, audit, format, color, (wanted or Wanted()).of(module))


def render_comparison(difference: Difference, format: str, *, color: str = "auto") -> str:
    """The same of a comparison."""
    return _rendered(comparison_formats()[format], difference, format, color, {})


def _rendered(module: ModuleType, what: Audit | Difference, format: str, color: str, given: Mapping[str, Any]) -> str:
    if format == "text":
        given = {**given, "width": terminal_width(), "color": use_color(color), "unicode": _unicode()}
    return str(module.render(what, **given))


def _unicode() -> bool:
    try:
        _SIGNS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def show(text: str, *, machine: bool = False) -> None:
    """To standard output, '' not at all. Machine formats are UTF-8 whatever the locale; a reader that went away is no
    error."""
    if not text:
        return
    encoding = "utf-8" if machine else (sys.stdout.encoding or "utf-8")
    data = text.encode(encoding, "replace")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data if data.endswith(b"\n") else data + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Python flushes once more at exit, and would complain then.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write(audit: Audit, outputs: Sequence[Output], wanted: Wanted | None = None) -> list[str]:
    """Write the files asked for; sentences about those that could not be written."""
    return _write(outputs, lambda format: render_file(audit, format, wanted))


def write_comparison(difference: Difference, outputs: Sequence[Output]) -> list[str]:
    """The same of a comparison."""
    return _write(outputs, lambda format: str(comparison_formats()[format].render(difference)))


def _write(outputs: Sequence[Output], content: Callable[[str], str]) -> list[str]:
    problems = []
    for output in outputs:
        try:
            _replace(output.path, content(output.format))
        except Exception as why:  # a report's bug must not cost the others
            problems.append(f"{output.path} could not be written: {_reason(why)}")
    return problems


def _reason(why: Exception) -> str:
    if isinstance(why, OSError):
        return why.strerror or str(why)
    return f"its report failed: {type(why).__name__}: {why}"


def render_file(audit: Audit, format: str, wanted: Wanted | None = None) -> str:
    """The audit in one format for a file: no colour, no terminal's width."""
    module = report_formats()[format]
    return str(module.render(audit, **(wanted or Wanted()).of(module)))


def _replace(path: Path, text: str) -> None:
    """Whole or not at all; a special file such as /dev/stdout, and a link, is written in place."""
    data = text.encode("utf-8", "replace")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.write_bytes(data)
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def prepare_folder(base: Path) -> Path | None:
    """The folder .audit/ below `base`, ignored by git; None when it cannot be written."""
    folder = base.absolute() / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def keep(audit: Audit, folder: Path) -> list[str]:
    """The latest audit in .audit/; sentences about what could not be kept."""
    files: dict[str, Callable[[], str]] = {
        "evidence.json": lambda: audit.evidence.model_dump_json(indent=2) + "\n",
        "audit.json": audit.to_json,
    }
    for format, name in KEPT_REPORTS.items():
        if format in report_formats():
            files[name] = partial(render_file, audit, format)
    problems = []
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)  # the script may have deleted it, or all of its own folder
    for name, content in files.items():
        try:
            _replace(folder / name, content())
        except Exception as why:  # a report's bug must not cost the others
            problems.append(f"{folder / name} could not be written: {_reason(why)}")
            with suppress(OSError):
                (folder / name).unlink()  # that of an earlier audit would be taken for this one's
    return problems
