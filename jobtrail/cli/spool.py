"""`jobtrail spool`: events that are on the disk because Kafka did not take them in time."""

from __future__ import annotations

import sys
from argparse import Namespace
from datetime import UTC, datetime
from typing import Final

from jobtrail.cli.parsing import Parser, subcommands
from jobtrail.cli.progress import EVERY, Shown
from jobtrail.cli.terminal import amount, as_json, line, size, table
from jobtrail.settings import Settings

HEADER: Final = ("segment", "since", "events", "size", "state")


def configure(parser: Parser, _name: str) -> None:
    """Declares the subcommands."""
    commands = subcommands(parser, required=False)
    parser.set_defaults(run=_list, json=False)
    parser.example("jobtrail spool list", "jobtrail spool send")
    listed = commands.add_parser(
        "list",
        help="what is there",
        description="Lists the spool's segments under JOBTRAIL_HOME, oldest first.",
    )
    listed.add_argument("--json", action="store_true", help="a JSON list of segments")
    listed.example("jobtrail spool list --json")
    listed.set_defaults(run=_list, parser=listed)
    send = commands.add_parser(
        "send",
        help="deliver what ended processes have left",
        description="Delivers to Kafka, in order, what processes have left that are no more, and deletes it "
        "once Kafka has it. What running processes have there is theirs to send. Status 1 where Kafka "
        "refuses an event, 3 where it does not answer; nothing is lost then.",
    )
    send.add_argument("--json", action="store_true", help="counts as JSON")
    send.example("jobtrail spool send")
    send.set_defaults(run=_send, parser=send)


def _list(options: Namespace) -> int:
    from jobtrail.producers.spool import folder_of
    from jobtrail.producers.spool_send import spooled

    settings = Settings.from_env()
    found = spooled(settings)
    if options.json:
        as_json(
            [
                {
                    "path": str(left.path),
                    "inUse": left.in_use,
                    "events": left.events,
                    "bytes": left.size,
                    "tornBytes": left.torn,
                }
                for left in found
            ]
        )
    elif not found:
        line(f"nothing is in the spool {folder_of(settings.home)}", style="green")
    else:
        rows = [
            [
                left.path.name,
                f"{datetime.fromtimestamp(int(left.path.name[:20]) / 1e9, UTC):%Y-%m-%d %H:%M:%S}",
                amount(left.events),
                size(left.size),
                _state(left.in_use, left.torn),
            ]
            for left in found
        ]
        table(HEADER, rows, ("events", "size"))
        if any(not left.in_use for left in found):
            line("`jobtrail spool send` delivers what was left", style="dim")
    return 0


def _state(in_use: bool, torn: int) -> str:
    state = "in use" if in_use else "left"
    return f"{state}, {torn:,} bytes torn" if torn and not in_use else state


def _send(options: Namespace) -> int:
    from jobtrail.producers.spool_send import send

    with Shown(sys.stderr, quiet=EVERY) as shown:
        sent = send(Settings.from_env(), lambda done, total: shown("sending", done, total))
    if options.json:
        as_json({"segments": sent.segments, "events": sent.events, "torn": sent.torn})
    elif sent.events:
        line(f"{sent.events:,} events of {sent.segments:,} segments are in Kafka now", style="green")
    else:
        line("nothing was left in the spool", style="green")
    if sent.torn and not options.json:
        line(f"{sent.torn:,} segments ended in a torn record; they are kept there as *.torn", style="yellow")
    return 0
