"""`jobtrail jobs history`: what happened to a job, event by event, and what it was at a moment."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from typing import Any, Final

from jobtrail.api import past
from jobtrail.api.database import reading
from jobtrail.api.history import answer
from jobtrail.cli.event_line import facts, instant
from jobtrail.cli.jobs import dump
from jobtrail.cli.show import look, tell
from jobtrail.cli.terminal import amount, as_json, clock, line, table
from jobtrail.errors import UsageError
from jobtrail.near import near
from jobtrail.settings import Settings

COLUMNS: Final = ("time", "attempt", "event", "what")


def history(settings: Settings, options: Namespace) -> int:
    """Prints the events, or the job at a moment. Raises UsageError, JobNotFoundError, ServerAwayError."""
    for name in options.type or ():
        if name not in past.TYPES:
            raise UsageError(f"--type: {name!r} is none of {', '.join(past.TYPES)}{near(name, past.TYPES)}")
    wanted = frozenset(options.type or past.BY_DEFAULT)
    types = past.TYPES if options.at else wanted
    found = past.past_of(settings, partial(reading, settings), options.id, types)
    seen = None
    if options.at:
        found = found.until(options.at)
        with past.as_it_was(settings, found) as database:
            seen = look(database, options.id, None, now=options.at)
    events = found.table(wanted)
    if options.json:
        start = max(0, events.height - options.limit)
        as_of = seen.info if seen else None
        as_json(
            dump(answer(found, at=options.at, as_of=as_of, wanted=wanted, limit=options.limit, offset=start))
        )
        return 0
    if seen:
        line(f"as of {clock(options.at)}", style="dim")
        tell(seen)
    else:
        rows = past.entries(events.tail(options.limit))
        table(COLUMNS, [_cells(row) for row in rows], ("attempt",))
        if events.height > len(rows):
            line(f"the last {len(rows):,} of {events.height:,} events; --limit shows more", style="dim")
    if found.gap:
        line(f"not complete: {found.gap}", style="yellow")
    for note in found.notes:
        line(note, style="yellow")
    return 0


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        instant(row["occurred_at"]),
        amount(row["attempt_number"], unknown=""),
        row["event_type"],
        facts(row["body"]),
    ]
