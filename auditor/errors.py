"""The error that reaches the user as one sentence."""

from __future__ import annotations


class AuditError(Exception):
    """Something the user can put right; the text is one sentence without a traceback. The command exits with 2."""


class ConfigError(AuditError):
    """A setting that cannot be used; the text begins with file:line where there is one."""
