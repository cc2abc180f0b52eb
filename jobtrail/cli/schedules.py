"""`jobtrail schedules`: what runs at set times, how it went, and running it now."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime

import psycopg

from jobtrail.api.database import CONNECT_TIMEOUT, scratch, translated
from jobtrail.cli.parsing import Parser, subcommands
from jobtrail.cli.terminal import as_json, clock, line, table
from jobtrail.consumers.schedules import SCHEDULES, State, run_now, state
from jobtrail.consumers.waiting import database_address
from jobtrail.settings import Settings


def configure(parser: Parser, _name: str) -> None:
    """Declares the subcommands."""
    commands = subcommands(parser, required=False)
    parser.set_defaults(run=_list, json=False)
    parser.example("jobtrail schedules list", "jobtrail schedules run heartbeat-cleanup --dry-run")
    listed = commands.add_parser(
        "list",
        help="each with its last run and the next one",
        description="Lists the schedules: last run, what came of it, next run. `jobtrail up` and `jobtrail "
        "projector` run them. Their times are cron expressions in UTC.",
    )
    listed.add_argument("--json", action="store_true", help="a JSON list; instants in UTC")
    listed.example("jobtrail schedules list --json")
    listed.set_defaults(run=_list, parser=listed)
    run = commands.add_parser(
        "run",
        help="one of them, now",
        description="Runs a schedule now, due or not, and records that. Status 1 where it runs already.",
    )
    run.add_argument("name", metavar="NAME", choices=[one.name for one in SCHEDULES], help="which one")
    run.add_argument("--dry-run", action="store_true", help="say what it would do, and change nothing")
    run.add_argument("--json", action="store_true", help="what it did as JSON")
    run.example("jobtrail schedules run heartbeat-cleanup --dry-run --json")
    run.set_defaults(run=_run, parser=run)


def _list(options: Namespace) -> int:
    settings = Settings.from_env()
    with scratch(settings) as database:
        states = [state(database, settings, schedule) for schedule in SCHEDULES]
    if options.json:
        as_json([_as_json(found) for found in states])
        return 0
    now = datetime.now(UTC)
    table(
        ("schedule", "times", "last run", "status", "next run", "detail"),
        [
            [
                found.schedule.name,
                found.cron,
                clock(found.started_at),
                found.result,
                "now" if found.next_at <= now else clock(found.next_at),
                found.detail or found.schedule.purpose,
            ]
            for found in states
        ],
    )
    return 0


def _as_json(found: State) -> dict[str, str | None]:
    return {
        "name": found.schedule.name,
        "purpose": found.schedule.purpose,
        "cron": found.cron,
        "startedAt": _instant(found.started_at),
        "finishedAt": _instant(found.finished_at),
        "result": found.result,
        "detail": found.detail,
        "nextRun": _instant(found.next_at),
    }


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds")


def _run(options: Namespace) -> int:
    settings = Settings.from_env()
    (schedule,) = (one for one in SCHEDULES if one.name == options.name)
    url = database_address(settings)
    with (
        translated(url),
        psycopg.connect(
            url, autocommit=True, connect_timeout=CONNECT_TIMEOUT, application_name="jobtrail-schedules"
        ) as connection,
    ):
        report = run_now(connection, settings, schedule, dry_run=options.dry_run)
    if options.json:
        as_json({"name": schedule.name, "dryRun": options.dry_run, "detail": report.text, **report.facts})
    else:
        line(f"{schedule.name}: {report.text}")
    return 0
