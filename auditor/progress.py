"""Says on standard error what the audit is doing: one living line on a terminal, a line a phase elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from auditor.capture import Capture
from auditor.spec import Progress
from auditor.untrusted import neutral

_REDRAW = 0.1  # seconds
_ERASE = "\r\x1b[2K"


class Display:
    """Listener of the supervisor. `live`: redraw one line; needs a terminal that the script does not write to."""

    def __init__(
        self, *, quiet: bool, live: bool, capture: Capture | None = None, stream: TextIO | None = None
    ) -> None:
        self._quiet = quiet
        self._live = live and not quiet
        self._stream = stream or sys.stderr
        self._capture = capture
        self._phase = ""
        self._started = time.monotonic()
        self._drawn = 0.0
        self._shown = False

    def __call__(self, progress: Progress | None) -> None:
        self._prompt()
        if self._live:
            self._draw(progress or Progress(phase="starting"))
        elif progress is not None and progress.phase != self._phase:
            self._phase = progress.phase
            self.message(f"{progress.phase}, {progress.of} steps" if progress.of else progress.phase)

    def message(self, text: str) -> None:
        """A line of ours; nothing when quiet."""
        if not self._quiet:
            self.clear()
            self._write(f"audit: {text}\n")

    def clear(self) -> None:
        if self._shown:
            self._shown = False
            self._write(_ERASE)

    def _draw(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._drawn < _REDRAW:
            return
        self._drawn = now
        width = shutil.get_terminal_size().columns
        self._shown = True
        self._write(f"{_ERASE}audit: {line(progress, now - self._started)}"[: width - 1 + len(_ERASE)])

    def _prompt(self) -> None:
        """A script that asks something must not wait unheard because its output is captured."""
        if self._capture is None or not _is_terminal(sys.stdin):
            return
        if text := self._capture.prompt():
            self.clear()
            self._live = False
            self._write(neutral(text))

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal is gone
            self._quiet, self._live = True, False


def line(progress: Progress, elapsed: float) -> str:
    """'observing 23/60, 12 s, about 40 s to go'."""
    parts = [progress.phase, f"{elapsed:.0f} s"]
    if progress.of:
        parts[0] += f" {progress.step}/{progress.of}"
    if progress.left is not None:
        parts.append(f"about {progress.left:.0f} s to go")
    return ", ".join(parts)


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False
