"""`jobtrail run` and `jobtrail tap`: thin over `jobtrail.producers`. They start no servers."""

from __future__ import annotations

from argparse import Namespace

from jobtrail.cli.parsing import Parser


def configure(parser: Parser, name: str) -> None:
    """Declares the options."""
    parser.add_argument("--connection", metavar="ID", required=True, help="the connection that is synced")
    if name == "tap":
        parser.description = (
            "Stands in a shell pipe behind a connector that speaks the Airbyte protocol: passes every byte "
            "on unchanged and reports records, states, statuses and errors."
        )
        parser.example("source-x read --config c.json --catalog k.json | jobtrail tap --connection 7c1f… | …")
        parser.set_defaults(run=_tap)
        return
    parser.description = (
        "Runs connectors that speak the Airbyte protocol, the destination behind the source, and reports the "
        "job. Exit status 0 if it succeeded, 1 if it failed or was cancelled."
    )
    parser.add_argument(
        "--source", metavar="CMD", required=True, help="command of the source, as a shell has it"
    )
    parser.add_argument("--destination", metavar="CMD", help="command of the destination")
    parser.example(
        'jobtrail run --connection 7c1f… --source "source-faker read --config c.json --catalog k.json" '
        '--destination "destination-x write --config d.json --catalog k.json"'
    )
    parser.set_defaults(run=_run)


def _run(options: Namespace) -> int:
    from jobtrail.cli.environment import read_settings
    from jobtrail.cli.wiring import part

    run = part("jobtrail.producers.run", "run")
    return int(
        run(
            connection_id=options.connection,
            source=options.source,
            destination=options.destination,
            settings=read_settings(),
        )
    )


def _tap(options: Namespace) -> int:
    from jobtrail.cli.environment import read_settings
    from jobtrail.cli.wiring import part

    tap = part("jobtrail.producers.tap", "tap")
    return int(tap(connection_id=options.connection, settings=read_settings()))
