"""DataLoaders: where they are built, what each hands out, and the two control points they offer: what comes next, and
when an epoch ends."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from auditor.probe.locate import construction_location, is_users
from auditor.probe.probe import Probe
from auditor.probe.syntax import loops_around
from auditor.probe.taps.patching import wrap

_FOR_ITER = dis.opmap["FOR_ITER"]


def install(probe: Probe) -> None:
    wrap(DataLoader, "__init__", lambda original: _built(probe, original))
    wrap(_BaseDataLoaderIter, "__init__", lambda original: _started(probe, original))
    wrap(_BaseDataLoaderIter, "_reset", lambda original: _restarted(probe, original))
    wrap(_BaseDataLoaderIter, "_next_index", lambda original: _next_index(probe, original))
    wrap(_BaseDataLoaderIter, "__next__", lambda original: _next(probe, original))


def _built(probe: Probe, original: Callable[..., None]) -> Callable[..., None]:
    def init(loader: Any, *args: Any, **kwargs: Any) -> None:
        original(loader, *args, **kwargs)
        if probe.alive():
            with probe.paused():
                probe.program.loader_built(loader, construction_location(loader))

    return init


def _started(probe: Probe, original: Callable[..., None]) -> Callable[..., None]:
    def init(iterator: Any, loader: Any) -> None:
        original(iterator, loader)
        if probe.alive():
            with probe.paused():
                probe.feed.started(iterator, loader)

    return init


def _restarted(probe: Probe, original: Callable[..., None]) -> Callable[..., None]:
    def reset(iterator: Any, loader: Any, *args: Any, **kwargs: Any) -> None:
        first = args[0] if args else kwargs.get("first_iter", False)
        if not first:
            iterator._audited_order = []
        original(iterator, loader, *args, **kwargs)
        if probe.alive() and not first:  # the first reset belongs to the construction
            with probe.paused():
                probe.feed.started(iterator, loader)

    return reset


def _next_index(probe: Probe, original: Callable[..., Any]) -> Callable[..., Any]:
    def draw(iterator: Any) -> Any:
        index = original(iterator)
        if probe.alive():
            probe.feed.drawn(iterator, index)
        return index

    return draw


def _next(probe: Probe, original: Callable[..., Any]) -> Callable[..., Any]:
    def advance(iterator: Any) -> Any:
        if not probe.alive():
            return original(iterator)
        return probe.feed.advance(iterator, lambda: original(iterator), _ends_an_epoch)

    return advance


def _ends_an_epoch() -> bool:
    """True when StopIteration now would end an inner loop of the user's, with a loop around it to go on.

    The batch must have been asked for by a `for` statement (an explicit next(iterator) need not expect an end), and
    that statement must lie inside another loop, in its own function or in one that called it.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("auditor.probe"):
        frame = frame.f_back
    if frame is None or frame.f_lasti < 0 or frame.f_code.co_code[frame.f_lasti] != _FOR_ITER:
        return False
    loops = 0
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            loops += loops_around(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_firstlineno)
        frame = frame.f_back
    return loops >= 2
