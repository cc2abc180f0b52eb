"""What a command says of where its settings came from, and of who runs it."""

from __future__ import annotations

import getpass
import os

from jobtrail.settings import FALLBACKS, PREFIX, Settings


def fallbacks_used(settings: Settings) -> list[str]:
    """The well-known variables that stand in for ours."""
    return [
        variable
        for field, variable in FALLBACKS.items()
        if getattr(settings, field) and not os.environ.get(PREFIX + field.upper())
    ]


def account(otherwise: str) -> str:
    """Who runs this, for the record; `otherwise` where the system has no such account."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # as in some containers
        return otherwise
