"""What a command says of where its settings came from."""

from __future__ import annotations

import os

from jobtrail.settings import FALLBACKS, PREFIX, Settings


def fallbacks_used(settings: Settings) -> list[str]:
    """The well-known variables that stand in for ours."""
    return [
        variable
        for field, variable in FALLBACKS.items()
        if getattr(settings, field) and not os.environ.get(PREFIX + field.upper())
    ]
