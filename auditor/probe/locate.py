"""Which line of the user's source is responsible: the nearest frame that is neither ours, torch's nor a package's."""

from __future__ import annotations

import linecache
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from types import FrameType, TracebackType

from auditor.evidence import Location

Site = tuple[tuple[str, int], ...]
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_FOREIGN = tuple(
    {os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


@lru_cache(maxsize=4096)
def is_ours(file: str) -> bool:
    return file.startswith(_OURS + os.sep)


@lru_cache(maxsize=4096)
def is_users(file: str) -> bool:
    """True for source that is the user's own: not ours, not the standard library, not an installed package."""
    if file.startswith("<") or is_ours(file):
        return False
    path = os.path.realpath(file)
    return not path.startswith(_FOREIGN) and "site-packages" not in path and "dist-packages" not in path


GRADIENTS_READ = r"\.grad\b(?!\s*=\s*None)"  # a source that looks at gradients, for `sources_mention`


def sources_mention(pattern: re.Pattern[str], *files: str) -> bool:
    """Whether these sources, or any of the user's that are loaded, have it. Without a source to read: yes."""
    loaded = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    known = {*files, *(file for file in loaded if isinstance(file, str) and is_users(file))}
    lines = {file: linecache.getlines(file) for file in known}
    return not any(lines.values()) or any(pattern.search("".join(text)) for text in lines.values())


def _frames(skip: int) -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(skip + 1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def user_location(skip: int = 1) -> Location | None:
    """The innermost user frame on the stack."""
    for frame in _frames(skip):
        if is_users(frame.f_code.co_filename):
            return _of(frame)
    return None


def user_site(frames: int = 3) -> Site:
    """File and line of the innermost user frames: where a call comes from, and for what."""
    found: list[tuple[str, int]] = []
    for frame in _frames(1):
        if is_users(frame.f_code.co_filename):
            found.append((frame.f_code.co_filename, frame.f_lineno))
            if len(found) == frames:
                break
    return tuple(found)


def construction_location(built: object) -> Location | None:
    """Where an object under construction is made: user frames inside its own __init__ are passed over."""
    for frame in _frames(1):
        code = frame.f_code
        if not is_users(code.co_filename):
            continue
        if code.co_name == "__init__" and code.co_argcount and frame.f_locals.get(code.co_varnames[0]) is built:
            continue
        return _of(frame)
    return None


def _of(frame: FrameType) -> Location:
    file = frame.f_code.co_filename
    return _location(file if os.path.isabs(file) else os.path.abspath(file), frame.f_lineno, frame.f_code.co_name)


@lru_cache(maxsize=4096)
def _location(file: str, line: int, function: str) -> Location:
    """The same few lines are asked for in every step, and building one takes longer than finding it."""
    return Location(file=os.path.normpath(file), line=max(1, line), function="" if function == "<module>" else function)


def traceback_location(tb: TracebackType | None) -> Location | None:
    """The innermost user frame of a traceback."""
    found: Location | None = None
    while tb is not None:
        if is_users(tb.tb_frame.f_code.co_filename):
            found = _of(tb.tb_frame).model_copy(update={"line": max(1, tb.tb_lineno)})
        tb = tb.tb_next
    return found


def without_ours(tb: TracebackType | None) -> TracebackType | None:
    """The traceback with our own frames cut out, wherever they are in it; a recursion's has thousands."""
    kept = []
    while tb is not None:
        file = tb.tb_frame.f_code.co_filename
        if not is_ours(file) and not file.startswith("<frozen runpy"):
            kept.append(tb)
        tb = tb.tb_next
    rest: TracebackType | None = None
    for tb in reversed(kept):
        rest = TracebackType(rest, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)
    return rest
