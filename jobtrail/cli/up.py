"""`jobtrail up` and `jobtrail down`."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace

from jobtrail.cli import claim
from jobtrail.cli.environment import fallbacks_used
from jobtrail.cli.interrupts import leave_in_order
from jobtrail.cli.memory import give_back
from jobtrail.cli.parsing import Parser
from jobtrail.cli.terminal import line, visible
from jobtrail.settings import FALLBACKS, PREFIX, Settings, default_home


def configure(parser: Parser, name: str) -> None:
    """Declares the options."""
    if name == "down":
        parser.description = "Stops what runs under JOBTRAIL_HOME, used or not: the service and its servers."
        parser.example("jobtrail down")
        parser.set_defaults(run=_down)
        return
    parser.description = (
        "Runs everything until Ctrl-C: Kafka and Postgres of its own where JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS "
        "and JOBTRAIL_DATABASE_URL name none, the projector, and HTTP on JOBTRAIL_API_HOST:JOBTRAIL_API_PORT."
    )
    insecure_option(parser)
    parser.example("jobtrail up", "JOBTRAIL_HOME=/srv/jobtrail JOBTRAIL_API_PORT=8701 jobtrail up")
    parser.set_defaults(run=_up)


def insecure_option(parser: Parser) -> None:
    """--insecure-listen."""
    parser.add_argument(
        "--insecure-listen",
        action="store_true",
        help="answer other machines without JOBTRAIL_API_TOKENS: whoever reaches the port may read all",
    )


def _up(options: Namespace) -> int:
    settings = Settings.from_env()
    for note in fallback_notes(settings):
        print(f"jobtrail: {visible(note)}", file=sys.stderr)
    give_back()
    from jobtrail.cli.service import service

    leave_in_order()
    try:
        with service(settings, insecure=options.insecure_listen) as running:
            for text in announcement(settings, running.settings, running.url):
                line(text)
            sys.stdout.flush()
            running.wait()
    except KeyboardInterrupt:
        print("jobtrail: stopped", file=sys.stderr)
    return 0


def fallback_notes(settings: Settings) -> list[str]:
    """Which well-known variables stand in for ours."""
    ours = {variable: PREFIX + field.upper() for field, variable in FALLBACKS.items()}
    return [f"{variable} is used, as {ours[variable]} is not set" for variable in fallbacks_used(settings)]


def announcement(given: Settings, used: Settings, url: str) -> list[str]:
    """What a person must know of a service that is ready."""
    from jobtrail.consumers.waiting import shown_address

    home = given.home.absolute()
    exports = []
    if home != default_home():
        exports.append(f"JOBTRAIL_HOME={shlex.quote(str(home))}")
    if given.kafka_bootstrap_servers:
        exports.append(f"JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS={shlex.quote(given.kafka_bootstrap_servers)}")
    kafka = "yours" if given.kafka_bootstrap_servers else "its own"
    postgres = "yours" if given.database_url else "its own"
    return [
        f"Jobtrail is ready at {url} (API: {url}/docs)",
        f"  data     {home}",
        f"  Kafka    {used.kafka_bootstrap_servers} ({kafka})",
        f"  Postgres {shown_address(used.database_url or '')} ({postgres})",
        f"  publish  {'export ' + ' '.join(exports) if exports else 'from this machine; nothing to set'}",
        f"  look     {url} in a browser, or `jobtrail jobs list`",
        "  stop     Ctrl-C, or `jobtrail down`",
    ]


def _down(_options: Namespace) -> int:
    from jobtrail import embedded

    settings = Settings.from_env()
    stopped = claim.stop(settings.home)
    stopped = embedded.stop(settings.home) or stopped
    line(f"stopped what ran under {settings.home}" if stopped else f"nothing runs under {settings.home}")
    return 0
