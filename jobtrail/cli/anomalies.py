"""`jobtrail anomalies list`: where events contradict each other."""

from __future__ import annotations

from argparse import Namespace

from jobtrail.api.anomalies import anomaly_list
from jobtrail.api.database import reading
from jobtrail.cli.jobs import dump
from jobtrail.cli.parsing import Parser, job_id, positive, subcommands
from jobtrail.cli.terminal import amount, as_json, line, table
from jobtrail.projections.anomalies import AnomalyKind
from jobtrail.settings import Settings


def configure(parser: Parser, _name: str) -> None:
    """Declares the subcommand."""
    commands = subcommands(parser, required=False)
    parser.set_defaults(run=_list, job=None, kind=None, limit=100, json=False)
    parser.example("jobtrail anomalies list")
    found = commands.add_parser(
        "list",
        help="all, or those of a job",
        description="Lists contradictions between events, newest jobs first.",
    )
    found.add_argument("--job", type=job_id, metavar="ID", help="only those of this job")
    found.add_argument(
        "--kind",
        action="append",
        choices=[*AnomalyKind],
        metavar="KIND",
        help=f"only this kind: {', '.join(AnomalyKind)}; ARCHITECTURE.md says what to do about each",
    )
    found.add_argument("--limit", type=positive, default=100, metavar="N", help="at most N (default 100)")
    found.add_argument("--json", action="store_true", help="as GET /v1/anomalies answers")
    found.example("jobtrail anomalies list --job 42 --json", "jobtrail anomalies list --kind zero_records")
    found.set_defaults(run=_list, parser=found)


def _list(options: Namespace) -> int:
    with reading(Settings.from_env()) as database:
        found = anomaly_list(database, job_id=options.job, kinds=options.kind, limit=options.limit)
    if options.json:
        as_json(dump(found))
    elif not found.anomalies:
        line("no anomalies", style="green")
    else:
        cells = [
            [str(one.job_id), amount(one.attempt_number, unknown=""), one.kind, one.detail]
            for one in found.anomalies
        ]
        table(("job", "attempt", "kind", "detail"), cells, ("job", "attempt"))
        if found.total_count > len(cells):
            line(f"{len(cells)} of {found.total_count:,} anomalies; --limit shows more", style="dim")
    return 0
