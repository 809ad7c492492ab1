"""The file system's own ways: its errors, renaming across disks, a byte that several processes see."""

from __future__ import annotations

import errno
import mmap
import os
import shutil

_rename, _rmdir, _unlink = os.rename, os.rmdir, os.unlink


def failure(number: int, name: str) -> OSError:
    """The error that the system would raise."""
    return OSError(number, os.strerror(number), name)


def shared_bytes(file: str, count: int) -> mmap.mmap:
    """Zeros at first, which all processes of the script see and may change, forked and spawned ones."""
    with open(file, "a+b") as shared:
        if shared.tell() == 0:
            shared.write(bytes(count))
            shared.flush()
        return mmap.mmap(shared.fileno(), count)


def shift(file: str, target: str) -> None:
    """rename(), also between file systems."""
    try:
        _rename(file, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if os.path.lexists(target):
            (_rmdir if os.path.isdir(target) and not os.path.islink(target) else _unlink)(target)
        shutil.move(file, target)
