"""`jobtrail run` and `jobtrail tap`: thin over `jobtrail.producers`. They start no servers."""

from __future__ import annotations

import gc
from argparse import Namespace
from pathlib import Path

from jobtrail.cli.parsing import Parser, attempt_number, job_id
from jobtrail.errors import UsageError


def configure(parser: Parser, name: str) -> None:
    """Declares the options."""
    from jobtrail.events import ConfigType, ScopeType

    parser.add_argument(
        "--connection", metavar="ID", required=name == "run", help="the connection that is synced"
    )
    parser.add_argument("--workspace", metavar="ID", help="the workspace that the job belongs to")
    parser.add_argument(
        "--scope-type",
        choices=[*ScopeType],
        metavar="TYPE",
        help="with --scope-id: what the job belongs to, workspace or organization",
    )
    parser.add_argument("--scope-id", metavar="ID", help="the workspace, or organization, of --scope-type")
    parser.add_argument("--job", type=job_id, metavar="ID", help="the job's id (default: a new one)")
    parser.add_argument(
        "--attempt", type=attempt_number, metavar="N", help="with --job: attempt N of a job that exists"
    )
    parser.add_argument(
        "--config-type",
        choices=[*ConfigType],
        metavar="TYPE",
        help=f"what kind of job it is: {', '.join(ConfigType)} (default: sync, where the job is new)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a connector's configuration (JSON): what is secret in it is told nowhere; may be repeated"
        + ("; those that the commands name are known" if name == "run" else ""),
    )
    parser.add_argument(
        "--spec",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a connector's specification (JSON), which marks what is secret; without it names tell; may be "
        "repeated",
    )
    if name == "tap":
        parser.description = (
            "Stands in a shell pipe behind a connector that speaks the Airbyte protocol: passes every byte "
            "on unchanged and reports records, states, statuses and errors."
        )
        parser.add_argument(
            "--config-id", metavar="ID", help="what the job is about, where there is no connection"
        )
        parser.add_argument(
            "--exit-status",
            type=Path,
            metavar="FILE",
            help="holds the connector's exit status when the input ends; without one it counts as killed",
        )
        parser.example("source-x read --config c.json --catalog k.json | jobtrail tap --connection 7c1f… | …")
        parser.set_defaults(run=_tap, parser=parser)
        return
    parser.description = (
        "Runs connectors that speak the Airbyte protocol, the destination behind the source, and reports the "
        "job. Exit status 0 if it succeeded, 1 if it failed or was cancelled, 128 and the signal's number if "
        "a signal ended it."
    )
    parser.add_argument("--source", metavar="CMD", required=True, help="command of the source, quoted")
    parser.add_argument("--destination", metavar="CMD", help="command of the destination")
    parser.add_argument("--quiet", action="store_true", help="show no progress on stderr")
    parser.add_argument("--json", action="store_true", help="print how it went")
    parser.example(
        'jobtrail run --connection 7c1f… --source "source-faker read --config c.json --catalog k.json" '
        '--destination "destination-x write --config d.json --catalog k.json"'
    )
    parser.set_defaults(run=_run)


def _run(options: Namespace) -> int:
    from jobtrail.producers.run import run
    from jobtrail.settings import Settings

    _check_scope(options)
    result = run(
        connection_id=options.connection,
        source=options.source,
        destination=options.destination,
        config_type=options.config_type,
        scope_type=options.scope_type,
        scope_id=options.scope_id,
        workspace_id=options.workspace,
        job_id=options.job,
        attempt_number=options.attempt,
        configs=options.config,
        specs=options.spec,
        quiet=options.quiet,
        settings=Settings.from_env(),
    )
    if options.json:
        from jobtrail.cli.terminal import as_json

        as_json(
            {
                "jobId": result.job_id,
                "attemptNumber": result.attempt_number,
                "outcome": result.outcome,
                "streams": [
                    {
                        "streamName": stream.name,
                        "streamNamespace": stream.namespace,
                        "recordsEmitted": counts.records,
                        "bytesEmitted": counts.bytes,
                        "recordsCommitted": counts.committed_records,
                    }
                    for stream, counts in result.streams.items()
                ],
            }
        )
    return result.exit_status


def _tap(options: Namespace) -> int:
    from jobtrail.producers.tap import tap
    from jobtrail.settings import Settings

    exists = options.job is not None and options.attempt is not None
    if not (exists or options.connection or options.config_id):
        options.parser.error("--connection or --config-id is needed, or the --job and --attempt that exist")
    _check_scope(options)
    # What was imported stays: Python would look through it for garbage, also as it exits.
    gc.freeze()
    return tap(
        connection_id=options.connection,
        config_type=options.config_type,
        config_id=options.config_id,
        scope_type=options.scope_type,
        scope_id=options.scope_id,
        workspace_id=options.workspace,
        job_id=options.job,
        attempt_number=options.attempt,
        exit_status_file=options.exit_status,
        configs=options.config,
        specs=options.spec,
        settings=Settings.from_env(),
    ).exit_status


def _check_scope(options: Namespace) -> None:
    """Raises UsageError in the words of the options."""
    from jobtrail.scope import scope_misfit

    if misfit := scope_misfit(options.scope_type, options.scope_id, options.workspace):
        option = {"scope_type": "--scope-type", "scope_id": "--scope-id", "workspace_id": "--workspace"}
        raise UsageError(f"{option[misfit.field]}: {misfit.found}")
