"""The scratch folder of one start of the script, and what the script has put into it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ENOUGH = 20 * 2**30  # bytes free for temporary files, with which checkpoints fit there too
MOST = 1000  # files listed


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Holds tmp/ and files/, what the script writes. A short path, because sockets live below it; removed at the end.

    Temporary files may be kept in a little memory, and checkpoints be large: then files/ links to the folder .audit/ of
    the working directory, if there is one, which is where the script's own disk is.
    """
    folder = Path(tempfile.mkdtemp(prefix="audit-")).resolve()
    roomy: Path | None = None
    try:
        (folder / "tmp").mkdir()
        roomy = _roomier_than(folder)
        if roomy is None:
            (folder / "files").mkdir()
        else:
            (folder / "files").symlink_to(roomy)
        yield folder
    finally:
        for made in (roomy, folder):
            if made is not None:
                shutil.rmtree(made, ignore_errors=True)


def _roomier_than(folder: Path) -> Path | None:
    with suppress(OSError):
        own = Path.cwd() / ".audit"
        free = shutil.disk_usage(folder).free
        if free < ENOUGH and own.is_dir() and shutil.disk_usage(own).free > free:
            return Path(tempfile.mkdtemp(prefix="files-", dir=own)).resolve()
    return None


def diverted_files(layer: Path) -> list[str]:
    """What the script wrote, read off the folder, so that it is known after any death: absolute paths as the script
    named them, sorted; at most MOST, then one line that counts the others."""
    found = sorted(_files(str(layer)))
    if len(found) > MOST:
        return [*found[:MOST], f"and {len(found) - MOST} more"]
    return found


def _files(layer: str) -> Iterator[str]:
    for folder, _, names in os.walk(layer):
        for name in names:
            yield os.path.join(folder, name)[len(layer) :]
