"""A layer over the file system: what the script writes goes to scratch, and what it reads back comes from there.

The layer mirrors absolute paths: `/home/me/run/model.pt` is kept as `<layer>/home/me/run/model.pt`. So forked workers
share it without talking to each other, and what was written can be listed after any death of the process. Beneath
lies the real file system, which is only read.

Vocabulary: a *name* is what the script says; a *place* is what it means, absolute and with all links resolved in
its own view of things; a *file* is where the bytes really are.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from auditor.probe.guard.disk import failure, shared_flag, shift

# The real functions, whether this module is imported before or after `os` is patched.
_readlink, _listdir, _makedirs, _rename = os.readlink, os.listdir, os.makedirs, os.rename
_unlink, _rmdir, _access, _getcwd = os.unlink, os.rmdir, os.access, os.getcwd

SYSTEM = ("/dev/", "/proc/", "/sys/", "/run/")
LARGEST_COPY = 2**30  # bytes of a real file that is copied because the script opens it to change parts of it
MOST_LINKS = 40


class _Busy(threading.local):
    now = False


class Overlay:
    """The script's view of the file system."""

    def __init__(self, layer: str, free: tuple[str, ...] = ()) -> None:
        """`free`: folders in which the script may write for real: scratch, caches."""
        self.layer = os.path.realpath(layer)
        self._free = tuple(os.path.realpath(folder).rstrip("/") + "/" for folder in (layer, *free))
        self._hidden: set[str] = set()  # places the script has removed; the real files are still there
        self._moved: dict[str, str] = {}  # places that a real file has been renamed to -> that file
        self._folders: dict[str, str] = {}  # folder as named -> its place
        self._busy = _Busy()
        self._used = shared_flag(self.layer + ".used")
        self.passed: set[str] = set()  # too large to copy: the script changed the real ones

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The layer's own use of the file system, and whatever else is not to be diverted."""
        before, self._busy.now = self._busy.now, True
        try:
            yield
        finally:
            self._busy.now = before

    @property
    def used(self) -> bool:
        """False while nothing was diverted yet: then every name means what it always does."""
        return self._used[0] != 0

    @property
    def working(self) -> bool:
        return self._busy.now

    # ------------------------------------------------------------------------------------------------ names and places

    def working_directory(self) -> str:
        """As the script sees it; raises FileNotFoundError when it was deleted."""
        folder = self._outside(_getcwd())
        if self._hidden and not self.exists(folder):
            raise failure(errno.ENOENT, ".")
        return folder

    def _outside(self, path: str) -> str:
        if path == self.layer or path.startswith(self.layer + "/"):
            return path[len(self.layer) :] or "/"
        return path

    def place(self, name: str, follow: bool = True) -> str:
        """`follow`: a link as the last part of the name is looked through. Raises OSError for endless links."""
        return self._resolve(self._absolute(name), follow, MOST_LINKS)

    def _absolute(self, name: str) -> str:
        whole = name if name.startswith("/") else os.path.join(self.working_directory(), name)
        return self._outside(os.path.normpath(whole))

    def _resolve(self, path: str, follow: bool, links: int) -> str:
        if links == 0:
            raise failure(errno.ELOOP, path)
        folder, last = os.path.split(path)
        if not last:
            return "/"
        if folder not in self._folders:
            self._folders[folder] = self._resolve(folder, True, links)
        place = os.path.join(self._folders[folder], last)
        file = self.file(place)
        if not follow or place.startswith(SYSTEM) or not os.path.islink(file):
            return place
        target = os.path.normpath(os.path.join(self._folders[folder], _readlink(file)))
        return self._resolve(self._outside(target), True, links - 1)

    def set_free(self, name: str) -> None:
        """From now on the script may write there for real."""
        self._free = (*self._free, self.place(name, follow=False) + "/")

    def is_free(self, place: str) -> bool:
        return (place + "/").startswith(self._free) or place.startswith(SYSTEM)

    # ------------------------------------------------------------------------------------------------------- questions

    def kept(self, place: str) -> str:
        """Where the layer has it, or would have it."""
        return self.layer + place

    def file(self, place: str) -> str:
        """The layer's file, or the real one. For what was removed, a path where there is nothing."""
        if not self.used or self.is_free(place):
            return place
        kept = self.kept(place)
        if os.path.lexists(kept):
            return kept
        folder, last = os.path.split(place)
        if place in self._moved or folder in self._moved:
            return self._moved.get(place) or os.path.join(self._moved[folder], last)
        gone = self._is_hidden(place) or (not os.path.lexists(place) and os.path.lexists(os.path.dirname(kept)))
        return kept if gone else place

    def _is_hidden(self, place: str) -> bool:
        while self._hidden and place != "/":
            if place in self._hidden:
                return True
            place = os.path.dirname(place)
        return False

    def reading(self, name: str, follow: bool = True) -> str:
        """What to hand to the system for a name that is read. Unchanged wherever possible."""
        if not self.used:
            return name
        place = self.place(name, follow)
        return self._as_named(name, place, self.file(place))

    def _as_named(self, name: str, place: str, file: str) -> str:
        """The script's own name for a real file, so that errors speak of it, where no link of the layer is on the way
        and the working directory is a real one."""
        return name if file == place == self._absolute(name) and not self._works_in_layer() else file

    def _works_in_layer(self) -> bool:
        try:
            return _getcwd().startswith(self.layer)
        except FileNotFoundError:
            return False

    def exists(self, place: str) -> bool:
        return os.path.lexists(self.file(place))

    def is_kept(self, place: str) -> bool:
        return self.used and not self.is_free(place) and os.path.lexists(self.kept(place))

    def names(self, folder: str) -> list[str]:
        """Entries of a folder in the script's view. Raises OSError."""
        place = self.place(folder)
        if not self.used or self.is_free(place) or not os.path.isdir(self.file(place)):
            return _listdir(self._as_named(folder, place, self.file(place)))
        beneath = os.path.isdir(place) and not self._is_hidden(place)
        found = dict.fromkeys(_listdir(place) if beneath else ())
        if os.path.isdir(self.kept(place)):
            found.update(dict.fromkeys(sorted(_listdir(self.kept(place)))))
        found.update(dict.fromkeys(os.path.basename(moved) for moved in self._moved if os.path.dirname(moved) == place))
        return [name for name in found if self.exists(os.path.join(place, name))]

    def removed(self) -> list[str]:
        """Real files and folders that the script believes to be gone."""
        return sorted(place for place in self._hidden if os.path.lexists(place) and not self.exists(place))

    def _is_folder(self, place: str) -> bool:
        file = self.file(place)
        return os.path.isdir(file) and not os.path.islink(file)

    # --------------------------------------------------------------------------------------------------------- changes

    def writing(self, name: str, keep: bool) -> str:
        """The file to write. `keep`: its present content counts, so a real one is copied first.

        Where the system would refuse, the name itself is returned: the script gets the error that it always gets.
        """
        place = self.place(name)
        file = self.file(place)
        if self.is_free(place) or self.is_kept(place) or not self._may_change(os.path.dirname(place)):
            return self._as_named(name, place, file)
        if os.path.lexists(file):
            if not os.path.isfile(file) or not _access(file, os.W_OK):
                return self._as_named(name, place, file)
            if keep and os.path.getsize(file) > LARGEST_COPY:
                self.passed.add(place)
                return self._as_named(name, place, file)
        kept = self._prepare(place)
        if keep and os.path.lexists(file):
            shutil.copy2(file, kept)
        self._moved.pop(place, None)
        return kept

    def _may_change(self, folder: str) -> bool:
        file = self.file(folder)
        return os.path.isdir(file) and _access(file, os.W_OK)

    def _require_folder(self, place: str, name: str) -> None:
        """Raises what the system would when nothing can be made or removed in the folder of a place."""
        folder = os.path.dirname(place)
        if self._may_change(folder):
            return
        if os.path.isdir(self.file(folder)):
            raise failure(errno.EACCES, name)
        while not self.exists(folder):
            folder = os.path.dirname(folder)
        raise failure(errno.ENOENT if os.path.isdir(self.file(folder)) else errno.ENOTDIR, name)

    def _prepare(self, place: str) -> str:
        """Makes the layer's folder for it."""
        kept = self.kept(place)
        if not os.path.isdir(os.path.dirname(kept)):
            _makedirs(os.path.dirname(kept), exist_ok=True)
        self._used[0] = 1
        return kept

    def _changed(self) -> None:
        self._used[0] = 1
        self._folders.clear()

    def make(self, name: str, make: Callable[[str], None]) -> None:
        """A new folder, link or pipe: `make` makes it at the path that it is given."""
        place = self.place(name, follow=False)
        if self.is_free(place) or self.exists(place):
            return make(self._as_named(name, place, self.file(place)))
        self._require_folder(place, name)
        make(self._prepare(place))
        self._changed()
        return None

    def copy_as(self, source: str, target: str) -> None:
        """link(): a second name for a file. A real one is copied first."""
        old, new = self.place(source, follow=False), self.place(target, follow=False)
        if not self.exists(old):
            self._require_folder(old, source)
            raise failure(errno.ENOENT, source)
        if self.exists(new):
            raise failure(errno.EEXIST, target)
        self._require_folder(new, target)
        if self._is_folder(old):
            raise failure(errno.EPERM, source)
        file = self.file(old)
        if not self.is_free(old) and not self.is_kept(old):
            shutil.copy2(file, self._prepare(old), follow_symlinks=False)
            self._moved.pop(old, None)
            file = self.kept(old)
        os.link(file, new if self.is_free(new) else self._prepare(new), follow_symlinks=False)
        self._changed()

    def remove(self, name: str) -> None:
        """unlink()"""
        place = self.place(name, follow=False)
        file = self.file(place)
        if self.is_free(place) or not os.path.lexists(file):
            return _unlink(self._as_named(name, place, file))
        self._require_folder(place, name)
        if self._is_folder(place):
            raise failure(errno.EISDIR, name)
        self._forget(place)
        return None

    def remove_folder(self, name: str) -> None:
        """rmdir()"""
        place = self.place(name, follow=False)
        file = self.file(place)
        if self.is_free(place) or not self._is_folder(place):
            return _rmdir(self._as_named(name, place, file))
        self._require_folder(place, name)
        if self.names(place):
            raise failure(errno.ENOTEMPTY, name)
        self._forget(place)
        return None

    def remove_tree(self, name: str) -> bool:
        """rmtree(); False when there is no such folder of ours to judge, so that the real function shall."""
        place = self.place(name, follow=False)
        if self.is_free(place) or not self._is_folder(place) or not self._may_change(os.path.dirname(place)):
            return False
        self._forget(place)
        return True

    def _forget(self, place: str) -> None:
        """It is gone for the script, with all that is in it."""
        kept = self.kept(place)
        if os.path.isdir(kept) and not os.path.islink(kept):
            shutil.rmtree(kept)
        elif os.path.lexists(kept):
            _unlink(kept)
        for moved in [m for m in self._moved if m == place or m.startswith(place + "/")]:
            del self._moved[moved]
        self._cover(place)

    def rename(self, source: str, target: str) -> None:
        """rename() and replace(), between any two places."""
        old, new = self.place(source, follow=False), self.place(target, follow=False)
        if self.is_free(old) and self.is_free(new):
            return _rename(old, new)
        self._refuse_rename(source, old, target, new)
        if old == new:
            return None
        if self.is_free(new):
            self._move_out(old, new)
        elif self._is_folder(old):
            self._move_folder(old, new)
        else:
            self._move_file(old, new)
        if not self.is_free(old):
            self._forget(old)
        return None

    def _refuse_rename(self, source: str, old: str, target: str, new: str) -> None:
        """Raises what the system would."""
        for place, name in ((old, source), (new, target)):
            self._require_folder(place, name)
        if not self.exists(old):
            raise failure(errno.ENOENT, source)
        if new.startswith(old + "/"):
            raise failure(errno.EINVAL, source)
        if old == new or not self.exists(new):
            return
        if old.startswith(new + "/"):
            raise failure(errno.ENOTEMPTY, target)
        if not self._is_folder(new):
            if self._is_folder(old):
                raise failure(errno.ENOTDIR, target)
            return
        if not self._is_folder(old):
            raise failure(errno.EISDIR, target)
        if self.names(new):
            raise failure(errno.ENOTEMPTY, target)

    def _move_out(self, old: str, new: str) -> None:
        """To where the script may write for real. A real file stays where it is, and is copied."""
        if self._is_folder(old):
            os.makedirs(new, exist_ok=True)
            for name in self.names(old):
                self._move_out(os.path.join(old, name), os.path.join(new, name))
        elif self.is_kept(old):
            shift(self.kept(old), new)
        else:
            shutil.copy2(self.file(old), new, follow_symlinks=False)

    def _move_file(self, old: str, new: str) -> None:
        file, kept = self.file(old), self._prepare(new)
        self._moved.pop(new, None)
        if os.path.isdir(kept) and not os.path.islink(kept):
            _rmdir(kept)
        if self.is_free(old) or self.is_kept(old):
            shift(file, kept)
        elif os.path.islink(file):
            os.symlink(_readlink(file), kept + ".new")
            _rename(kept + ".new", kept)
        else:
            if os.path.lexists(kept):
                _unlink(kept)
            self._moved[new] = file
        self._cover(new)

    def _cover(self, place: str) -> None:
        """Something else is at the place now: what is below the real one there is not seen any more."""
        if os.path.lexists(place):
            self._hidden.add(place)
        self._changed()

    def _move_folder(self, old: str, new: str) -> None:
        if self.is_free(old):
            shift(old, self._prepare(new))
            return self._cover(new)
        _makedirs(self.kept(new), exist_ok=True)
        for name in self.names(old):
            inner = os.path.join(old, name)
            move = self._move_folder if self._is_folder(inner) else self._move_file
            move(inner, os.path.join(new, name))
        return self._cover(new)
