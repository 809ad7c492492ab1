"""Diverts what the script does with files: Python's own functions here, libraries of native code in `native`."""

from __future__ import annotations

import builtins
import bz2
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tokenize
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from auditor.probe.guard.entries import Entries
from auditor.probe.guard.native import divert_native_code
from auditor.probe.guard.overlay import Overlay
from auditor.probe.guard.patches import Replacement, let_imports_follow, rebind_defaults
from auditor.probe.guard.preparation import caches, called_by, is_making_temporary, is_preparing_data

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_getcwd = os.getcwd

Function = Callable[..., Any]
# Modules of the standard library that hold `open` under a name of their own.
OPENERS = (
    (builtins, "open"),
    (io, "open"),
    (bz2, "_builtin_open"),
    (tarfile, "bltn_open"),
    (tokenize, "_builtin_open"),
)


class Diversion:
    """Python's ways to write, remove, rename and read files, going through the layer."""

    def __init__(self, layer: str) -> None:
        self.overlay = Overlay(layer, free=(os.path.dirname(layer), *caches()))
        self.opener = self._wrap(io.open, self._open, "io")  # stands for the built-in open
        self.programs: dict[str, None] = {}  # started by the script
        self.left_out: list[str] = []  # sentences on what was not done at all
        self.prepared: set[str] = set()  # folders in which libraries have put data, for real

    def install(self) -> None:
        """For the life of the process, and of those forked from it."""
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        unlink = os.unlink
        for owner, name in OPENERS:
            setattr(owner, name, self.opener)
        self._replace(io, "open_code", partial(self._read, True))
        for name in ("stat", "access", "statvfs", "listxattr", "getxattr"):
            self._replace(os, name, partial(self._read, True))
        for name in ("lstat", "readlink"):
            self._replace(os, name, partial(self._read, False))
        for name in ("chmod", "chown", "utime", "setxattr", "lchown"):
            self._replace(os, name, self._metadata)
        self._replace(os, "open", self._open_descriptor)
        self._replace(os, "truncate", partial(self._write, True))
        self._replace(os, "mkdir", self._make)
        self._replace(os, "mkfifo", self._make)
        self._replace(os, "symlink", self._symlink)
        self._replace(os, "link", self._link)
        self._replace(os, "remove", partial(self._remove, self.overlay.remove))
        self._replace(os, "unlink", partial(self._remove, self.overlay.remove))
        self._replace(os, "rmdir", partial(self._remove, self.overlay.remove_folder))
        self._replace(os, "rename", self._rename)
        self._replace(os, "replace", self._rename)
        self._replace(os, "listdir", self._listdir)
        self._replace(os, "scandir", self._scandir)
        self._replace(os, "chdir", self._chdir)
        self._replace(os, "getcwd", self._getcwd)
        self._replace(os, "getcwdb", lambda original: os.fsencode(self._getcwd(original)))
        self._replace(os, "system", self._start_shell)
        self._replace(shutil, "rmtree", self._rmtree)
        subprocess.Popen.__init__ = self._popen(subprocess.Popen.__init__)  # type: ignore[method-assign]
        rebind_defaults(tempfile, unlink, os.unlink)
        let_imports_follow()
        divert_native_code(self)

    def facts(self) -> list[str]:
        """Sentences on what was not simply diverted."""
        with self.overlay.at_work():
            removed = self.overlay.removed()
        said = list(dict.fromkeys(self.left_out))
        if removed:
            said.append(f"What the script deleted was left in place: {_some(removed)}.")
        if self.programs:
            said.append(
                f"What other programs do to files is not diverted; the script started {_some([*self.programs])}."
            )
        if self.prepared:
            said.append(f"Data that the script downloaded or prepared was kept: {_some(sorted(self.prepared))}.")
        if self.overlay.passed:
            names = _some(sorted(self.overlay.passed))
            said.append(f"Too large to copy, and so opened for writing where they are: {names}.")
        return said

    # --------------------------------------------------------------------------------------------------- the machinery

    def _replace(self, owner: Any, name: str, ours: Function) -> None:
        original = getattr(owner, name, None)
        if original is None:
            return
        replacement = self._wrap(original, ours, owner.__name__)
        for supported in (os.supports_dir_fd, os.supports_follow_symlinks, os.supports_fd, os.supports_effective_ids):
            if original in supported:
                supported.add(replacement)
        setattr(owner, name, replacement)

    def _wrap(self, original: Function, ours: Function, module: str) -> Function:
        """`ours(original, ...)`, unless the layer itself is at work."""
        return Replacement(original, ours, module, self.overlay)

    def read(self, name: str, follow: bool = True) -> str:
        """The file to read for a name."""
        if not self.overlay.used:
            return name
        with self.overlay.at_work():
            return self.overlay.reading(name, follow)

    def write(self, name: str, keep: bool) -> str:
        """The file to write for a name. `keep`: its present content is needed."""
        with self.overlay.at_work():
            if self._is_preparation(name):
                return name
            return self.overlay.writing(name, keep)

    def _is_preparation(self, name: str) -> bool:
        """Data that a library fetches goes where it belongs; the folder for it may have been diverted before."""
        if is_making_temporary(name):
            self.overlay.set_free(name)
            return True
        if not is_preparing_data():
            return False
        place = self.overlay.place(name)
        if self.overlay.is_kept(place) or self.overlay.is_free(place):
            return False
        folder = os.path.dirname(place)
        os.makedirs(folder, exist_ok=True)
        if not any(folder == known or folder.startswith(known + os.sep) for known in self.prepared):
            self.prepared = {known for known in self.prepared if not known.startswith(folder + os.sep)} | {folder}
        return True

    # ---------------------------------------------------------------------------------------------- opening and reading

    def _open(self, original: Function, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        name = _name(file)
        if name is None or not isinstance(mode, str):
            return original(file, mode, *args, **kwargs)
        if not set(mode) & set("wax+"):
            return original(self.read(name) if self.overlay.used else file, mode, *args, **kwargs)
        return original(self._to_open(name, "w" in mode, "x" in mode, "r" not in mode), mode, *args, **kwargs)

    def _open_descriptor(self, original: Function, path: Any, flags: int, *args: Any, **kwargs: Any) -> Any:
        name = _name(path, kwargs)
        if name is None:
            return original(path, flags, *args, **kwargs)
        if not flags & _WRITES:
            return original(self.read(name), flags, *args, **kwargs)
        exclusive = bool(flags & os.O_EXCL and flags & os.O_CREAT)
        file = self._to_open(name, bool(flags & os.O_TRUNC), exclusive, bool(flags & os.O_CREAT))
        return original(file, flags, *args, **kwargs)

    def _to_open(self, name: str, truncates: bool, exclusive: bool, creates: bool) -> str:
        with self.overlay.at_work():
            there = self.overlay.exists(self.overlay.place(name, follow=not exclusive))
        if there if exclusive else not there and not creates:
            return self.read(name, follow=not exclusive)  # and the system refuses
        return self.write(name, keep=not truncates)

    def _read(self, follow: bool, original: Function, path: Any, *args: Any, **kwargs: Any) -> Any:
        name = _name(path, kwargs) if self.overlay.used else None
        if name is None:
            return original(path, *args, **kwargs)
        return original(self.read(name, follow and kwargs.get("follow_symlinks", True)), *args, **kwargs)

    def _write(self, keep: bool, original: Function, path: Any, *args: Any, **kwargs: Any) -> Any:
        name = _name(path, kwargs)
        return original(path if name is None else self.write(name, keep), *args, **kwargs)

    def _metadata(self, original: Function, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Mode, owner and times of real files stay as they are."""
        name = _name(path, kwargs)
        if name is None:
            return original(path, *args, **kwargs)
        with self.overlay.at_work():
            place = self.overlay.place(name, kwargs.get("follow_symlinks", True))
            real = self.overlay.exists(place) and not self.overlay.is_kept(place) and not self.overlay.is_free(place)
        return None if real else original(self.read(name, kwargs.get("follow_symlinks", True)), *args, **kwargs)

    # --------------------------------------------------------------------------------------------- folders and entries

    def _listdir(self, original: Function, path: Any = ".") -> Any:
        name = _name(path) if path is not None else "."
        if name is None or not self.overlay.used:
            return original(path)
        with self.overlay.at_work():
            names = self.overlay.names(name)
        return [os.fsencode(entry) for entry in names] if isinstance(path, bytes) else names

    def _scandir(self, original: Function, path: Any = ".") -> Any:
        name = _name(path) if path is not None else "."
        if name is None or not self.overlay.used or isinstance(path, bytes):
            return original(path)
        with self.overlay.at_work():
            if self.overlay.is_untouched(name):
                return original(path)
            return Entries(name, self.overlay.names(name))

    def _chdir(self, original: Function, path: Any) -> None:
        self._read(True, original, path)
        self.overlay.moved_to()

    def _getcwd(self, original: Function) -> str:
        with self.overlay.at_work():
            return self.overlay.working_directory()

    def _make(self, original: Function, path: Any, *args: Any, **kwargs: Any) -> None:
        name = _name(path, kwargs)
        if name is None:
            return original(path, *args, **kwargs)  # type: ignore[no-any-return]
        with self.overlay.at_work():
            prepared = set(self.prepared)
            if self._is_preparation(name):
                self.prepared = prepared  # files count, not the folder that gets a new one
                return original(path, *args, **kwargs)  # type: ignore[no-any-return]
            return self.overlay.make(name, lambda file: original(file, *args, **kwargs))

    def _symlink(self, original: Function, target: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        name = _name(path, kwargs)
        if name is None:
            return original(target, path, *args, **kwargs)  # type: ignore[no-any-return]
        with self.overlay.at_work():
            return self.overlay.make(name, lambda file: original(target, file))

    def _link(self, original: Function, source: Any, path: Any, **kwargs: Any) -> None:
        """A second name for a file: a copy does, as the file is the script's own from then on."""
        old, new = _name(source, kwargs), _name(path, kwargs)
        if old is None or new is None:
            return original(source, path, **kwargs)  # type: ignore[no-any-return]
        with self.overlay.at_work():
            return self.overlay.copy_as(old, new)

    # --------------------------------------------------------------------------------------------- removing and moving

    def _remove(self, ours: Callable[[str], None], original: Function, path: Any, **kwargs: Any) -> Any:
        name = _name(path, kwargs)
        if name is None:
            return original(path, **kwargs)
        with self.overlay.at_work():
            if self._is_preparation(name):
                return original(path, **kwargs)
            return ours(name)

    def _rmtree(self, original: Function, path: Any, *args: Any, **kwargs: Any) -> Any:
        name = _name(path, kwargs)
        if name is None:
            return original(path, *args, **kwargs)
        with self.overlay.at_work():
            if not self._is_preparation(name) and self.overlay.remove_tree(name):
                return None
        return original(path, *args, **kwargs)

    def _rename(self, original: Function, source: Any, target: Any, **kwargs: Any) -> Any:
        old, new = _name(source, kwargs), _name(target, kwargs)
        if old is None or new is None:
            return original(source, target, **kwargs)
        with self.overlay.at_work():
            if self._is_preparation(new):
                return original(source, target, **kwargs)
            return self.overlay.rename(old, new)

    # -------------------------------------------------------------------------------------------------- other programs

    def _popen(self, original: Function) -> Function:
        @wraps(original)
        def init(process: Any, args: Any, *rest: Any, **kwargs: Any) -> None:
            self._start_process(original, process, args, *rest, **kwargs)

        return init

    def _start_shell(self, original: Function, command: Any) -> Any:
        self._note_program(command)
        return original(command)

    def _note_program(self, command: Any) -> None:
        """Programs that the standard library itself starts to learn of the system are no one's business."""
        first = command if isinstance(command, str | bytes | os.PathLike) else next(iter(command), "")
        word = os.path.basename(next(iter(os.fsdecode(first).split()), ""))
        if word and not called_by("platform", "uuid", "ctypes.util", "sysconfig"):
            self.programs.setdefault(word)

    def _start_process(self, original: Function, process: Any, args: Any, *rest: Any, **kwargs: Any) -> None:
        """A program that is given the name of a diverted file gets the diverted one."""
        self._note_program(args)
        if self.overlay.used:
            if isinstance(args, list | tuple):
                args = [self._argument(argument) for argument in args]
            folder = _name(kwargs.get("cwd"))
            if folder is not None:
                kwargs["cwd"] = self.read(folder)
        return original(process, args, *rest, **kwargs)  # type: ignore[no-any-return]

    def _argument(self, argument: Any) -> Any:
        name = _name(argument)
        if name is None:
            return argument
        with self.overlay.at_work():
            place = self.overlay.place(name)
            folder = os.path.dirname(place)
            new_there = self.overlay.is_kept(folder) and not os.path.isdir(folder)  # it may be going to write it
            return self.overlay.kept(place) if self.overlay.is_kept(place) or new_there else argument


def _name(path: Any, kwargs: dict[str, Any] | None = None) -> str | None:
    """The path as text; None for descriptors and for paths relative to one."""
    if kwargs and any(kwargs.get(key) is not None for key in ("dir_fd", "src_dir_fd", "dst_dir_fd")):
        return None
    if not isinstance(path, str | bytes | os.PathLike):
        return None
    name = os.fsdecode(path)
    return None if "\0" in name or not name else name


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
