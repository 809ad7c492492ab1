"""What the script wrote while its files were diverted, read off the scratch folder: so it is known after any death."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MOST = 1000  # files listed


def diverted_files(layer: Path) -> list[str]:
    """Absolute paths as the script named them, sorted; at most MOST, then one line that counts the others."""
    found = sorted(_files(str(layer)))
    if len(found) > MOST:
        return [*found[:MOST], f"and {len(found) - MOST} more"]
    return found


def _files(layer: str) -> Iterator[str]:
    for folder, _, names in os.walk(layer):
        for name in names:
            yield os.path.join(folder, name)[len(layer) :]
