"""The alerter: judges minute by minute; state, outbox and checkpoint are written in one transaction.

- A look asks Kafka where the log ends, waits until the read models hold all that is before, and judges the
  minutes until shortly before the look. So nothing is judged by half of what had happened, and nothing while
  read models are behind, are made anew, or belong to another release; only the lag is judged then.
- The checkpoint is the last minute that was judged. At its first start an alerter begins there and then; a
  rule that is new begins when it is first seen. A window that had ended by then is never told of: its
  alert is kept, and can be listed, but not sent. A rebuild changes neither checkpoint nor state.
- An alert's id is a hash of rule, version, subject and window. One alerter judges at a time (an advisory
  lock for the transaction), and another one finds the checkpoint where the first has left it.
- What comes late is judged in the next minute: an open alert that no longer holds resolves. What comes later
  than OVERLAP after it happened is judged once all is read again: each minute, or each fifty times as long as
  that takes.
- When Kafka was away, producers have a minute to deliver what they kept.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.rows import class_row, dict_row, tuple_row
from psycopg.types.json import Jsonb

from jobtrail.consumers.alerts.engine import Change, Subject, alert_id, changes, subjects
from jobtrail.consumers.alerts.facts import Facts, Run, histories
from jobtrail.consumers.alerts.outbox import delivering, prepared_webhooks
from jobtrail.consumers.alerts.reading import (
    from_micros,
    lags,
    letters,
    now,
    read_runs,
    replaced,
    undecided,
)
from jobtrail.consumers.alerts.rule_file import load
from jobtrail.consumers.alerts.rules import MINUTE, Rule, RuleSet
from jobtrail.consumers.alerts.webhook import Target
from jobtrail.consumers.ends import Log, Topic
from jobtrail.consumers.waiting import Away, Refused, database_address, database_away
from jobtrail.errors import ConflictError, JobtrailError, ServerAwayError
from jobtrail.events import decision_id
from jobtrail.kinds import micros
from jobtrail.projections.generation import check_version, named_statements
from jobtrail.projections.store import PROJECTION_SET
from jobtrail.projections.tables import VERSION
from jobtrail.settings import Settings

log = logging.getLogger("jobtrail.alerts")

SQL: Final = named_statements("alerter.sql", "consumers/alerts")
#: Held while one alerter judges.
LOCK: Final = (0x6A6F64, 1)
#: Held for a moment by who begins; and, shared, as long as it runs, by which rules an alerter judges.
BEGIN_LOCK: Final = (0x6A6F64, 2)
RULES_LOCK: Final = 0x6A6F65
#: Seconds between two looks; between looks at read models that are behind; and how long they are waited for.
LOOK: Final = 5.0
GLANCE: Final = 0.05
PATIENCE: Final = 5.0
#: Between what happens and its place in the log: what is younger is not judged yet.
GRACE: Final = timedelta(seconds=10)
#: Seconds that producers have after Kafka was away.
RETURN: Final = 60.0
#: History that is kept in memory, and asked for what is usual.
LOOKBACK: Final = timedelta(weeks=13)
#: By how much what is read again overlaps what was read before.
OVERLAP: Final = timedelta(hours=6)
#: All is read again, for what came later than that, so that reading takes this share of the time at most.
RELOADING: Final = 0.02
FEWEST_SECONDS: Final = 60.0
#: How long the lag, and what was sent, is kept.
KEPT: Final = timedelta(days=100)
CONNECT_TIMEOUT: Final = 5


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file of rules, and where its webhooks are."""

    rules: RuleSet
    targets: Mapping[str, Target]


@dataclass(frozen=True, slots=True)
class Open:
    """An alert that has not resolved. A row of jobtrail.alerts."""

    alert_id: str
    rule: str
    rule_version: str
    kind: str
    severity: str
    subject: str
    connection_id: str | None
    workspace_id: str | None
    window_began_at: datetime
    window_ended_at: datetime
    triggered_at: datetime
    detail: str
    sent: bool
    send_to: list[str]


def prepared(file: Path) -> Prepared:
    """Raises RuleFileError for mistakes, SettingError where a webhook's variable is not set or no address."""
    rules = load(file)
    return Prepared(rules, prepared_webhooks(rules))


