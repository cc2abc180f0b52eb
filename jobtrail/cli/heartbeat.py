"""`jobtrail heartbeat`: says that a dataplane is alive, for one that runs no attempt just now."""

from __future__ import annotations

import sys
import threading
from argparse import Namespace

from jobtrail.cli.parsing import Parser


def configure(parser: Parser, _name: str) -> None:
    """Declares the options."""
    parser.description = (
        "Says that a dataplane is alive, at once and then every 20 s until Ctrl-C. Attempts that run with "
        "JOBTRAIL_DATAPLANE say so by themselves. POST /api/v1/dataplanes/health shows who is alive."
    )
    parser.add_argument("--dataplane", metavar="ID", help="the dataplane (default: JOBTRAIL_DATAPLANE)")
    parser.add_argument("--version", metavar="V", help="the version that it runs")
    parser.add_argument("--once", action="store_true", help="once, for a cron job or a probe")
    parser.example("jobtrail heartbeat --dataplane eu-1 --version 1.2")
    parser.set_defaults(run=_heartbeat)


def _heartbeat(options: Namespace) -> int:
    from jobtrail.cli.interrupts import leave_in_order
    from jobtrail.cli.terminal import line
    from jobtrail.errors import UsageError
    from jobtrail.events import DataplaneHeartbeat
    from jobtrail.producers.dataplane import INTERVAL, Dataplane
    from jobtrail.producers.facts import make
    from jobtrail.producers.publisher import Publisher
    from jobtrail.running import kafka_address
    from jobtrail.settings import Settings

    settings = Settings.from_env()
    dataplane = options.dataplane or settings.dataplane
    if not dataplane:
        raise UsageError("which dataplane? Name it with --dataplane, or set JOBTRAIL_DATAPLANE")
    event = make(DataplaneHeartbeat, dataplane_id=dataplane, dataplane_version=options.version)
    leave_in_order()
    kafka_address(settings)  # here nothing is to wait in the spool for a Kafka to come
    with Publisher(settings) as publisher:
        if options.once:
            publisher.deliver(event)
            return 0
        try:
            with Dataplane.start(dataplane, version=options.version, publisher=publisher):
                line(f"dataplane {dataplane} is alive every {INTERVAL:.0f} s; Ctrl-C ends")
                sys.stdout.flush()
                threading.Event().wait()
        except KeyboardInterrupt:
            pass
    return 0
