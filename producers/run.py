"""`jobtrail run`: runs a source, and a destination behind it, and reports the job that they are.

    source ─ stdout ─▶ tally ─▶ stdin ─ destination ─ stdout ─▶ tally
       └─ stderr, LOG ─▶ log of the attempt ◀─ stderr, LOG ─┘

Both are commands that speak the Airbyte protocol. One job with one attempt; it does not try again.
Needs Linux or macOS.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobtrail.events import ConfigType, ConfiguredStream
from jobtrail.producers.attempt import About, Attempt, Outcome
from jobtrail.producers.catalog import streams_of
from jobtrail.producers.connector import image_of, words
from jobtrail.producers.failure_reason import FailureReason
from jobtrail.producers.job import Job
from jobtrail.producers.logs import AttemptLog
from jobtrail.producers.protocol import Stream
from jobtrail.producers.publisher import Publisher
from jobtrail.producers.replication import Replication
from jobtrail.producers.report import Report, Totals, totals_of
from jobtrail.producers.run_progress import Progress, said
from jobtrail.producers.safe_text import safe_name
from jobtrail.producers.secret_fields import hide_command, hide_environment, hide_files
from jobtrail.producers.shared import shared_publisher
from jobtrail.producers.stopping import Stop, signals_ask
from jobtrail.producers.tally import Counts, Tally
from jobtrail.settings import Settings


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended; all of it has been published, as far as Kafka could be reached."""

    job_id: int
    attempt_number: int
    outcome: Outcome
    #: 0 succeeded; 1 failed, or cancelled from elsewhere; 128 and the signal's number when a signal ended it.
    exit_status: int
    #: Cumulative counters of each stream, by what the connectors printed.
    streams: Mapping[Stream, Counts]
    totals: Totals
    #: The cause first; empty unless it failed.
    failures: tuple[FailureReason, ...]
    #: Lines of either connector that are no message of the protocol.
    malformed: int


def run(
    *,
    source: str,
    destination: str | None = None,
    connection_id: str | None = None,
    config_type: str | None = None,
    config_id: str | None = None,
    scope_type: str | None = None,
    scope_id: str | None = None,
    workspace_id: str | None = None,
    streams: Iterable[ConfiguredStream | str] = (),
    labels: Mapping[str, str] | None = None,
    job_id: int | None = None,
    attempt_number: int | None = None,
    settings: Settings | None = None,
    publisher: Publisher | None = None,
    configs: Iterable[Path] = (),
    specs: Sequence[Path] = (),
    quiet: bool = False,
    stop: Stop | None = None,
) -> RunResult:
    """Runs the connectors until both have ended, and reports them; gives how it went.

    `source` and `destination` are commands, split as the shell does; each gets JOBTRAIL_JOB_ID and
    JOBTRAIL_ATTEMPT_NUMBER. With both `job_id` and `attempt_number` the job exists and is others' to decide
    about, and `config_type` is its own, if known; else a job is created, by default a sync. `streams` are
    those of the catalog which the source's command names, unless given. It is cancelled by an event, by
    `stop`, and in the main thread by Ctrl-C, SIGTERM and SIGHUP: SIGTERM to the connectors and all that they
    started, SIGKILL settings.grace_seconds later, or when asked a second time. Progress goes to stderr unless
    `quiet`; what connectors say to settings.home/logs/jobs/<job id>/<attempt number>.log.

    What is secret in the connectors' configurations, those of the commands' --config and `configs`, is told
    nowhere (`jobtrail.producers.secret_fields`): what names say, and what `specs`, files with the connectors'
    specifications, mark. So it is with variables of the environment.

    A connector that fails, or cannot be started, does not raise. Raises UsageError for arguments that do not
    fit and files that cannot be read, EmbeddedError or SettingError as `Publisher` does; then nothing was
    started.
    """
    commands = words(source), words(destination) if destination is not None else None
    hide_environment(os.environ)
    hide_files(configs, specs)
    for command in commands:
        hide_command(command or (), specs)
    publisher = publisher or shared_publisher(settings)
    stop = stop or Stop()
    about: About = {"source_image": safe_name(image_of(commands[0]))}
    if commands[1] is not None:
        about["destination_image"] = safe_name(image_of(commands[1]))

    @contextmanager
    def attempted() -> Iterator[Attempt]:
        if job_id is not None and attempt_number is not None:
            with Attempt.start(
                job_id=job_id,
                attempt_number=attempt_number,
                config_type=config_type,
                publisher=publisher,
                **about,
            ) as attempt:
                yield attempt
            return
        with Job.start(
            connection_id=connection_id,
            config_type=config_type or ConfigType.SYNC,
            config_id=config_id,
            scope_type=scope_type,
            scope_id=scope_id,
            workspace_id=workspace_id,
            streams=list(streams) or streams_of(commands[0]),
            labels=labels,
            job_id=job_id,
            publisher=publisher,
        ) as job:
            yield job.attempt(attempt_number, **about)

    progress = Progress(quiet=quiet)
    with signals_ask(stop), attempted() as attempt:
        progress.line(f"job {attempt.job_id}, attempt {attempt.attempt_number}")
        log = AttemptLog(
            publisher.settings.home, attempt.job_id, attempt.attempt_number, publisher.settings.log_limit
        )
        tally = Tally(with_destination=destination is not None)
        report = Report(attempt, tally, log)
        try:
            replication = Replication(report, stop, publisher.settings.grace_seconds, progress)
            outcome = replication.run(*commands)
        finally:
            log.close()
    counts = tally.snapshot()
    totals = totals_of(counts.values())
    reasons = tuple(report.reasons()) if outcome == "failed" else ()
    progress.line(f"{outcome}: {said(totals)}")
    for reason in reasons[:1]:
        first_line = (reason.internal_message or reason.external_message or "no message").split("\n")[0]
        progress.line(f"{reason.origin or 'nobody'} is at fault: {first_line}")
    status = {"succeeded": 0, "failed": 1, "cancelled": stop.exit_status if stop.count else 1}[outcome]
    return RunResult(
        attempt.job_id, attempt.attempt_number, outcome, status, counts, totals, reasons, tally.malformed
    )
