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


def shared_flag(file: str) -> mmap.mmap:
    """One byte that all processes of the script see, forked and spawned ones."""
    with open(file, "a+b") as flag:
        if flag.tell() == 0:
            flag.write(b"\0")
            flag.flush()
        return mmap.mmap(flag.fileno(), 1)


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
