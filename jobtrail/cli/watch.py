"""`jobtrail jobs watch`: one job, live, until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from jobtrail.api import reads
from jobtrail.api.database import reading
from jobtrail.api.models import ENDED, AttemptStreamStats, JobRead, JobStatus
from jobtrail.api.reads import Database
from jobtrail.api.verdict import duration, main_failure
from jobtrail.cli.jobs import short
from jobtrail.cli.terminal import amount, console, rich_table, size, span, style_of, visible
from jobtrail.settings import Settings

#: Seconds between two looks.
LOOK: Final = 0.5
#: Seconds that a job which began just now may need to be seen.
APPEARS_WITHIN: Final = 2.0
COLUMNS: Final = ("stream", "emitted", "committed", "of about", "bytes")


@dataclass(frozen=True, slots=True)
class View:
    """A job at one moment."""

    job: JobRead
    seconds: float | None
    attempt: int | None
    streams: list[AttemptStreamStats]
    failure: str

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come."""
        return self.job.status in ENDED

    def headline(self) -> str:
        """The job on one line."""
        totals = self.job.aggregated_stats
        parts = [f"job {self.job.id} {self.job.status.value}"]
        if self.attempt is not None:
            parts.append(f"attempt {self.attempt}")
        if totals:
            parts.append(f"{amount(totals.records_emitted)} records ({size(totals.bytes_emitted)}) emitted")
            parts.append(f"{amount(totals.records_committed)} committed")
        if self.failure:
            parts.append(self.failure)
        if self.job.anomalies:
            parts.append(f"but: {', '.join(self.job.anomalies)}")
        return visible(", ".join(parts))


def look(database: Database, job_id: int) -> View:
    """Reads the job in a transaction of its own. Raises JobNotFoundError."""
    with database.transaction():
        row = reads.job_row(database, job_id)
        job = reads.full_jobs(database, [row])[0]
        attempts = reads.attempts_of(database, [job_id])[job_id]
    last = attempts[-1] if attempts else None
    failure = main_failure(attempts) if job.failure_reason else None
    return View(
        job,
        duration(row),
        last.attempt_number if last else None,
        last.stream_stats if last else [],
        short(failure) if failure else "",
    )


def watch(settings: Settings, job_id: int) -> int:
    """Shows the job until it ends; 0 if it succeeded, else 1. Raises JobNotFoundError."""
    since = time.monotonic()
    with reading(settings) as database, display() as show:
        while True:
            try:
                view = look(database, job_id)
            except reads.JobNotFoundError:
                if time.monotonic() - since > APPEARS_WITHIN:
                    raise
                time.sleep(LOOK / 5)
                continue
            show(view)
            if view.ended:
                return 0 if view.job.status == JobStatus.SUCCEEDED else 1
            time.sleep(LOOK)


@contextmanager
def display() -> Iterator[Callable[[View], None]]:
    """Shows views in place on a terminal; elsewhere a line for each that differs from the one before."""
    if (terminal := console()) is None:
        yield _print_changes()
        return
    from rich.live import Live

    with Live(console=terminal, refresh_per_second=8) as live:
        yield lambda view: live.update(render(view), refresh=True)


def _print_changes() -> Callable[[View], None]:
    last = ""

    def show(view: View) -> None:
        nonlocal last
        if (headline := view.headline()) != last:
            last = headline
            print(headline, flush=True)

    return show


def render(view: View) -> Any:
    """For rich: the headline over a table of streams."""
    from rich.console import Group
    from rich.text import Text

    rows = [
        [
            f"{stream.stream_namespace}.{stream.stream_name}"
            if stream.stream_namespace
            else stream.stream_name,
            amount(stream.stats.records_emitted),
            amount(stream.stats.records_committed),
            amount(stream.stats.estimated_records),
            size(stream.stats.bytes_emitted),
        ]
        for stream in view.streams
    ]
    headline = Text(f"{view.headline()}, {span(view.seconds)}", style=f"bold {style_of(view.job.status)}")
    return Group(headline, rich_table(COLUMNS, rows, COLUMNS[1:])) if rows else headline
