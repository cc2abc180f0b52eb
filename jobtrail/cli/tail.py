"""`jobtrail tail`: the events of the log, as they come."""

from __future__ import annotations

import argparse
import json
import re
import sys
from argparse import Namespace
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

import jobtrail
from jobtrail.cli.event_line import facts, instant
from jobtrail.cli.parsing import Parser, job_id, moment
from jobtrail.cli.terminal import line
from jobtrail.consumers.follow import Follower
from jobtrail.consumers.starting import Start
from jobtrail.events import Event
from jobtrail.kinds import EPOCH
from jobtrail.producers.client import log
from jobtrail.settings import Settings

UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
)
#: Digits of a duration: more is no time that there was.
MOST_DIGITS: Final = 6
#: Characters of the longest name of an event type that is common.
TYPE_WIDTH: Final = 16


def configure(parser: Parser, _name: str) -> None:
    """Declares the options."""
    parser.description = (
        "Prints the events of the log as they come: time, job, attempt number, type, and what it says. "
        "Ctrl-C ends it. It needs Kafka and no database."
    )
    parser.add_argument("--job", type=job_id, metavar="ID", help="only events of this job")
    parser.add_argument("--connection", metavar="ID", help="only events of this connection's jobs")
    parser.add_argument(
        "--type", action="append", metavar="TYPE", help="only these event types, such as Failure"
    )
    parser.add_argument(
        "--since",
        type=since,
        metavar="WHEN",
        help="where to begin, by the broker's clock: a time (ISO 8601 with Z or an offset), how long ago "
        "(45s, 30m, 2h, 7d), earliest, or latest, which is now (default latest; with --no-follow earliest)",
    )
    parser.add_argument(
        "--no-follow", action="store_true", help="end where the log ends now; do not wait for more"
    )
    parser.add_argument(
        "--group",
        metavar="NAME",
        help="share the events with all that name this group, and go on where it ended; an event is done "
        "when its line is written. A group keeps its filters",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line: the event, its type and its place"
    )
    parser.example(
        "jobtrail tail --type Failure --type JobFailed --since 2h",
        "jobtrail tail --job 42 --since earliest --no-follow",
        "jobtrail tail --json | jq .event_type",
    )
    parser.set_defaults(run=_tail, parser=parser)


def since(text: str) -> Start:
    """A start from the command line."""
    if text == "earliest":
        return "earliest"
    if text in {"latest", "now"}:
        return "latest"
    if found := re.fullmatch(rf"(\d{{1,{MOST_DIGITS}}})([{''.join(UNITS)}])", text, re.ASCII):
        try:
            return max(datetime.now(UTC) - timedelta(**{UNITS[found[2]]: int(found[1])}), EPOCH)
        except OverflowError:  # before the year 1
            return "earliest"
    try:
        return moment(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write 2026-03-01T12:00:09Z, how long ago (45s, 30m, 2h, 7d), earliest"
            " or latest"
        ) from None


def _tail(options: Namespace) -> int:
    start: Start = options.since or ("earliest" if options.no_follow else "latest")
    follower = jobtrail.follow(
        settings=Settings.from_env(),
        group=options.group,
        types=options.type,
        job_id=options.job,
        connection_id=options.connection,
        start=start,
        until="end" if options.no_follow else None,
    )
    if start == "latest" and options.since is None and not options.group and sys.stderr.isatty():
        print("from now on; --since earliest or 2h shows what was before", file=sys.stderr)
    if options.json:
        _print_json(follower)
    else:
        _print_lines(follower)
    if follower.dead_letters > 1:
        log.warning("%d messages were no events", follower.dead_letters)
    return 0


def _print_json(follower: Follower[Event]) -> None:
    for event in follower:
        print(as_json_line(event, follower), flush=True)


def _print_lines(follower: Follower[Event]) -> None:
    width = 1
    for event in follower:
        body = event.model_dump()
        about = body.get("job_id")
        job = f"job {about}" if about is not None else ""
        number = body.get("attempt_number")
        attempt = f"attempt {number}" if number is not None else ""
        width = max(width, len(job))
        head = f"{instant(event.occurred_at)}  {job:<{width}}  {attempt:<9}"
        line(f"{head}  {type(event).__name__:<{TYPE_WIDTH}}  {facts(body)}".rstrip())
        sys.stdout.flush()


def as_json_line(event: Event, follower: Follower[Event]) -> str:
    """The event with the names of its Avro schema; instants are ISO 8601. ASCII."""
    place = follower.place
    told: dict[str, Any] = {
        "event_type": type(event).__name__,
        **event.model_dump(mode="json"),
        "topic": place.topic,
        "partition": place.partition,
        "offset": place.offset,
        "received_at": place.received_at.isoformat().replace("+00:00", "Z"),
    }
    return json.dumps(told).replace("\x7f", r"\u007f")
