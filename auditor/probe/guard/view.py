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
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from auditor.probe.guard.disk import failure, shared_bytes

# The real functions, whether this module is imported before or after `os` is patched.
_readlink, _listdir, _getcwd = os.readlink, os.listdir, os.getcwd

SYSTEM = ("/dev/", "/proc/", "/sys/", "/run/")
MOST_LINKS = 40
GENERATION = 8  # bytes
NONE_YET = bytes(GENERATION)


class _Busy(threading.local):
    now = False


class View:
    """What the script sees of the file system, and where it really is."""

    def __init__(self, layer: str, free: tuple[str, ...] = ()) -> None:
        """`free`: folders in which the script may write for real: scratch, caches."""
        self.layer = os.path.realpath(layer)
        self._free = tuple(os.path.realpath(folder).rstrip("/") + "/" for folder in (layer, *free))
        self._hidden: set[str] = set()  # places the script has removed; the real files are still there
        self._moved: dict[str, str] = {}  # places that a real file has been renamed to -> that file
        self._folders: dict[str, str] = {}  # folder as named -> its place
        self._busy = _Busy()
        self._generation = shared_bytes(self.layer + ".generation", GENERATION)  # counts changes, in all processes
        self._untouched: dict[str, bool] = {}
        self._untouched_at = NONE_YET
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
        return self._generation[:] != NONE_YET

    def _changed(self) -> None:
        """What was known of folders is known no more, in no process."""
        count = int.from_bytes(self._generation[:], "little") + 1
        self._generation[:] = (count or 1).to_bytes(GENERATION, "little")
        self._folders.clear()

    def is_untouched(self, folder: str) -> bool:
        """True for a real folder, as the script names it, in which and above which nothing was diverted."""
        generation = self._generation[:]
        if self._untouched_at != generation:
            self._untouched, self._untouched_at = {}, generation
        known = self._untouched.get(folder)
        if known is None:
            place = self.place(folder or ".")
            concerned = (*self._hidden, *self._moved)
            known = place == os.path.realpath(folder or ".") and not os.path.lexists(self.kept(place))
            known = known and os.path.isdir(place) and not self._is_hidden(place) and not self._works_in_layer()
            known = known and not any((other + "/").startswith(place + "/") for other in concerned)
            self._untouched[folder] = known
        return known

    def moved_to(self) -> None:
        """The working directory is another: what relative names were known to mean, they mean no more."""
        self._untouched = {}

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
        if self.is_untouched(os.path.dirname(name)) and not (follow and os.path.islink(name)):
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
