"""An event on one line, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from jobtrail.cli.terminal import clock

#: Characters of a text within a line.
SHORT: Final = 100
#: Fields that have columns of their own, or are too long for a line.
NOT_SHOWN: Final = frozenset(
    {"event_id", "occurred_at", "job_id", "attempt_number", "sequence", "stacktrace", "metadata"}
)


def instant(at: datetime) -> str:
    """Local time, to the millisecond."""
    return f"{clock(at)}.{at.microsecond // 1000:03}"


def facts(body: Mapping[str, Any]) -> str:
    """What an event says besides: `name=value …`, without what is unset."""
    return " ".join(
        f"{name}={_shown(value)}"
        for name, value in body.items()
        if name not in NOT_SHOWN and value is not None and value != []
    )


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return instant(value).replace(" ", "T")
    text = f"{len(value)} of them" if isinstance(value, list | tuple) else str(value)
    if isinstance(value, bool):
        text = text.lower()
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"
