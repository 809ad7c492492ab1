"""Whatever a script does with files, it sees the same as without diversion, and the real files stay as they were."""

# ruff: noqa: ARG001, ARG005 - operations take one path, or two, or a text

from __future__ import annotations

import glob
import os
import pickle
import random
import shutil
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditor.probe.guard.diversion import Diversion

NAMES = (
    *("a", "b", "run", "run/a", "run/b", "run/deep", "run/deep/a", "link", "link/a"),
    *("data", "data/x", "new", "new/a", "@", "@/a", "@/deep"),
)


def _contents(root: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            if os.path.islink(path):
                found[path[len(root) :]] = ("link", os.readlink(path))
            elif os.path.isdir(path):
                found[path[len(root) :]] = "folder"
            else:
                with open(path) as file:
                    found[path[len(root) :]] = file.read()
    return found


def _write(mode: str) -> Callable[[str, str, str], Any]:
    def write(path: str, other: str, text: str) -> Any:
        with open(path, mode) as file:
            file.write(text)
            return file.tell()

    return write


def _read(path: str, other: str, text: str) -> Any:
    with open(path) as file:
        return file.read()


def _descriptor(path: str, other: str, text: str) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def _entries(path: str, other: str, text: str) -> Any:
    with os.scandir(path) as entries:
        return sorted((entry.name, entry.is_dir(), entry.is_file(), entry.is_symlink()) for entry in entries)


def _chdir(path: str, other: str, text: str) -> str:
    os.chdir(path)
    return os.getcwd()


def _copytree(path: str, other: str, text: str) -> Any:
    if os.path.realpath(other).startswith(os.path.realpath(path) + os.sep):
        return "would never end"
    return shutil.copytree(path, other, dirs_exist_ok=True)


OPERATIONS: dict[str, Callable[[str, str, str], Any]] = {
    "write": _write("w"),
    "append": _write("a"),
    "change": _write("r+"),
    "exclusively": _write("x"),
    "read": _read,
    "descriptor": _descriptor,
    "touch": lambda path, other, text: Path(path).touch(),
    "mkdir": lambda path, other, text: os.mkdir(path),
    "makedirs": lambda path, other, text: os.makedirs(path, exist_ok=True),
    "remove": lambda path, other, text: os.remove(path),
    "unlink": lambda path, other, text: Path(path).unlink(missing_ok=True),
    "rmdir": lambda path, other, text: os.rmdir(path),
    "rmtree": lambda path, other, text: shutil.rmtree(path),
    "rename": lambda path, other, text: os.rename(path, other),
    "replace": lambda path, other, text: os.replace(path, other),
    "move": lambda path, other, text: shutil.move(path, other),
    "copy": lambda path, other, text: shutil.copy(path, other),
    "copytree": _copytree,
    "symlink": lambda path, other, text: os.symlink(os.path.basename(other), path),
    "symlink far": lambda path, other, text: os.symlink(os.path.abspath(other), path),
    "link": lambda path, other, text: os.link(other, path),
    "truncate": lambda path, other, text: os.truncate(path, 1),
    "listdir": lambda path, other, text: sorted(os.listdir(path)),
    "scandir": _entries,
    "glob": lambda path, other, text: sorted(glob.glob(path + "/**", recursive=True)),
    "facts": lambda path, other, text: [
        f(path) for f in (os.path.exists, os.path.isdir, os.path.isfile, os.path.islink)
    ],
    "size": lambda path, other, text: os.path.isfile(path) and os.path.getsize(path),
    "chdir": _chdir,
    "whole": lambda path, other, text: os.path.realpath(path),
}


def _program(seed: int, length: int = 25) -> list[tuple[str, str, str, bool]]:
    draw = random.Random(seed)
    return [
        (draw.choice(list(OPERATIONS)), draw.choice(NAMES), draw.choice(NAMES), draw.random() < 0.3)
        for _ in range(length)
    ]


def _prepare(root: Path) -> None:
    (root / "run" / "deep").mkdir(parents=True)
    (root / "data").mkdir()
    for name in ("a", "run/a", "run/deep/a", "data/x", "data/y"):
        (root / name).write_text(f"old {name}")
    (root / "link").symlink_to("run")


def _do(root: str, tmp: str, program: list[tuple[str, str, str, bool]]) -> list[Any]:
    """What each operation returned or raised, the folders' own names taken out of it. `tmp`: the folder for @, in which
    nothing is diverted."""

    def plain(value: Any) -> Any:
        return pickle.loads(pickle.dumps(eval(repr(value).replace(tmp, "TMP").replace(root, "ROOT"))))

    def path_of(name: str, relative: bool) -> str:
        return name.replace("@", tmp) if relative or "@" in name else os.path.join(root, name)

    os.chdir(root)
    results: list[Any] = []
    for step, (operation, name, other, relative) in enumerate(program):
        path, second = path_of(name, relative), path_of(other, relative)
        try:
            results.append(plain(OPERATIONS[operation](path, second, f"new {step}")))
        except shutil.Error:
            results.append("shutil.Error")
        except OSError as error:
            results.append((type(error).__name__, error.errno))
    os.chdir(root)
    results += [plain(_contents(root)), plain(_contents(tmp))]
    return results


def _in_a_fork(work: Callable[[], Any]) -> Any:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer: Any = work()
        except BaseException:
            answer = traceback.format_exc()
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pickle.load(pipe)
    os.waitpid(child, 0)
    return answer


def _compare(seed: int, folder: Path, length: int = 25) -> None:
    program = _program(seed, length)
    plain, diverted, scratch = folder / "plain", folder / "diverted", folder / "scratch"
    for root in (plain, diverted):
        _prepare(root)
    for part in ("files", "tmp", "other/tmp"):
        (scratch / part).mkdir(parents=True)
    before = _contents(str(diverted))

    def under_diversion() -> list[Any]:
        Diversion(str(scratch / "files")).install()
        return _do(str(diverted), str(scratch / "tmp"), program)

    expected = _in_a_fork(lambda: _do(str(plain), str(scratch / "other" / "tmp"), program))
    seen = _in_a_fork(under_diversion)
    assert isinstance(seen, list), seen
    for number, (one, other) in enumerate(zip(expected, seen, strict=True)):
        done = program[: number + 1][-6:]
        assert other == one, f"seed {seed}, operation {number}: {other} instead of {one} in {done}"
    assert _contents(str(diverted)) == before


@pytest.mark.parametrize("seed", range(60))
def test_random_file_operations(seed, tmp_path):
    _compare(seed, tmp_path)


if __name__ == "__main__":  # a longer search: python tests/probe/test_overlay.py FIRST LAST
    import sys

    for seed in range(int(sys.argv[1]), int(sys.argv[2])):
        with tempfile.TemporaryDirectory() as folder:
            try:
                _compare(seed, Path(folder).resolve())
            except AssertionError as error:
                print(str(error)[:700], "\n")