class Known:
    """The facts of the last weeks, in memory; read again where they may have changed."""

    def __init__(self, retry_wait: float) -> None:
        self._retry_wait = retry_wait
        self._runs: dict[int, Run] = {}
        self._read_to: datetime | None = None
        self._reload_at = 0.0

    def facts(self, connection: psycopg.Connection[Any], until: datetime) -> Facts:
        """Until a moment. The connection is in a transaction."""
        oldest = until - LOOKBACK
        begun = time.monotonic()
        if self._read_to is None or begun >= self._reload_at:
            self._runs = replaced((), read_runs(connection, oldest, until, self._retry_wait), set())
            took = time.monotonic() - begun
            self._reload_at = time.monotonic() + max(FEWEST_SECONDS, took / RELOADING)
        else:
            since = self._read_to - OVERLAP
            gone = undecided(connection, since)
            newer = read_runs(connection, since, until, self._retry_wait)
            self._runs = replaced(self._runs.values(), newer, gone)
        self._read_to = until
        begin = micros(oldest)
        runs = (run for run in self._runs.values() if run.ended >= begin)
        return Facts(histories(runs), letters(connection, oldest, until), lags(connection, oldest, until))


class Alerter:
    """One alerter. Not thread-safe."""

    def __init__(
        self,
        settings: Settings,
        rules: RuleSet,
        *,
        clock: Callable[[psycopg.Connection[Any]], datetime] = now,
        patience: float = PATIENCE,
    ) -> None:
        """`clock`: what time it is; `patience`: seconds that a look waits for the read models.

        Raises EmbeddedError where no Postgres is set or runs.
        """
        self._clock, self._patience = clock, patience
        self._settings, self._rules = settings, rules
        self._log = Log(settings)
        self._database_url = database_address(settings)
        self._database: psycopg.Connection[Any] | None = None
        #: Whether no other alerter judges by other rules.
        self._admitted = False
        self._known = Known(settings.pickup_limit)
        #: Ends of the log that the read models had not reached, and when seen: one a minute; oldest first.
        self._unmet: deque[tuple[datetime, Topic]] = deque()
        self._not_before = 0.0

    def look(self) -> int:
        """Judges what can be judged; how many alerts triggered or resolved.

        Raises ServerAwayError, NotFoundError where there is no event log, VersionError, and psycopg.Error for
        what Postgres refuses.
        """
        try:
            connection = self._connected()
            check_version(connection, VERSION)
            began = self._clock(connection)
            try:
                topic = self._log.topic(self._settings.events_topic, committed=False, begins=True)
            except ServerAwayError:
                self._not_before = time.monotonic() + RETURN
                raise
            held, behind, lacking = self._held(connection, began, topic)
            if time.monotonic() < self._not_before:
                return 0
            return self._judge(connection, began, behind, lacking, held=held)
        except psycopg.OperationalError as error:
            self.close()
            raise database_away(self._database_url, error) from error
        except psycopg.Error:
            self.close()  # some of them end the session
            raise

    def begin(self) -> None:
        """To be called before `look`. Raises ConflictError while another alerter judges by other rules.

        Each of the two would resolve what the other tells. Raises ServerAwayError, and psycopg.Error.
        """
        if self._admitted:
            return
        try:
            connection = self._connected()
            mine = {"class": RULES_LOCK, "rules": self._rules.digest}
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", BEGIN_LOCK)
                ((others,),) = connection.execute(SQL["others"], mine).fetchall()
                if others:
                    raise ConflictError(
                        "another alerter judges by other rules, and would resolve what these tell; stop it,"
                        " or give both the same file"
                    )
                connection.execute(SQL["judge_by"], mine)
        except psycopg.OperationalError as error:
            self.close()
            raise database_away(self._database_url, error) from error
        except psycopg.Error:
            self.close()
            raise
        self._admitted = True

    def _connected(self) -> psycopg.Connection[Any]:
        if self._database is None:
            self._database = psycopg.connect(
                self._database_url,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT,
                application_name="jobtrail-alerter",
            )
        return self._database

    # ---- what the read models hold

    def _held(
        self, connection: psycopg.Connection[Any], at: datetime, topic: Topic
    ) -> tuple[bool, timedelta, int]:
        """Whether they hold all before these ends; for how long they have lacked something, and how much."""
        until = time.monotonic() + self._patience
        lacking = self._lacking(connection, topic)
        while lacking and time.monotonic() < until:
            time.sleep(GLANCE)
            lacking = self._lacking(connection, topic)
        if not lacking:
            self._unmet.clear()
            return True, timedelta(0), 0
        while self._unmet and not self._lacking(connection, self._unmet[0][1]):
            self._unmet.popleft()
        if not self._unmet or at - self._unmet[-1][0] >= timedelta(minutes=1):
            self._unmet.append((at, topic))
        return False, self._clock(connection) - self._unmet[0][0], lacking

    def _lacking(self, connection: psycopg.Connection[Any], topic: Topic) -> int:
        values = {
            "set": PROJECTION_SET,
            "topic_id": topic.topic_id,
            "partitions": list(topic.ends),
            "begins": [topic.begins.get(partition, 0) for partition in topic.ends],
            "ends": list(topic.ends.values()),
        }
        ((lacking,),) = connection.execute(SQL["folded"], values).fetchall()
        return int(lacking)

    # ---- judging

    def _judge(
        self,
        connection: psycopg.Connection[Any],
        began: datetime,
        behind: timedelta,
        lacking: int,
        *,
        held: bool,
    ) -> int:
        lag_to = micros(began) // MINUTE * MINUTE
        to = micros(began - GRACE) // MINUTE * MINUTE if held else None
        with connection.transaction():
            ((alone,),) = connection.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", LOCK).fetchall()
            if not alone:
                return 0
            row = connection.execute(SQL["checkpoint"]).fetchone()
            if row is None:
                first = {"at": began, "judged_to": from_micros(micros(began - GRACE) // MINUTE * MINUTE)}
                connection.execute(SQL["start"], first)
                self._first_seen(connection, began)
                return 0
            judged_to, lag_judged_to = micros(row[1]), micros(row[2])
            connection.execute(SQL["lag"], {"at": from_micros(lag_to), "behind": behind, "messages": lacking})
            to = max(judged_to, to or 0)
            lag_to = max(lag_judged_to, lag_to)
            if to == judged_to and lag_to == lag_judged_to:
                return 0
            spans = {True: (judged_to, to), False: (lag_judged_to, lag_to)}
            told = _Telling(connection, self._rules, self._first_seen(connection, began)).tell(
                self._known.facts(connection, from_micros(max(to, lag_to))), spans
            )
            connection.execute(
                SQL["move"], {"judged_to": from_micros(to), "lag_judged_to": from_micros(lag_to)}
            )
            if lag_to // (60 * MINUTE) != lag_judged_to // (60 * MINUTE):
                for forget in ("forget_lags", "forget_outbox"):
                    connection.execute(SQL[forget], {"before": began - KEPT})
        return told

    def _first_seen(self, connection: psycopg.Connection[Any], at: datetime) -> dict[str, datetime]:
        found = {}
        for rule in self._rules.rules:
            values = {"name": rule.name, "version": rule.version, "at": at}
            ((found[rule.name],),) = connection.execute(SQL["rule"], values).fetchall()
        return found

    def close(self) -> None:
        """Ends its connection."""
        if self._database is not None:
            with contextlib.suppress(psycopg.Error):
                self._database.close()
        self._database, self._admitted = None, False


class _Telling:
    """What becomes of alerts in one transaction."""

    def __init__(
        self, connection: psycopg.Connection[Any], rules: RuleSet, first_seen: Mapping[str, datetime]
    ) -> None:
        self._connection, self._rules, self._first_seen = connection, rules, first_seen
        self._told = 0

    def tell(self, facts: Facts, spans: Mapping[bool, tuple[int, int]]) -> int:
        """`spans`: after which minute and to which to judge; False: the lag, True: all else."""
        still = {(one.rule, one.subject): one for one in self._opened()}
        for key, one in [*still.items()]:
            if why := self._outdated(one):
                self._resolve(one, spans[True][1], why)
                del still[key]
        for rule in self._rules.rules:
            after, to = spans[rule.kind != "lag"]
            if to <= after:
                continue
            gone = {name: one for (of, name), one in still.items() if of == rule.name}
            for subject in subjects(rule, facts, self._rules.pauses):
                self._follow(rule, subject, gone.pop(subject.name, None), after, to)
            for one in gone.values():
                self._resolve(
                    one, to, "there is nothing to judge it by any more: no run for long, or out of scope"
                )
        return self._told

    def _opened(self) -> list[Open]:
        with self._connection.cursor(row_factory=class_row(Open)) as cursor:
            return cursor.execute(SQL["open"]).fetchall()

    def _outdated(self, one: Open) -> str | None:
        """Why an open alert is none any more whatever the facts say."""
        rule = next((rule for rule in self._rules.rules if rule.name == one.rule), None)
        if rule is None:
            return "the rule was removed"
        return "the rule was changed" if rule.version != one.rule_version else None

    def _follow(self, rule: Rule, subject: Subject, opened: Open | None, after: int, to: int) -> None:
        for change in changes(subject, after, to, is_open=opened is not None):
            if change.triggers:
                opened = self._trigger(rule, subject, change)
            elif opened is not None:
                self._resolve(opened, change.at, change.verdict.detail)

    def _trigger(self, rule: Rule, subject: Subject, change: Change) -> Open | None:
        """The alert, now open; None where it was told of before, and has resolved."""
        ended = from_micros(change.verdict.ended)
        one = Open(
            alert_id=alert_id(rule, subject.name, change.verdict),
            rule=rule.name,
            rule_version=rule.version,
            kind=rule.kind,
            severity=rule.severity,
            subject=subject.name,
            connection_id=subject.connection_id,
            workspace_id=subject.workspace_id,
            window_began_at=from_micros(change.verdict.began),
            window_ended_at=ended,
            triggered_at=from_micros(change.at),
            detail=change.verdict.detail,
            sent=ended > self._first_seen[rule.name],
            send_to=list(rule.send),
        )
        values = {name: getattr(one, name) for name in Open.__slots__}
        if not self._connection.execute(SQL["trigger"], values).rowcount:
            return None
        if one.sent:
            self._send(one, "triggered", one.alert_id, {"occurredAt": one.triggered_at, "detail": one.detail})
        return one

    def _resolve(self, one: Open, at: int, why: str) -> None:
        resolved_at = max(from_micros(at), one.triggered_at)
        values = {"alert_id": one.alert_id, "resolved_at": resolved_at, "resolution": why}
        self._connection.execute(SQL["resolve"], values)
        if one.sent:
            event_id = decision_id("alert-resolved", one.alert_id, micros(resolved_at))
            self._send(one, "resolved", event_id, {"occurredAt": resolved_at, "detail": why})

    def _send(self, one: Open, status: str, event_id: str, said: Mapping[str, Any]) -> None:
        self._told += 1
        body = {
            "alertId": one.alert_id,
            "status": status,
            "rule": one.rule,
            "ruleVersion": one.rule_version,
            "kind": one.kind,
            "severity": one.severity,
            "subject": one.subject,
            "connectionId": one.connection_id,
            "workspaceId": one.workspace_id,
            "windowBeganAt": one.window_began_at,
            "windowEndedAt": one.window_ended_at,
            "triggeredAt": one.triggered_at,
            **said,
        }
        shown = {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in body.items()
        }
        for channel in ("topic", *(name if name == "log" else f"webhook:{name}" for name in one.send_to)):
            self._connection.execute(
                SQL["send"],
                {
                    "event_id": event_id,
                    "channel": channel,
                    "alert_id": one.alert_id,
                    "status": status,
                    "body": Jsonb(shown),
                },
            )


def run_alerter(
    settings: Settings, rules: Prepared, stop: threading.Event, *, level: int = logging.WARNING
) -> None:
    """Judges and sends until `stop` is set; waits for servers that are away, and says so at `level`.

    Raises EmbeddedError where no server is set or runs.
    """
    away = {server: Away(server, level) for server in ("Kafka", "Postgres")}
    lacking = Away("The event log or the read models", level)
    refused = Refused("alerts are not judged", log)
    with contextlib.closing(Alerter(settings, rules.rules)) as alerter, delivering(settings, rules.targets):
        while True:
            try:
                alerter.begin()
                alerter.look()
            except ServerAwayError as error:
                away[error.server].gone(error)
            except JobtrailError as error:
                lacking.gone(error)
            except psycopg.Error as error:
                refused.again(error)
            else:
                refused.over()
                for server in (*away.values(), lacking):
                    server.back()
            if stop.wait(LOOK):
                return


def judged_to(connection: psycopg.Connection[Any]) -> tuple[datetime, datetime] | None:
    """The minute to which alerters have judged, and what time it is; None: no alerter has ever run."""
    return connection.cursor(row_factory=tuple_row).execute(SQL["judged"]).fetchone()


def listed(
    connection: psycopg.Connection[Any], *, only_open: bool, limit: int
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Open alerts, then the newest others, as rows; and how many there are, open and in all."""
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(SQL["list"], {"open": only_open, "limit": limit}).fetchall()
        counted = cursor.execute(SQL["count"]).fetchone() or {}
    return found, counted
