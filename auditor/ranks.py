"""Audits of the ranks of one distributed run, which a launcher such as torchrun started side by side.

Each audit follows its own rank. What the ranks were fed and how their weights went only says something when laid side
by side: the audits of the other ranks leave their fingerprints in a folder, and that of rank 0 reads them. Files and
not messages, because the program's own communication must stay as it is, and some rank may not be audited at all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from auditor.evidence import RankPrint, Ranks

PATIENCE = 20.0  # seconds for the other ranks to finish: they take their steps together
POLL = 0.1


class RankFolder:
    """Where the audits of one run meet. None of its methods raises: a report must come."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._began = time.time()
        self._path = _path(environment)
        if self._path is not None:
            with suppress(OSError):
                self._file(_number(environment.get("RANK"))).unlink()  # of an earlier run that met at the same address

    def exchange(self, ranks: Ranks, stop: Callable[[], bool]) -> Ranks:
        """Leave this rank's fingerprint there; on rank 0, wait for the others' and add them."""
        if self._path is None or not ranks.prints:
            return ranks
        if ranks.rank:
            self._leave(ranks.prints[0])
            return ranks
        began = time.monotonic()
        found: dict[int, RankPrint] = {ranks.rank: ranks.prints[0]}
        while len(found) < ranks.world_size and time.monotonic() - began < PATIENCE and not stop():
            for rank in range(ranks.world_size):
                other = self._read(rank) if rank not in found else None
                if other is not None:
                    found[rank] = other
            time.sleep(POLL)
        shutil.rmtree(self._path, ignore_errors=True)
        prints = tuple(found[rank] for rank in sorted(found))
        return ranks.model_copy(update={"prints": prints, "waited": round(time.monotonic() - began, 3)})

    def _file(self, rank: int) -> Path:
        assert self._path is not None
        return self._path / f"rank{rank}.json"

    def _leave(self, print_: RankPrint) -> None:
        with suppress(OSError):
            assert self._path is not None
            self._path.mkdir(mode=0o700, exist_ok=True)
            whole = self._file(print_.rank)
            part = whole.with_suffix(f".{os.getpid()}")
            part.write_text(print_.model_dump_json(), encoding="utf-8")
            part.replace(whole)

    def _read(self, rank: int) -> RankPrint | None:
        try:
            file = self._file(rank)
            status = file.stat()
            if status.st_uid != os.getuid() or status.st_mtime < self._began - 1:
                return None
            return RankPrint.model_validate_json(file.read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            return None


def is_follower(environment: Mapping[str, str]) -> bool:
    """True for the audit of a rank other than 0, which leaves the report and the exit code to that one."""
    return _path(environment) is not None and _number(environment.get("RANK")) > 0


def _path(environment: Mapping[str, str]) -> Path | None:
    """The same for all ranks of a run, None outside of one. Ranks on several machines need a TMPDIR that they share."""
    names = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")
    if _number(environment.get("WORLD_SIZE")) < 2 or not environment.get("MASTER_PORT"):
        return None
    key = "|".join([str(os.getuid()), *(environment.get(name, "") for name in names)])
    return Path(tempfile.gettempdir()) / f"audit-ranks-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0
