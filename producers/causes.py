"""What an exception says: its own message and those of all its causes, and the stack trace of them all."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Final

#: Most members shown of one exception group, and how deep groups in groups are followed.
_GROUP_WIDTH: Final = 100
_GROUP_DEPTH: Final = 30
#: Most errors of one chain that are named in a message.
_MESSAGES: Final = 50


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, and so on to the root; the members of a group before the group's cause.

    As in Python's own reports, a context that was suppressed (`raise … from None`) is left out.
    """
    seen: set[int] = set()
    pending = [error]
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        cause = current.__cause__
        if cause is None and not current.__suppress_context__:
            cause = current.__context__
        if cause is not None:
            pending.append(cause)
        if isinstance(current, BaseExceptionGroup):
            pending.extend(reversed(current.exceptions))


def message(error: BaseException | str) -> str:
    """The error's type and text, then those of all its causes."""
    if isinstance(error, str):
        return error
    first, *causes = map(_line, chain(error))
    more = f"; {len(causes) - _MESSAGES:,} more" if len(causes) > _MESSAGES else ""
    return f"{first} (caused by {'; '.join(causes[:_MESSAGES])}{more})" if causes else first


def _line(error: BaseException) -> str:
    name = type(error).__qualname__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # anybody's __str__ runs here, and a broken one must not hide the failure
        text = "its text cannot be read"
    return f"{name}: {text}" if text else name


def stacktrace(error: BaseException | str) -> str | None:
    """The stack trace of an error, all its causes and group members, as Python prints it; a text has none."""
    if isinstance(error, str):
        return None
    try:
        whole = traceback.TracebackException.from_exception(
            error, max_group_width=_GROUP_WIDTH, max_group_depth=_GROUP_DEPTH
        )
        return "".join(whole.format())
    except (RecursionError, MemoryError):
        return "".join(traceback.format_exception(error, limit=-10, chain=False))
