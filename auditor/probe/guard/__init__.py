"""Keeps an audit from touching the user's files and accounts: writes go to scratch, trackers stay offline."""

from __future__ import annotations

from auditor.probe.guard.diversion import Diversion
from auditor.probe.guard.offline import go_offline

__all__ = ["Diversion", "go_offline"]
