"""Changes to the file system, as the script makes them: they happen in the layer, what is real is only read."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable

from auditor.probe.guard.disk import failure, shift
from auditor.probe.guard.view import View

_readlink, _makedirs, _rename, _unlink, _rmdir, _access = (
    os.readlink, os.makedirs, os.rename, os.unlink, os.rmdir, os.access
)  # fmt: skip

LARGEST_COPY = 2**30  # bytes of a real file that is copied because the script opens it to change parts of it


class Overlay(View):
    """The script's own file system: what it sees, and what it may change."""

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
        self._changed()
        return kept

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
