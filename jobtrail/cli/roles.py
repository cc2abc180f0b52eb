"""`jobtrail migrate`, `projector`, `watchdog`, `analytics`, `api`: the roles apart. They start no servers."""

from __future__ import annotations

import sys
import threading
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from typing import Final

from jobtrail.cli.interrupts import leave_in_order
from jobtrail.cli.memory import give_back
from jobtrail.cli.parsing import Parser
from jobtrail.cli.terminal import as_json, line, visible
from jobtrail.cli.up import fallback_notes, insecure_option
from jobtrail.settings import Settings

DESCRIPTIONS = {
    "migrate": "Applies the migrations that the database lacks; safe to repeat.",
    "projector": "Folds the event log into the read models and runs the schedules until Ctrl-C; any number "
    "may share the work.",
    "watchdog": "Fails attempts that fell silent, by events, until Ctrl-C; any number may watch.",
    "analytics": "Computes windows over the event log by Faust (failure rates, records and bytes, durations, "
    "streams that do not move) until Ctrl-C; any number share the work. Results go to jobtrail.analytics; a "
    "projector brings them to the views jobtrail.windows and jobtrail.failure_rates.",
    "api": "Answers over HTTP on JOBTRAIL_API_HOST:JOBTRAIL_API_PORT until Ctrl-C.",
}


def configure(parser: Parser, name: str) -> None:
    """Declares the options."""
    servers = (
        "the Kafka of JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS, else the one that runs"
        if name == "analytics"
        else "the servers of JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS and JOBTRAIL_DATABASE_URL, else those that run"
    )
    parser.description = f"{DESCRIPTIONS[name]} Uses {servers} under JOBTRAIL_HOME."
    if name == "migrate":
        parser.add_argument("--json", action="store_true", help="a JSON list of what was applied")
    if name == "api":
        insecure_option(parser)
    if name == "analytics":
        parser.example("JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 jobtrail analytics")
    else:
        parser.example(f"JOBTRAIL_DATABASE_URL=postgresql://jobtrail@db/jobtrail jobtrail {name}")
    parser.set_defaults(run=ROLES[name])


def _settings(*, kafka: bool, database: bool = True) -> Settings:
    """The settings, with what runs under the home where none are set. Raises where there is neither."""
    from jobtrail.running import kafka_address

    settings = Settings.from_env()
    for note in fallback_notes(settings):
        print(f"jobtrail: {visible(note)}", file=sys.stderr)
    found = {}
    if database:
        from jobtrail.consumers.waiting import database_address

        found["database_url"] = database_address(settings)
    if kafka:
        found["kafka_bootstrap_servers"] = kafka_address(settings)
    return settings.model_copy(update=found)


def _migrate(options: Namespace) -> int:
    settings = _settings(kafka=False)
    from jobtrail.cli.service import prepare

    applied = prepare(settings, topics=False)
    if options.json:
        as_json(applied)
    else:
        line(f"applied {', '.join(applied)}" if applied else "nothing to apply")
    return 0


def _projector(_options: Namespace) -> int:
    give_back()
    from jobtrail.consumers.projector import run_projector
    from jobtrail.consumers.retry_letters import run_retries
    from jobtrail.consumers.schedules import check_schedules, run_schedules

    check_schedules(Settings.from_env())
    return alone(
        "folding {topic} at {kafka}; Ctrl-C ends",
        projector=run_projector,
        schedules=run_schedules,
        retries=run_retries,
    )


def _watchdog(_options: Namespace) -> int:
    from jobtrail.consumers.watchdog import run_watchdog

    return alone("watching {topic} at {kafka}; Ctrl-C ends", watchdog=run_watchdog)


def _analytics(_options: Namespace) -> int:
    from jobtrail.consumers.analytics import run_analytics

    return alone("windows over {topic} at {kafka}; Ctrl-C ends", database=False, analytics=run_analytics)


def alone(said: str, *, database: bool = True, **roles: Callable[[Settings, threading.Event], None]) -> int:
    """Runs what makes up a role until Ctrl-C, or until what ends a part of it is raised."""
    settings = _settings(kafka=True, database=database)
    from jobtrail.cli.service import RoleThread, prepare

    leave_in_order()
    try:
        if database:
            prepare(settings)
        threads = [RoleThread(name, partial(role, settings)) for name, role in roles.items()]
        for thread in threads:
            thread.start()
        try:
            line(said.format(topic=settings.events_topic, kafka=settings.kafka_bootstrap_servers))
            sys.stdout.flush()
            while all(thread.is_alive() for thread in threads):
                threads[0].join(0.5)
            for thread in threads:
                thread.check()
        finally:
            for thread in threads:
                thread.stop.set()
            for thread in threads:
                thread.join(30)
    except KeyboardInterrupt:
        pass
    return 0


def _api(options: Namespace) -> int:
    import time

    from jobtrail.api.access import check_listen, tokens_from
    from jobtrail.api.serve import bind, serving, url
    from jobtrail.web.site import create_site

    settings = _settings(kafka=False)
    tokens = tokens_from()
    check_listen(settings.api_host, tokens, insecure=options.insecure_listen)
    leave_in_order()
    taken = bind(settings)
    try:
        with serving(settings, taken, tokens, insecure=options.insecure_listen, create=create_site):
            line(f"answering at {url(taken)} (API: {url(taken)}/docs); Ctrl-C ends")
            sys.stdout.flush()
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        pass
    return 0


ROLES: Final = {
    "migrate": _migrate,
    "projector": _projector,
    "watchdog": _watchdog,
    "analytics": _analytics,
    "api": _api,
}
