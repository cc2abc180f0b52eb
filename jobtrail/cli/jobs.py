"""`jobtrail jobs`: list, show, watch, history, cancel and advice."""

from __future__ import annotations

from argparse import Namespace

from jobtrail.api import reads
from jobtrail.api.database import reading
from jobtrail.api.models import AttemptRead, FailureReason, JobRead, JobStatus
from jobtrail.api.verdict import duration, main_failure
from jobtrail.cli.parsing import Parser, job_id, moment, positive, seconds, subcommands
from jobtrail.cli.terminal import amount, as_json, clock, console, line, size, span, table
from jobtrail.events import ConfigType
from jobtrail.settings import Settings

#: Characters of a failure's message in the list.
SHORT = 60
COLUMNS = (
    "id",
    "status",
    "type",
    "connection",
    "created",
    "started",
    "took",
    "emitted",
    "committed",
    "bytes",
    "failure, anomalies",
)
#: Columns that need a terminal of so many characters.
NEEDS = {"started": 120, "bytes": 130, "type": 140}
NUMBERS = ("id", "took", "emitted", "committed", "bytes")


def configure(parser: Parser, _name: str) -> None:
    """Declares the subcommands."""
    commands = subcommands(parser)
    parser.example("jobtrail jobs list --status failed", "jobtrail jobs show 42")

    found = commands.add_parser("list", help="newest first", description="Lists jobs, the newest first.")
    found.add_argument("--connection", metavar="ID", help="only those of this connection")
    found.add_argument(
        "--status",
        action="append",
        choices=[*JobStatus],
        metavar="STATUS",
        help=f"only this status: {', '.join(JobStatus)}",
    )
    found.add_argument(
        "--type",
        action="append",
        choices=[*ConfigType],
        metavar="TYPE",
        help=f"only this config type: {', '.join(ConfigType)}",
    )
    found.add_argument("--limit", type=positive, default=20, metavar="N", help="at most N jobs (default 20)")
    found.add_argument("--json", action="store_true", help="as jobs/list of the HTTP interface answers")
    found.example("jobtrail jobs list --connection 7c1f… --status failed --status cancelled")
    found.set_defaults(run=_list, parser=found)

    shown = commands.add_parser(
        "show",
        help="one job",
        description="Shows a job: how it ended, whose fault that is, what was committed.",
    )
    shown.add_argument("id", type=job_id, metavar="ID")
    shown.add_argument("--stacktrace", action="store_true", help="with the stack traces of failures")
    shown.add_argument("--logs", action="store_true", help="with the end of the connectors' logs")
    shown.add_argument("--lines", type=positive, default=50, metavar="N", help="lines of logs (default 50)")
    shown.add_argument(
        "--json",
        action="store_true",
        help="as jobs/get of the HTTP interface answers, and `anomalies`, as GET /v1/anomalies does",
    )
    shown.example("jobtrail jobs show 42 --stacktrace --logs")
    shown.set_defaults(run=_show, parser=shown)

    watched = commands.add_parser(
        "watch",
        help="one job, live",
        description="Shows a job until it ends; exit status 0 if it succeeded, else 1.",
    )
    watched.add_argument("id", type=job_id, metavar="ID")
    watched.example("jobtrail jobs watch 42 && echo done")
    watched.set_defaults(run=_watch, parser=watched)

    told = commands.add_parser(
        "history",
        help="one job's events, or the job at a moment",
        description="Lists the events of a job in the order in which they happened; with --at shows the job "
        "as it was then, by the same rules as now.",
    )
    told.add_argument("id", type=job_id, metavar="ID")
    told.add_argument(
        "--at",
        type=moment,
        metavar="TIME",
        help="the job as it was then, and with --json the events until then (ISO 8601 with Z or an offset)",
    )
    told.add_argument(
        "--type",
        action="append",
        metavar="TYPE",
        help="only these events, such as Failure (default: all but AttemptHeartbeat)",
    )
    told.add_argument(
        "--limit", type=positive, default=1000, metavar="N", help="the last N events (default 1000)"
    )
    told.add_argument(
        "--json", action="store_true", help="as jobs/{jobId}/history of the HTTP interface answers"
    )
    told.example(
        "jobtrail jobs history 42 --type Failure --type AttemptFailed",
        "jobtrail jobs history 42 --at 2026-03-01T12:00:09Z",
    )
    told.set_defaults(run=_history, parser=told)

    cancelled = commands.add_parser(
        "cancel",
        help="end one job",
        description="Asks whoever runs the job to cancel it and waits for the confirmation; "
        "a job that nobody runs is cancelled at once.",
    )
    cancelled.add_argument("id", type=job_id, metavar="ID")
    cancelled.add_argument("--by", metavar="WHO", help="who cancels (default: the name of your account)")
    cancelled.add_argument(
        "--wait", type=seconds, default=30.0, metavar="SECONDS", help="how long to wait (default 30)"
    )
    cancelled.add_argument("--json", action="store_true", help="print the job as jobs/get_light answers")
    cancelled.example('jobtrail jobs cancel 42 --by "on call" --wait 60')
    cancelled.set_defaults(run=_cancel, parser=cancelled)

    advised = commands.add_parser(
        "advice",
        help="whether to try one again",
        description="Says whether to try a job again: now, at an instant, or not, and why. Exit status 0 "
        "where there is nothing to do or a retry is allowed, 1 where it is to be given up.",
    )
    advised.add_argument("id", type=job_id, metavar="ID")
    advised.add_argument("--json", action="store_true", help="as jobs/{jobId}/advice of the HTTP interface")
    advised.example("jobtrail jobs advice 42 --json")
    advised.set_defaults(run=_advice, parser=advised)


