"""What the demonstration shows while it runs, and the list of what it checked at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jobtrail.api import reads
from jobtrail.api.models import JobStatus
from jobtrail.api.reads import Database
from jobtrail.cli.terminal import amount, console, line
from jobtrail.cli.watch import View, look, render
from jobtrail.demo.scenario import Expected


def views(database: Database, job_ids: Sequence[int]) -> list[View]:
    """Those of the jobs that the read models show already."""
    found = []
    for job_id in job_ids:
        try:
            found.append(look(database, job_id))
        except reads.JobNotFoundError:
            continue
    return found


@contextmanager
def display() -> Iterator[Callable[[Sequence[View]], None]]:
    """Shows several jobs in place on a terminal; elsewhere a line for each one that has changed."""
    if (terminal := console()) is None:
        yield _print_changes()
        return
    from rich.console import Group
    from rich.live import Live

    with Live(console=terminal, refresh_per_second=8) as live:
        yield lambda shown: live.update(Group(*map(render, shown)), refresh=True)


def _print_changes() -> Callable[[Sequence[View]], None]:
    last: dict[int, str] = {}

    def show(shown: Sequence[View]) -> None:
        for view in shown:
            headline = view.headline()
            if last.get(view.job.id) != headline:
                last[view.job.id] = headline
                print(headline, flush=True)

    return show


def check(database: Database, expected: Expected) -> list[tuple[bool, str]]:
    """(held, what was looked at) for each thing that the read models must say of a job."""
    with database.transaction():
        info = reads.job_info(database, expected.job_id, None)
    attempts = [entry.attempt for entry in info.attempts]
    streams = info.job.stream_aggregated_stats or []
    shown = {stream.stream_name: stream.records_emitted or 0 for stream in streams}
    found: list[tuple[bool, str]] = [
        _equal(f"{expected.title}: status", info.job.status.value, expected.status.value)
    ]
    found += [
        _equal(f"{expected.title}: records of {name}", shown.get(name, 0), expected.sent.get(name, 0))
        for name in sorted({*shown, *expected.sent})
    ]
    if expected.status == JobStatus.SUCCEEDED:
        totals = info.job.aggregated_stats
        committed = totals.records_committed if totals else None
        found.append(_equal(f"{expected.title}: committed", committed, sum(expected.sent.values())))
        return found
    summary = attempts[-1].failure_summary if attempts else None
    origins = {failure.failure_origin for failure in summary.failures} if summary else set()
    found.append(_equal(f"{expected.title}: failure origin", origins, {expected.origin}))
    if expected.partial_success is not None:
        said = summary.partial_success if summary else None
        found.append(_equal(f"{expected.title}: partial success", said, expected.partial_success))
    return found


def _equal(what: str, shown: Any, wanted: Any) -> tuple[bool, str]:
    if shown == wanted:
        return True, f"{what} is {_text(shown)}"
    return False, f"{what} is {_text(shown)}, but must be {_text(wanted)}"


def _text(value: Any) -> str:
    if isinstance(value, set):
        return ", ".join(sorted(str(part or "none") for part in value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return amount(value) if isinstance(value, int) else str(value)


def print_checks(found: Sequence[tuple[bool, str]]) -> bool:
    """The check list; whether all hold."""
    for held, what in found:
        line(f"{'ok  ' if held else 'FAIL'} {what}", style="green" if held else "red")
    return all(held for held, _ in found)
