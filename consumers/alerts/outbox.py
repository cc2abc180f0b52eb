"""Delivers what is in the outbox: to the topic, confirmed; to the log; to webhooks, tried again with backoff.

At least once, as each row is marked after it was delivered: killed in between, the next run sends the same
again, with the same event id or idempotency key. Several share the work, each passing by what another one has
locked. Nothing is given up silently: the topic is tried for ever, and a webhook that took nothing for a day
is named in the log and in `jobtrail alerts list`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

import psycopg
from psycopg.rows import class_row

from jobtrail.consumers.alerts.rules import RuleSet
from jobtrail.consumers.alerts.webhook import Target, WebhookError, post, target
from jobtrail.consumers.waiting import (
    Away,
    Refused,
    StoppedError,
    database_address,
    database_away,
    until_it_answers,
)
from jobtrail.errors import PublishError
from jobtrail.events import AlertEvent, AlertResolved, AlertTriggered
from jobtrail.producers.client import PLAIN
from jobtrail.producers.publisher import Publisher
from jobtrail.projections.generation import named_statements
from jobtrail.settings import Settings

log = logging.getLogger("jobtrail.alerts")
log.addFilter(PLAIN)

SQL: Final = named_statements("outbox.sql", "consumers/alerts")
#: Rows in one transaction.
BATCH: Final = 200
#: Seconds between two looks.
INTERVAL: Final = 1.0
#: Seconds that Kafka has to confirm a batch.
CONFIRM_TIMEOUT: Final = 30.0
#: Seconds before a webhook is tried again: from the first to the longest, doubling; and until it is given up.
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 600.0
WEBHOOK_PATIENCE: Final = 86_400.0
#: Threads that post; webhooks are dealt out among them, so that one that hangs holds up few others.
POSTING: Final = 8


@dataclass(frozen=True, slots=True)
class Kept:
    """A row of the outbox."""

    event_id: str
    channel: str
    alert_id: str
    status: str
    body: dict[str, Any]
    kept_at: datetime
    tries: int

    @property
    def event(self) -> AlertEvent:
        """What the topic has of it."""
        moments = {name: datetime.fromisoformat(self.body[name]) for name in _MOMENTS}
        facts: dict[str, Any] = {
            "event_id": self.event_id,
            "occurred_at": moments["occurredAt"],
            "alert_id": self.alert_id,
            "rule": self.body["rule"],
            "rule_version": self.body["ruleVersion"],
            "kind": self.body["kind"],
            "severity": self.body["severity"],
            "subject": self.body["subject"],
            "connection_id": self.body["connectionId"],
            "workspace_id": self.body["workspaceId"],
            "window_began_at": moments["windowBeganAt"],
            "window_ended_at": moments["windowEndedAt"],
            "detail": self.body["detail"],
        }
        if self.status == "triggered":
            return AlertTriggered(**facts)
        return AlertResolved(triggered_at=moments["triggeredAt"], **facts)

    @property
    def message_id(self) -> str:
        """The idempotency key of a webhook."""
        return self.alert_id if self.status == "triggered" else f"{self.alert_id}:{self.status}"


_MOMENTS: Final = ("occurredAt", "windowBeganAt", "windowEndedAt", "triggeredAt")


def prepared_webhooks(rules: RuleSet) -> dict[str, Target]:
    """Those that a rule sends to. Raises SettingError where a variable is not set or is no address."""
    used = {name for rule in rules.rules for name in rule.send}
    return {name: target(webhook) for name, webhook in rules.webhooks.items() if name in used}


class Outbox:
    """What waits, and how it goes. Each method opens a connection of its own; from any thread."""

    def __init__(
        self,
        settings: Settings,
        targets: Mapping[str, Target],
        *,
        pause: float = FIRST_PAUSE,
        patience: float = WEBHOOK_PATIENCE,
    ) -> None:
        """`pause`: seconds before the second try of a webhook; `patience`: seconds until it is given up."""
        self._settings = settings
        self._targets = {f"webhook:{name}": found for name, found in targets.items()}
        self._database_url = database_address(settings)
        self._pause, self._patience = pause, patience
        self._publisher: Publisher | None = None

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            with psycopg.connect(
                self._database_url, autocommit=True, connect_timeout=10, application_name="jobtrail-alerts"
            ) as connection:
                yield connection
        except psycopg.OperationalError as error:
            raise database_away(self._database_url, error) from error

    def publish(self) -> int:
        """Publishes and logs what waits; how much.

        Raises ServerAwayError, and PublishError where Kafka did not take all.
        """
        done = 0
        with self._connection() as connection:
            while rows := self._publish_batch(connection):
                done += rows
        return done

    def _publish_batch(self, connection: psycopg.Connection[Any]) -> int:
        with connection.transaction(), connection.cursor(row_factory=class_row(Kept)) as cursor:
            rows = cursor.execute(SQL["take_topic"], {"limit": BATCH}).fetchall()
            refused = self._confirmed([row for row in rows if row.channel == "topic"])
            for row in rows:
                if row.channel == "log":
                    _say(row)
                if row.event_id not in refused or row.channel == "log":
                    cursor.execute(SQL["delivered"], {"event_id": row.event_id, "channel": row.channel})
        if refused:
            raise PublishError(
                f"topic {self._settings.alerts_topic} did not take {len(refused)} of the events of alerts"
                f" ({next(iter(refused.values()))}); they stay to be published"
            )
        return len(rows)

    def _confirmed(self, rows: Sequence[Kept]) -> dict[str, str]:
        """Publishes them; event id → why, of those that Kafka did not confirm."""
        if not rows:
            return {}
        if self._publisher is None:
            self._publisher = Publisher(self._settings, drop_after=CONFIRM_TIMEOUT)
        receipts = {row.event_id: self._publisher.send(row.event) for row in rows}
        until = time.monotonic() + CONFIRM_TIMEOUT + 1
        for receipt in receipts.values():
            receipt.wait(max(0.0, until - time.monotonic()))
        return {
            event_id: receipt.error or "no answer in time"
            for event_id, receipt in receipts.items()
            if receipt.error or not receipt.done
        }

    def post(self, place: int = 0, of: int = 1) -> bool:
        """Posts one that is due to each webhook, in turn; False: none was. Raises ServerAwayError.

        `place`, `of`: which share of the webhooks, of how many.
        """
        with self._connection() as connection:
            posted = [self._post_one(connection, channel) for channel in [*self._targets][place::of]]
        return any(posted)

    def _post_one(self, connection: psycopg.Connection[Any], channel: str) -> bool:
        with connection.transaction(), connection.cursor(row_factory=class_row(Kept)) as cursor:
            row = cursor.execute(SQL["take_webhook"], {"channel": channel}).fetchone()
            if row is None:
                return False
            about = {"event_id": row.event_id, "channel": row.channel}
            try:
                post(self._targets[row.channel], row.message_id, row.body)
            except WebhookError as error:
                pause = min(self._pause * 2 ** min(row.tries, 30), LONGEST_PAUSE)
                tried = {**about, "problem": str(error), "pause": pause, "patience": self._patience}
                ((given_up,),) = connection.execute(SQL["failed"], tried).fetchall()
                log.log(
                    logging.ERROR if given_up else logging.WARNING if not row.tries else logging.DEBUG,
                    "%s did not take alert %s (%s): %s",
                    row.channel.replace(":", " "),
                    row.alert_id,
                    error,
                    "given up" if given_up else f"tried again for {self._patience / 3600:g} h",
                )
            else:
                cursor.execute(SQL["delivered"], about)
        return True

    def forget_orphans(self) -> None:
        """Gives up what is for webhooks that are no more, and says so."""
        with self._connection() as connection:
            orphans = connection.execute(SQL["orphans"], {"channels": list(self._targets)}).fetchall()
        if orphans:
            names = ", ".join(sorted({channel.partition(":")[2] for (channel,) in orphans}))
            log.warning(
                "%d alerts are not posted: the rules have no webhook %s any more", len(orphans), names
            )

    def close(self) -> None:
        """Ends its Kafka client."""
        if self._publisher is not None:
            self._publisher.close()


def _say(row: Kept) -> None:
    body = row.body
    level = logging.INFO if row.status == "resolved" or body["severity"] == "info" else logging.WARNING
    if body["severity"] == "critical" and row.status == "triggered":
        level = logging.ERROR
    log.log(
        level,
        "alert %s: %s (%s, %s) for %s: %s",
        row.status,
        body["rule"],
        body["kind"],
        body["severity"],
        body["subject"],
        body["detail"],
    )


@contextmanager
def delivering(settings: Settings, targets: Mapping[str, Target]) -> Iterator[None]:
    """Delivers in threads of its own until the end of the block."""
    stop = threading.Event()
    outbox = Outbox(settings, targets)
    posting = min(len(targets), POSTING)
    works: list[tuple[Callable[[], object], bool]] = [(outbox.publish, False), (outbox.forget_orphans, True)]
    works += [(partial(outbox.post, place, posting), False) for place in range(posting)]
    threads = [
        threading.Thread(target=_run, args=(work, stop), kwargs={"once": once}, daemon=True)
        for work, once in works
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        outbox.close()


def _run(work: Callable[[], object], stop: threading.Event, *, once: bool) -> None:
    """Does it again and again, or until it was done once; what goes wrong is said once, and tried again."""
    away = Away("Postgres", logging.DEBUG)  # the alerter says so already
    refused, said = Refused("alerts are not delivered", log), False
    while not stop.is_set():
        more: object = None
        try:
            more = until_it_answers(away, stop, work)
            if once:
                return
            said = False
            refused.over()
        except StoppedError:
            return
        except PublishError as error:
            if not said:
                log.warning("%s", error)
            said = True
        except psycopg.Error as error:
            refused.again(error)
        if not more:
            stop.wait(INTERVAL)
