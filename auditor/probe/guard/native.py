"""Libraries that write files by native code, past Python's `open`: they are given the diverted name."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from auditor.probe.guard.imports import Change, after_import
from auditor.probe.guard.uploads import HUB, keep_from_hub

if TYPE_CHECKING:
    from auditor.probe.guard.diversion import Diversion
    from auditor.probe.guard.overlay import Overlay

# (module, attribute, position and name of the path) of functions that write, read, or open a file for both.
WRITERS = (
    ("torch", "save", 1, "f"),
    ("torch.serialization", "save", 1, "f"),
    ("torch.jit", "save", 1, "f"),
    ("torch.jit._script", "RecursiveScriptModule.save", 1, "f"),
    ("torch.jit._script", "ScriptModule.save", 1, "f"),
    ("torch.export", "save", 1, "f"),
    ("torch.package", "PackageExporter.__init__", 1, "f"),
    ("torch.autograd.profiler", "profile.export_chrome_trace", 1, "path"),
    ("safetensors", "serialize_file", 1, "filename"),
    ("safetensors.torch", "serialize_file", 1, "filename"),
    ("safetensors.numpy", "serialize_file", 1, "filename"),
    ("tokenizers", "Tokenizer.save", 1, "path"),
    ("torchvision.io", "write_png", 1, "filename"),
    ("torchvision.io", "write_jpeg", 1, "filename"),
    ("torchvision.io", "write_file", 0, "filename"),
    ("torchaudio", "save", 0, "uri"),
    ("faiss", "write_index", 1, "fname"),
    ("xgboost", "Booster.save_model", 1, "fname"),
    ("cv2", "imwrite", 0, "filename"),
    ("soundfile", "write", 0, "file"),
    ("pyarrow.parquet", "write_table", 1, "where"),
    ("pyarrow.feather", "write_feather", 1, "dest"),
)
READERS = (
    ("torch", "load", 0, "f"),
    ("torch.serialization", "load", 0, "f"),
    ("torch.jit", "load", 0, "f"),
    ("safetensors", "safe_open", 0, "filename"),
    ("safetensors.torch", "safe_open", 0, "filename"),
    ("safetensors.numpy", "safe_open", 0, "filename"),
    ("tokenizers", "Tokenizer.from_file", 0, "path"),
    ("torchvision.io", "read_image", 0, "path"),
    ("torchvision.io", "read_file", 0, "path"),
    ("torchaudio", "load", 0, "uri"),
    ("faiss", "read_index", 0, "fname"),
    ("xgboost", "Booster.load_model", 1, "fname"),
    ("cv2", "imread", 0, "filename"),
    ("soundfile", "read", 0, "file"),
)
BOTH = (
    ("h5py", "File.__init__", 1, "name"),
    ("sqlite3", "connect", 0, "database"),
    ("sqlite3.dbapi2", "connect", 0, "database"),
)


def divert_native_code(diversion: Diversion) -> None:
    """Now for what is imported already, later for what is not."""
    changes: dict[str, list[Change]] = {}

    def written(name: str) -> str:
        return diversion.write(name, keep=False)

    def changed(name: str) -> str:
        return diversion.write(name, keep=True)

    for table, change in ((WRITERS, written), (READERS, diversion.read), (BOTH, changed)):
        for module, attribute, position, keyword in table:
            redirect = functools.partial(_redirect, attribute, position, keyword, change, diversion.overlay)
            changes.setdefault(module, []).append(redirect)
    opener = diversion.opener
    changes.setdefault("numpy.lib._datasource", []).append(lambda module: _reopen(module, opener))
    changes.setdefault(HUB, []).append(keep_from_hub(diversion.left_out.append))
    after_import(changes)


def _redirect(
    attribute: str,
    position: int,
    keyword: str,
    change: Callable[[str], str],
    overlay: Overlay,
    module: ModuleType,
) -> None:
    """Replace module.attribute by a function that is given the changed path."""
    owner: Any = module
    *outer, last = attribute.split(".")
    for part in outer:
        owner = getattr(owner, part, None)
    original = getattr(owner, last, None)
    if original is None or hasattr(original, "_diverted"):
        return

    @functools.wraps(original)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        if overlay.working:
            return original(*args, **kwargs)
        path = args[position] if len(args) > position else kwargs.get(keyword)
        if path is None or not _is_path(path):
            return original(*args, **kwargs)
        file = change(os.fspath(path))
        if len(args) > position:
            args = (*args[:position], file, *args[position + 1 :])
        else:
            kwargs[keyword] = file
        with overlay.at_work():  # where it opens the file by Python's means, that is not to be diverted again
            return original(*args, **kwargs)

    replacement._diverted = True  # type: ignore[attr-defined]
    setattr(owner, last, replacement)


def _reopen(datasource: ModuleType, opener: Callable[..., Any]) -> None:
    """numpy's text functions keep a table of what opens a file by its suffix."""
    with contextlib.suppress(AttributeError, TypeError):
        openers = datasource._file_openers
        openers._load()
        openers._file_openers[None] = opener


def _is_path(path: Any) -> bool:
    """Not so for open files, and for ":memory:" and URIs of sqlite."""
    if not isinstance(path, str | os.PathLike):
        return False
    name = os.fspath(path)
    return isinstance(name, str) and bool(name) and not name.startswith((":", "file:"))
