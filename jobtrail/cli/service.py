"""The whole service in one process: embedded servers where none are set, migrations, every role, HTTP."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import NoReturn

import psycopg

from jobtrail import embedded
from jobtrail.api.access import check_listen, tokens_from
from jobtrail.api.serve import bind, serving, url
from jobtrail.cli.claim import claim
from jobtrail.cli.progress import Shown
from jobtrail.consumers.alerts.alerter import prepared, run_alerter
from jobtrail.consumers.projector import run_projector
from jobtrail.consumers.rebuild import Options, rebuild
from jobtrail.consumers.retry_letters import run_retries
from jobtrail.consumers.schedules import check_schedules, run_schedules
from jobtrail.consumers.topics import TopicAdmin
from jobtrail.consumers.waiting import Away, database_away, until_it_answers
from jobtrail.consumers.watchdog import run_watchdog
from jobtrail.embedded.progress import say
from jobtrail.errors import JobtrailError, VersionError
from jobtrail.projections.generation import check_version
from jobtrail.projections.migrate import migrate
from jobtrail.projections.tables import VERSION
from jobtrail.settings import Settings
from jobtrail.web.site import create_site

#: Seconds between two looks at what must go on running.
LOOK = 0.5


@dataclass(frozen=True)
class Service:
    """A service that is ready."""

    #: With the addresses of the servers that are used.
    settings: Settings
    url: str
    _servers: embedded.EmbeddedServers | None
    _roles: Sequence[RoleThread]

    def check(self) -> None:
        """Raises what ended a part of it, if one has ended."""
        for role in self._roles:
            role.check()
        if self._servers is not None:
            self._servers.check()

    def wait(self) -> NoReturn:
        """Until something ends it: KeyboardInterrupt, or the error of a part."""
        while True:
            self.check()
            time.sleep(LOOK)


class RoleThread(threading.Thread):
    """A role beside everything else; what ends it is raised by `check`."""

    def __init__(self, name: str, role: Callable[[threading.Event], None]) -> None:
        """`role` works until the event is set."""
        super().__init__(name=f"jobtrail-{name}", daemon=True)
        self.stop = threading.Event()
        self._role = role
        self._error: BaseException | None = None

    def run(self) -> None:
        """Works until `stop` is set."""
        try:
            self._role(self.stop)
        except BaseException as error:  # noqa: BLE001  # raised again where it is seen
            self._error = error

    def check(self) -> None:
        """Raises the error that ended it."""
        if self._error is not None:
            raise self._error


@contextmanager
def service(
    settings: Settings, *, insecure: bool = False, tell: Callable[[str], None] = say
) -> Iterator[Service]:
    """Starts everything, in order, and stops it in the opposite one.

    Waits for configured servers that do not answer. Raises JobtrailError where a service of this home runs
    already, the port is taken, or something cannot start.
    """
    tokens = tokens_from()
    check_listen(settings.api_host, tokens, insecure=insecure)
    check_schedules(settings)
    rules = prepared(settings.alert_rules) if settings.alert_rules else None
    with ExitStack() as stack:
        mine = stack.enter_context(claim(settings.home))
        taken = bind(settings)
        stack.callback(taken.close)
        servers = None
        if not settings.kafka_bootstrap_servers or not settings.database_url:
            servers = stack.enter_context(
                embedded.servers(
                    settings.home,
                    kafka=not settings.kafka_bootstrap_servers,
                    postgres=not settings.database_url,
                    cache=settings.cache,
                    on_progress=tell,
                )
            )
            settings = with_addresses(settings, servers)
        prepare(settings)
        upgrade(settings, tell)
        roles = [
            RoleThread("projector", partial(run_projector, settings)),
            # Whoever this thread works for says that servers are away.
            RoleThread("watchdog", partial(run_watchdog, settings, level=logging.DEBUG)),
            RoleThread("schedules", partial(run_schedules, settings)),
            RoleThread("retries", partial(run_retries, settings)),
        ]
        if rules is not None:
            roles.append(RoleThread("alerter", partial(run_alerter, settings, rules, level=logging.DEBUG)))
        for role in roles:
            role.start()
            stack.callback(role.join, 30)
            stack.callback(role.stop.set)
        stack.enter_context(serving(settings, taken, tokens, insecure=insecure, create=create_site))
        mine.say(url(taken))
        yield Service(settings, url(taken), servers, roles)


def with_addresses(settings: Settings, servers: embedded.EmbeddedServers) -> Settings:
    """The settings with the embedded servers where none are set."""
    return settings.model_copy(
        update={
            "kafka_bootstrap_servers": settings.kafka_bootstrap_servers or servers.kafka_bootstrap_servers,
            "database_url": settings.database_url or servers.database_url,
        }
    )


def prepare(settings: Settings, *, topics: bool = True) -> list[str]:
    """Makes the topics and applies the migrations that are missing, waiting for servers; names the latter."""
    never = threading.Event()
    if topics:
        until_it_answers(Away("Kafka"), never, lambda: TopicAdmin(settings).ensure())
    return until_it_answers(Away("Postgres"), never, lambda: _migrate(settings.database_url or ""))


def upgrade(settings: Settings, tell: Callable[[str], None]) -> None:
    """Where the read models are of an older version, makes those of this one from the log."""
    with psycopg.connect(settings.database_url or "", autocommit=True) as connection:
        try:
            check_version(connection, VERSION)
        except VersionError as error:
            if error.live > error.ours:
                raise
            tell(f"the read models are of version {error.live}; making those of version {error.ours}")
        else:
            return
    by = f"jobtrail {version('jobtrail')}"
    options = Options(workers=os.cpu_count() or 1, by=by, archive=settings.archive)
    with Shown(sys.stderr) as shown:
        result = rebuild(settings, options, shown)
    if not result.swapped:
        raise JobtrailError(f"the read models were not made anew: {result.note}")


def _migrate(database_url: str) -> list[str]:
    try:
        return migrate(database_url)
    except psycopg.OperationalError as error:
        raise database_away(database_url, error) from error
