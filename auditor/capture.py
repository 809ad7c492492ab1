"""Keeps what the script prints: the head and the tail of it, whatever its length."""

from __future__ import annotations

import os
import time
from pathlib import Path
from threading import Lock, Thread
from typing import IO

LOG_CAP = 10_000_000  # bytes on disk; half for the head, half for the tail
_CHUNK = 65_536
_QUIET = 1.0  # seconds of silence after which an unfinished line looks like a prompt


class Capture:
    """Drains a pipe into a log file of bounded size. Never raises: a full disk must not stop the audit."""

    def __init__(self, path: Path | None, cap: int = LOG_CAP) -> None:
        """`path` None keeps only the tail, in memory. Raises OSError when the file cannot be opened."""
        self._file: IO[bytes] | None = open(path, "wb", buffering=0) if path is not None else None  # noqa: SIM115
        self._half = cap // 2
        self._total = 0
        self._head = 0
        self._tail = bytearray()
        self._last = time.monotonic()
        self._prompted = -1
        self._lock = Lock()
        self._threads: list[Thread] = []

    def drain(self, pipe: IO[bytes]) -> None:
        """Start a thread that reads the pipe to its end."""
        thread = Thread(target=self._read, args=(pipe,), daemon=True, name="audit-capture")
        self._threads.append(thread)
        thread.start()

    def join(self, timeout: float) -> None:
        """Wait for what is still in the pipes; a process that escaped the group may hold one open."""
        for thread in self._threads:
            thread.join(timeout)

    def _read(self, pipe: IO[bytes]) -> None:
        while data := os.read(pipe.fileno(), _CHUNK):
            self.write(data)
        pipe.close()

    def write(self, data: bytes) -> None:
        with self._lock:
            self._last = time.monotonic()
            self._total += len(data)
            head = data[: self._half - self._head]
            self._head += len(head)
            self._put(head)
            self._tail += data
            if len(self._tail) > 2 * self._half:
                del self._tail[: -self._half]

    def _put(self, data: bytes) -> None:
        try:
            if self._file is not None and data:
                self._file.write(data)
        except OSError:
            self._file = None

    def close(self) -> None:
        """Write the tail behind the head, with a line that says how much is left out between them."""
        with self._lock:
            beyond = self._total - self._head
            kept = min(beyond, self._half)
            if beyond > kept:
                self._put(f"\n... {beyond - kept} bytes left out ...\n".encode())
            if kept:
                self._put(bytes(self._tail[-kept:]))
            if self._file is not None:
                self._file.close()
                self._file = None

    def last_lines(self, count: int) -> str:
        """The end of the output; of a line redrawn with carriage returns its last state."""
        with self._lock:
            text = bytes(self._tail[-100_000:]).decode("utf-8", "replace")
        lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.rstrip().split("\n")]
        return "\n".join(lines[-count:])

    def prompt(self) -> str:
        """An unfinished line after which the script has fallen silent: it may be asking something. Each only once."""
        with self._lock:
            silent = time.monotonic() - self._last >= _QUIET
            if not silent or self._prompted == self._total or self._tail.endswith(b"\n"):
                return ""
            line = bytes(self._tail[-2000:]).rpartition(b"\n")[2]
            self._prompted = self._total
        return "" if b"\r" in line else line.decode("utf-8", "replace")
