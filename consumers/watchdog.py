"""The watchdog: what is silent for longer than its limit ends, by a Failure and an AttemptFailed in the log.

It looks for three things (`watchdog.sql` finds them, `consumers/silence.py` says what comes of each): a
running attempt of which nothing is heard, a cancel that nobody confirms, which ends its job by a Cancelled
besides, and a job that no worker takes. An attempt that was started over HTTP has no signs of life to give
until a worker takes it: it may be silent as long as a job may wait for a worker. Only the log can tell, and
whoever is not heard there may be alive: Kafka was away, or the projector is behind. So silence is measured
like this:

- An *observation* asks Kafka where every partition of the event log ends, then waits until the read models
  hold all before these ends, then reads what is awaited. The ends are those of the log itself, not of what
  is committed: behind a transaction left open there may be signs of life that nobody can read yet. If the
  read models do not get there soon, the projector lags, and nothing was observed.
- What one observation reads and a later one reads unchanged was not heard of in between. How long that was is
  told by one monotonic clock, from the reading of the first to the look of the later one. No two machines'
  clocks are compared; the broker's time serves to see that a row did change, whatever producers' clocks do.
- A decision comes of the observation that reaches the limit, and thus of one whose every partition was at its
  end after the deadline.
- When a look at Kafka fails, or none is had for a while (an outage, this process suspended), all timers start
  anew, after workers had as long to come back as Kafka was away, up to a minute. So do they when Postgres is
  away, and when the watchdog starts: it cannot know whether the broker was there before.
- A broker may answer and yet take no writes (too few replicas). Then the decisions are not taken either: they
  are dropped, not left to arrive together with the signs of life after all, and timers start anew.

Any number of watchdogs may run. Each publishes what it decides, and all publish the same events: ids are
hashes of what was decided, `occurred_at` is the last sign, by its producer's clock, and the limit.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from jobtrail.consumers.ends import Log, Topic
from jobtrail.consumers.silence import LAPSE, Awaited, Rule, Timers, decision, interval_of, limit_of
from jobtrail.consumers.waiting import Away, database_address, database_away
from jobtrail.errors import PublishError, ServerAwayError
from jobtrail.job_types import job_type_of
from jobtrail.producers.publisher import Publisher
from jobtrail.projections import generation as g
from jobtrail.projections.store import PROJECTION_SET
from jobtrail.settings import Settings

log = logging.getLogger("jobtrail")

#: Seconds between two looks whether the read models have reached the ends.
LOOK: Final = 0.02
#: Seconds that Kafka has to take a decision.
PUBLISH_TIMEOUT: Final = 2.0
CONNECT_TIMEOUT: Final = 5

SQL: Final = g.named_statements("watchdog.sql", "consumers")


class Watchdog:
    """One watchdog. Not thread-safe."""

    def __init__(self, settings: Settings) -> None:
        """Raises EmbeddedError where no Postgres is set or runs."""
        self.settings = settings
        #: Seconds between two observations.
        self.interval = interval_of(settings)
        self._log = Log(settings)
        self._database_url = database_address(settings)
        self._timers = Timers(LAPSE * self.interval)
        self._database: psycopg.Connection[Any] | None = None
        self._publisher: Publisher | None = None

    def watch(self) -> list[Awaited]:
        """One observation; publishes what it decides, and returns that.

        Raises ServerAwayError, PublishError, and NotFoundError where there is no event log.
        """
        try:
            overdue = self._observe()
            self._publish(overdue)
        except (ServerAwayError, PublishError):
            self._timers.forget()
            raise
        for one in overdue:
            which = "" if one.attempt_number is None else f", attempt {one.attempt_number}"
            ends = "cancelled" if one.rule == Rule.CANCEL_UNCONFIRMED else "failed"
            log.warning(
                "job %d%s is %s: %s for %g s", one.job_id, which, ends, one.rule.replace("_", " "), one.limit
            )
        return overdue

    def _observe(self) -> list[Awaited]:
        looked_at = time.monotonic()
        ends = self._log.topic(self.settings.events_topic, committed=False)
        self._timers.answered(time.monotonic())
        try:
            awaited = self._read(ends)
        except psycopg.OperationalError as error:
            self._disconnect()
            raise database_away(self._database_url, error) from error
        return [] if awaited is None else self._timers.observe(looked_at, time.monotonic(), awaited)

    def _read(self, ends: Topic) -> list[Awaited] | None:
        """What is awaited, from read models that hold all before `ends`; None when they do not in time."""
        if self._database is None:
            self._database = psycopg.connect(
                self._database_url,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT,
                application_name="jobtrail-watchdog",
            )
        until = time.monotonic() + self.interval
        while True:
            with self._database.transaction():
                self._database.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", g.GENERATION_LOCK)
                generation = g.current_generation(self._database)
                self._database.execute(
                    sql.SQL("SET LOCAL search_path = {}").format(g.search_path(generation))
                )
                if self._holds(ends, generation):
                    with self._database.cursor(row_factory=dict_row) as cursor:
                        return [self._awaited(**row) for row in cursor.execute(SQL["awaited"])]
            if time.monotonic() >= until:
                return None
            time.sleep(LOOK)

    def _holds(self, ends: Topic, generation: int) -> bool:
        assert self._database is not None  # noqa: S101  # the caller has connected
        values = {
            "set": PROJECTION_SET,
            "generation": generation,
            "topic_id": ends.topic_id,
            "partitions": list(ends.ends),
            "ends": list(ends.ends.values()),
        }
        ((holds,),) = self._database.execute(SQL["folded"], values).fetchall()
        return bool(holds)

    def _awaited(self, rule: str, config_type: str | None, **facts: Any) -> Awaited:
        job_type = job_type_of(config_type)
        limit = limit_of(self.settings, Rule(rule), job_type)
        return Awaited(rule=Rule(rule), job_type=job_type, limit=limit, **facts)

    def _publish(self, overdue: Sequence[Awaited]) -> None:
        """Returns when Kafka has what is decided. Raises PublishError; what it did not take is dropped."""
        if not overdue:
            return
        if self._publisher is None:
            self._publisher = Publisher(self.settings, drop_after=PUBLISH_TIMEOUT)
        receipts = [self._publisher.send(event) for one in overdue for event in decision(one)]
        until = time.monotonic() + PUBLISH_TIMEOUT + 1  # the client's own verdict comes first
        for receipt in receipts:
            receipt.wait(max(0.0, until - time.monotonic()))
        refused = [receipt.error for receipt in receipts if not receipt.done or receipt.error]
        if refused:
            raise PublishError(
                f"Kafka at {self._publisher.address} did not take {len(refused)} of {len(receipts)} events of"
                f" the watchdog ({refused[0] or 'no answer in time'}); nobody is failed while it takes none"
            )

    def _disconnect(self) -> None:
        if self._database is not None:
            with contextlib.suppress(psycopg.Error):
                self._database.close()
        self._database = None

    def close(self) -> None:
        """Ends its connections."""
        self._disconnect()
        if self._publisher is not None:
            self._publisher.close()


def run_watchdog(settings: Settings, stop: threading.Event, *, level: int = logging.WARNING) -> None:
    """Observes and decides until `stop` is set; waits for servers that are away, and says so at `level`.

    Raises EmbeddedError where no server is set or runs, NotFoundError where there is no event log.
    """
    away = {server: Away(server, level) for server in ("Kafka", "Postgres")}
    with contextlib.closing(Watchdog(settings)) as watchdog:
        while not stop.wait(watchdog.interval):
            try:
                watchdog.watch()
            except ServerAwayError as error:
                away[error.server].gone(error)
            except PublishError as error:
                log.warning("%s", error)
            else:
                for server in away.values():
                    server.back()
