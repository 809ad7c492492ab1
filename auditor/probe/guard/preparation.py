"""Downloads and prepared data sets are let through: the script's next run needs them, and so does the next audit."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import FrameType

# Packages (and the modules below them) whose writing is fetching or preparing data.
FETCHERS = (
    "datasets.builder",
    "datasets.download",
    "datasets.load",
    "datasets.utils.file_utils",
    "fastai.data.external",
    "fastdownload",
    "gdown",
    "huggingface_hub._snapshot_download",
    "huggingface_hub.file_download",
    "kagglehub",
    "keras.src.utils.file_utils",
    "medmnist",
    "nltk.downloader",
    "ogb",
    "sklearn.datasets",
    "tensorflow_datasets",
    "tiktoken",
    "torch.hub",
    "torch_geometric.data",
    "torch_geometric.datasets",
    "torch_geometric.io",
    "torchaudio.datasets",
    "torchtext",
    "torchvision.datasets",
    "urllib.request",
)
TEMPORARY = ("/tmp", "/var/tmp", "/usr/tmp")
_PREFIXES = tuple(fetcher + "." for fetcher in FETCHERS)
DEEPEST = 40  # frames looked at
NEAR = 9  # of them our own come first

CACHES = (
    "~/.cache",
    "~/.config",
    "~/.keras",
    "~/.local/share",
    "~/.matplotlib",
    "~/.nv",
    "~/.torch",
    "~/.triton",
    "~/nltk_data",
    "~/scikit_learn_data",
    "~/Library/Caches",
)
CACHE_VARIABLES = (
    "CUDA_CACHE_PATH",
    "HF_DATASETS_CACHE",
    "HF_HOME",
    "HF_HUB_CACHE",
    "KERAS_HOME",
    "MPLCONFIGDIR",
    "NLTK_DATA",
    "NUMBA_CACHE_DIR",
    "SCIKIT_LEARN_DATA",
    "TIKTOKEN_CACHE_DIR",
    "TORCHINDUCTOR_CACHE_DIR",
    "TORCH_EXTENSIONS_DIR",
    "TORCH_HOME",
    "TRITON_CACHE_DIR",
    "XDG_CACHE_HOME",
)


def caches() -> tuple[str, ...]:
    """Folders of libraries, not of the user's work."""
    named = [os.environ[name] for name in CACHE_VARIABLES if os.environ.get(name, "").startswith("/")]
    return (*(os.path.expanduser(folder) for folder in CACHES), *named)


def _modules() -> Iterator[str]:
    frame: FrameType | None = sys._getframe(2)
    for _ in range(DEEPEST):
        if frame is None:
            return
        yield frame.f_globals.get("__name__", "")
        frame = frame.f_back


def called_by(*names: str) -> bool:
    """True when one of these modules is near on the stack."""
    return any(name in names for name in list(_modules())[:NEAR])


def is_making_temporary(name: str) -> bool:
    """True when the standard library makes a file or folder where temporary ones belong: sockets and other programs
    may need it. One beside a checkpoint, to be renamed to it, is not meant."""
    return os.path.dirname(name) in TEMPORARY and "tempfile" in list(_modules())[:NEAR]


def is_preparing_data() -> bool:
    """True when a library that fetches or prepares data sets is at work further up the stack."""
    return any((name + ".").startswith(_PREFIXES) for name in _modules())
