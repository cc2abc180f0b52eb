"""The settings of a command."""

from __future__ import annotations

import os

from jobtrail.settings import FALLBACKS, PREFIX, Settings

#: Read by the HTTP server itself (`jobtrail.api.access`).
_NOT_SETTINGS = frozenset({"JOBTRAIL_API_TOKENS"})


def read_settings() -> Settings:
    """JOBTRAIL_* of this process. Raises SettingError."""
    return Settings.from_env({name: value for name, value in os.environ.items() if name not in _NOT_SETTINGS})


def fallbacks_used(settings: Settings) -> list[str]:
    """The well-known variables that stand in for ours."""
    return [
        variable
        for field, variable in FALLBACKS.items()
        if getattr(settings, field) and not os.environ.get(PREFIX + field.upper())
    ]