def _list(options: Namespace) -> int:
    found = reads.filters(
        connection_id=options.connection, statuses=options.status, config_types=options.type
    )
    settings = Settings.from_env()
    with reading(settings) as database:
        rows = reads.jobs_page(database, found, ("createdAt", "DESC"), options.limit, 0)
        count = reads.jobs_count(database, found)
        jobs = reads.full_jobs(database, rows)
        attempts = reads.attempts_of(database, [job.id for job in jobs])
    if options.json:
        entries = [{"job": dump(job), "attempts": [dump(one) for one in attempts[job.id]]} for job in jobs]
        as_json({"jobs": entries, "totalJobCount": count})
        return 0
    if not jobs:
        line(nothing_found(settings, options))
        return 0
    cells = [_cells(job, row, attempts[job.id]) for job, row in zip(jobs, rows, strict=True)]
    terminal = console()
    shown = [i for i, name in enumerate(COLUMNS) if not terminal or terminal.width >= NEEDS.get(name, 0)]
    table([COLUMNS[i] for i in shown], [[row[i] for i in shown] for row in cells], NUMBERS)
    if count > len(jobs):
        line(f"{len(jobs)} of {count:,} jobs; --limit shows more", style="dim")
    return 0


def nothing_found(settings: Settings, options: Namespace) -> str:
    """What an empty list says."""
    if options.connection or options.status or options.type:
        return "no job matches"
    return (
        f"no jobs yet under {settings.home}; `jobtrail demo` makes some"
        if not settings.database_url
        else "no jobs yet"
    )


def _cells(job: JobRead, row: reads.Row, attempts: list[AttemptRead]) -> list[str]:
    totals = job.aggregated_stats
    failure = main_failure(attempts) if job.failure_reason else None
    return [
        str(job.id),
        job.status.value,
        job.config_type,
        row["connection_id"] or job.config_id or "-",
        clock(job.created_at),
        clock(job.started_at),
        span(duration(row)),
        amount(totals.records_emitted if totals else None),
        amount(totals.records_committed if totals else None),
        size(totals.bytes_emitted if totals else None),
        "; ".join(filter(None, [short(failure) if failure else "", ", ".join(job.anomalies or [])])),
    ]


def short(failure: FailureReason) -> str:
    """A failure on one line of a table."""
    said = failure.external_message or failure.internal_message or failure.failure_type or "no message"
    said = said if len(said) <= SHORT else said[: SHORT - 1] + "…"
    return f"{failure.failure_origin}: {said}" if failure.failure_origin else said


def dump(model: object) -> dict[str, object]:
    """As the HTTP interface answers."""
    from pydantic import BaseModel

    assert isinstance(model, BaseModel)  # noqa: S101  # all answers are
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def _show(options: Namespace) -> int:
    from jobtrail.cli.show import show

    return show(Settings.from_env(), options)


def _watch(options: Namespace) -> int:
    from jobtrail.cli.watch import watch

    return watch(Settings.from_env(), options.id)


def _history(options: Namespace) -> int:
    from jobtrail.cli.history import history

    return history(Settings.from_env(), options)


def _cancel(options: Namespace) -> int:
    from jobtrail.cli.cancel import cancel

    return cancel(Settings.from_env(), options)


def _advice(options: Namespace) -> int:
    from jobtrail.api.outcomes import advice_on, advice_read
    from jobtrail.retry import Decision, RetryLimits

    limits = RetryLimits.from_env()
    with reading(Settings.from_env()) as database:
        advice = advice_on(database, options.id, limits)
    if options.json:
        as_json(dump(advice_read(options.id, advice)))
    else:
        said = {
            Decision.NOTHING: "nothing to do",
            Decision.RETRY_NOW: "retry now",
            Decision.RETRY_AT: f"retry at {clock(advice.retry_at)}",
            Decision.GIVE_UP: "give up",
        }[advice.decision]
        line(f"job {options.id}: {said}: {advice.reason}")
    return 1 if advice.decision == Decision.GIVE_UP else 0
