"""`jobtrail rebuild`: new read models from the log, compared with the live ones, in their place."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from datetime import UTC
from typing import Any

from jobtrail.cli.environment import account
from jobtrail.cli.interrupts import leave_in_order
from jobtrail.cli.parsing import Parser, job_id, positive, subcommands
from jobtrail.cli.progress import Shown
from jobtrail.cli.terminal import amount, as_json, clock, line, span, table
from jobtrail.errors import NotFoundError, UsageError
from jobtrail.producers.safe_text import safe_name
from jobtrail.settings import Settings

#: Differences shown one by one; --json has more.
SHOWN = 20
#: What can be rebuilt; all of them are made from one reading of the log.
PROJECTIONS = ("core",)


def configure(parser: Parser, _name: str) -> None:
    """Declares the options and subcommands."""
    parser.description = (
        "Makes new read models from the event log beside the live ones, compares both, and puts the new "
        "ones in "
        "their place. Readers and projectors go on meanwhile. A rebuild that was killed goes on where it "
        "was. "
        "Status 1 where the result is refused, or with --verify-only where it differs."
    )
    commands = subcommands(parser, required=False)
    parser.add_argument(
        "--projection", choices=PROJECTIONS, default="core", metavar="NAME", help="which set: core (all)"
    )
    parser.add_argument(
        "--from",
        dest="origin",
        choices=("topic", "archive"),
        help="where to read what both have (default: the topic)",
    )
    parser.add_argument(
        "--archive", metavar="ADDRESS", help="folder or fsspec address (default: JOBTRAIL_ARCHIVE)"
    )
    parser.add_argument(
        "--workers", type=positive, default=os.cpu_count() or 1, help="processes (default: one a core)"
    )
    parser.add_argument(
        "--verify-only", action="store_true", help="compare, and leave the live read models as they are"
    )
    parser.add_argument("--yes", action="store_true", help="swap without asking where something differs")
    parser.add_argument("--force", action="store_true", help="swap even where the result is empty or shorter")
    parser.add_argument("--by", metavar="NAME", help="who does it (default: the account)")
    parser.add_argument("--job", type=job_id, metavar="ID", help="rebuild one job only, in place")
    parser.add_argument("--json", action="store_true", help="what came of it as JSON")
    parser.example("jobtrail rebuild --verify-only", "jobtrail rebuild --yes", "jobtrail rebuild --job 42")
    parser.set_defaults(run=_rebuild)
    status = commands.add_parser(
        "status",
        help="the rebuild that runs or was left",
        description="Shows the live generation, and how far a rebuild is.",
    )
    status.add_argument("--json", action="store_true", help="as JSON; instants in UTC")
    status.example("jobtrail rebuild status --json")
    status.set_defaults(run=_status, parser=status)
    cancel = commands.add_parser(
        "cancel",
        help="end it, and drop what it made",
        description="Ends the rebuild that runs, or drops what a killed one left. The live read models stay "
        "as they are. Status 1 where there is none.",
    )
    cancel.example("jobtrail rebuild cancel")
    cancel.set_defaults(run=_cancel, parser=cancel)


def _rebuild(options: Namespace) -> int:
    settings = Settings.from_env()
    if options.job is not None:
        return _one_job(settings, options)
    from jobtrail.consumers.rebuild import Options, Result, rebuild

    asks = not options.yes and not options.verify_only
    if asks and (options.json or not sys.stdin.isatty()):
        raise UsageError(
            "nobody can be asked here whether to swap: say --yes, or --verify-only to compare alone"
        )
    shown = Shown(sys.stderr)

    def confirm(result: Result) -> bool:
        shown.close()
        _show(result)
        return input("Swap? [y/N] ").strip().lower() in {"y", "yes"}

    leave_in_order()
    archive = options.archive or settings.archive
    if options.origin == "archive" and not archive:
        raise UsageError("--from archive: no archive is set; say --archive ADDRESS, or set JOBTRAIL_ARCHIVE")
    try:
        with shown, _translated(settings):
            result = rebuild(
                settings,
                Options(
                    workers=options.workers,
                    by=safe_name(options.by or account("jobtrail rebuild")),
                    origin=options.origin or "topic",
                    archive=archive,
                    verify_only=options.verify_only,
                    force=options.force,
                    confirm=confirm if asks else None,
                ),
                shown,
            )
    except KeyboardInterrupt:
        print(
            "jobtrail: stopped; `jobtrail rebuild` goes on from here, `jobtrail rebuild cancel` drops it",
            file=sys.stderr,
        )
        raise
    if options.json:
        as_json(_as_json(result))
    else:
        _show(result)
    if options.verify_only:
        return 0 if result.same else 1
    return 0 if result.swapped else 1


def _translated(settings: Settings) -> Any:
    from jobtrail.api.database import translated
    from jobtrail.consumers.waiting import database_address

    return translated(database_address(settings))


def _show(result: Any) -> None:
    table(
        ("table", "live rows", "new rows", "differing"),
        [
            [one.table, amount(one.live_rows), amount(one.new_rows), amount(one.differing)]
            for one in result.tables
        ],
        right=("live rows", "new rows", "differing"),
    )
    for place, difference in enumerate(result.differences):
        if place == SHOWN:
            line("… --json has up to 1,000 of each table")
            break
        line(str(difference))
    if not result.same:
        line(
            "What differs: the live rows came of other events or other rules than the log has now: an event "
            "that was "
            "repaired after it was put aside, rows that were changed by hand, a release with other rules, "
            "or, where a note "
            "says so, events that only one of both had folded yet."
        )
    rate = result.messages / result.seconds if result.seconds > 0 else 0
    messages = "1 message" if result.messages == 1 else f"{result.messages:,} messages"
    line(f"{messages} in {span(result.seconds)} ({rate:,.0f} a second)")
    if result.note:
        line(result.note)
    if result.swapped:
        line(f"readers now see generation {result.generation}", style="green")
    elif result.same:
        line("both are the same", style="green")


def _as_json(result: Any) -> dict[str, Any]:
    return {
        "generation": result.generation,
        "swapped": result.swapped,
        "same": result.same,
        "note": result.note,
        "messages": result.messages,
        "seconds": round(result.seconds, 3),
        "tables": [
            {
                "table": one.table,
                "liveRows": one.live_rows,
                "newRows": one.new_rows,
                "differing": one.differing,
                "differences": [
                    {
                        "key": {name: str(value) for name, value in found.key.items()},
                        "missingIn": found.missing_in,
                        "columns": {
                            name: [None if value is None else str(value) for value in pair]
                            for name, pair in found.columns.items()
                        },
                    }
                    for found in one.differences
                ],
            }
            for one in result.tables
        ],
    }


def _status(options: Namespace) -> int:
    from jobtrail.api.database import scratch
    from jobtrail.consumers.rebuild import state

    with scratch(Settings.from_env()) as database:
        found = state(database)
    if options.json:
        as_json(
            {
                "live": {"generation": found.live, "version": found.version},
                "rebuild": found.unfinished
                and {
                    "generation": found.unfinished.generation,
                    "phase": found.unfinished.phase,
                    "running": found.running,
                    "begunAt": found.unfinished.begun_at.astimezone(UTC).isoformat(),
                    "phaseAt": found.unfinished.phase_at.astimezone(UTC).isoformat(),
                    "readOffsets": found.read,
                    "totalOffsets": found.total,
                },
                "lastRun": found.last
                and {
                    "begunAt": found.last.begun_at.astimezone(UTC).isoformat(),
                    "begunBy": found.last.begun_by,
                    "endedAt": found.last.ended_at and found.last.ended_at.astimezone(UTC).isoformat(),
                    "result": found.outcome,
                    "detail": found.last.detail,
                },
            }
        )
        return 0
    line(f"live: generation {found.live}, version {found.version}")
    if found.last is not None:
        said = f": {found.last.detail}" if found.last.detail else ""
        line(f"last: {found.outcome}, begun {clock(found.last.begun_at)} by {found.last.begun_by}{said}")
    if found.unfinished is None:
        line("no rebuild")
        return 0
    how = "runs" if found.running else "was left; `jobtrail rebuild` goes on with it"
    since = clock(found.unfinished.phase_at)
    line(f"rebuild of generation {found.unfinished.generation} {how}: {found.unfinished.phase} since {since}")
    if found.total:
        line(
            f"read {found.read:,} of {found.total:,} offsets ({100 * found.read // found.total} %) as of "
            f"its last appending"
        )
    return 0


def _cancel(_options: Namespace) -> int:
    from jobtrail.consumers.rebuild import cancel

    settings = Settings.from_env()
    with _translated(settings):
        said = cancel(settings)
    if said is None:
        raise NotFoundError("no rebuild runs, and none was left")
    line(said)
    return 0


def _one_job(settings: Settings, options: Namespace) -> int:
    from jobtrail.consumers.rebuild_job import rebuild_job

    with _translated(settings):
        result = rebuild_job(
            settings,
            options.job,
            archive=options.archive or settings.archive,
            verify_only=options.verify_only,
            force=options.force,
        )
    if options.json:
        as_json(_as_json(result))
    else:
        _show(result)
    return 0 if result.swapped or result.same else 1
