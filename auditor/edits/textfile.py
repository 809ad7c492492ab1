"""Source files as they are: encoding, byte order mark, line breaks and mode bits survive an edit."""

from __future__ import annotations

import os
import tokenize
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from auditor.edits.changes import NoEdit
from auditor.errors import AuditError


@dataclass(frozen=True)
class TextFile:
    """A file's text, line breaks as they are, and how it was encoded."""

    path: Path
    text: str
    encoding: str


def read(path: Path) -> TextFile:
    """Raises NoEdit when the file is not text that Python would read."""
    try:
        data = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(BytesIO(data).readline)  # 'utf-8-sig' with a byte order mark
        text = data.decode(encoding)
    except (OSError, SyntaxError, ValueError, LookupError):
        raise NoEdit(f"{path.name} cannot be read as Python source") from None
    if text.encode(encoding) != data:
        raise NoEdit(f"{path.name} would not keep its encoding")
    return TextFile(path, text, encoding)


def write(file: TextFile, text: str) -> None:
    """Whole or not at all, in the file's encoding and with its mode. Raises AuditError."""
    draft = file.path.with_name(f".{file.path.name}.{os.getpid()}")
    try:
        mode = file.path.stat().st_mode
        data = text.encode(file.encoding)
        with open(draft, "xb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(draft, mode & 0o7777)
        draft.replace(file.path)
    except (OSError, UnicodeEncodeError) as why:
        with suppress(OSError):
            draft.unlink()
        raise AuditError(f"{file.path} cannot be written: {getattr(why, 'strerror', None) or why}") from None
