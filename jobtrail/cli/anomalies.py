"""`jobtrail anomalies list`: where events contradict each other."""

from __future__ import annotations

from argparse import Namespace

from jobtrail.api.database import reading
from jobtrail.api.queries import query
from jobtrail.cli.parsing import Parser, job_id, positive, subcommands
from jobtrail.cli.terminal import amount, as_json, line, table
from jobtrail.settings import Settings


def configure(parser: Parser, _name: str) -> None:
    """Declares the subcommand."""
    commands = subcommands(parser, required=False)
    parser.set_defaults(run=_list, job=None, limit=100, json=False)
    parser.example("jobtrail anomalies list")
    found = commands.add_parser(
        "list",
        help="all, or those of a job",
        description="Lists contradictions between events, newest jobs first.",
    )
    found.add_argument("--job", type=job_id, metavar="ID", help="only those of this job")
    found.add_argument("--limit", type=positive, default=100, metavar="N", help="at most N (default 100)")
    found.add_argument("--json", action="store_true", help="a JSON list")
    found.example("jobtrail anomalies list --job 42 --json")
    found.set_defaults(run=_list, parser=found)


def _list(options: Namespace) -> int:
    with reading(Settings.from_env()) as database:
        rows = database.execute(
            query("anomalies"), {"job_id": options.job, "limit": options.limit}
        ).fetchall()
    if options.json:
        as_json(rows)
    elif not rows:
        line("no anomalies", style="green")
    else:
        cells = [
            [str(row["job_id"]), amount(row["attempt_number"], unknown=""), row["kind"], row["detail"]]
            for row in rows
        ]
        table(("job", "attempt", "kind", "detail"), cells, ("job", "attempt"))
    return 0
