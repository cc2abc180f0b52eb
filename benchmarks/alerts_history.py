"""Half a year of 50 connections that never were, with incidents planted: the same for the same seed. Pure.

15 connections run hourly, 15 every six hours, 13 daily, 5 on weekdays, one weekly; the last is three days old
at the end. Weekends are quiet, nights quieter, volumes grow, a first run moves all there is, and one after a
gap what was not moved in it; three connections rest for a declared pause, and two have nothing to move at
night. Attempts fail and are tried again, runs fail now and then, are cancelled, are missed. None of that is
an incident.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from jobtrail.consumers.alerts.facts import Facts, Lag, Letter, Outcome, Run, histories
from jobtrail.consumers.alerts.rules import DAY, HOUR, MINUTE, SECOND, WEEK, Pause
from jobtrail.kinds import micros

#: A Monday.
BEGAN: Final = micros(datetime(2026, 1, 5, tzinfo=UTC))
WEEKS: Final = 26
#: Connections of each cadence, and the time between two runs.
CADENCES: Final = {"hourly": (15, HOUR), "6-hourly": (15, 6 * HOUR), "daily": (13, DAY), "weekdays": (5, DAY)}
#: Shares of runs.
ATTEMPT_FAILS: Final = 0.04
RUN_FAILS: Final = 0.005
CONFIG_ERROR: Final = 0.0005
CANCELLED: Final = 0.01
MISSED: Final = 0.002
#: Kind → on how many connections it is planted (dead letters and lag: how often).
PLANTED: Final = {
    "failure_rate": 6,
    "no_success": 8,
    "repeated_config_error": 6,
    "zero_record_success": 8,
    "volume": 8,
    "dead_letters": 3,
    "lag": 3,
}
#: How long an incident lasts that is no single run, by cadence.
LASTS: Final = {"hourly": DAY, "6-hourly": 2 * DAY, "daily": 4 * DAY, "weekdays": 6 * DAY, "weekly": 4 * WEEK}
ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class Connection:
    """One of the connections."""

    connection_id: str
    cadence: str
    #: Between two runs.
    every: int
    #: When its first run is due.
    began: int
    #: Records of a run at noon of a weekday.
    records: float
    #: Has nothing to move at night.
    rests_at_night: bool


@dataclass(frozen=True, slots=True)
class Incident:
    """What was planted."""

    kind: str
    connection_id: str
    began: int
    ended: int
    #: For volume.
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A run as it went, attempt by attempt."""

    run: Run
    #: Attempts that failed before the last one.
    retried: int
    #: The failure's type, where the run failed.
    failure_type: str | None


@dataclass(frozen=True)
class Year:
    """The half year."""

    seed: int
    connections: list[Connection]
    incidents: list[Incident]
    pauses: list[Pause]
    planned: list[Planned]
    letters: list[Letter]
    lags: list[Lag]
    ended: int = field(default=BEGAN + WEEKS * WEEK)

    @property
    def facts(self) -> Facts:
        """What the engine judges."""
        return Facts(histories(plan.run for plan in self.planned), self.letters, self.lags)


def half_year(seed: int, weeks: int = WEEKS) -> Year:
    """Makes it."""
    chance = random.Random(seed)  # noqa: S311  # the same half year each time
    ended = BEGAN + weeks * WEEK
    connections = [*_connections(chance, ended)]
    old = connections[:-1]
    pauses = _pauses(chance, [c for c in old if c.cadence in {"daily", "6-hourly", "hourly"}], ended)
    incidents = _incidents(chance, old, pauses, ended)
    planned = [
        plan
        for number, connection in enumerate(connections)
        for plan in _runs(random.Random(seed * 1009 + number), connection, incidents, pauses, ended)  # noqa: S311
    ]
    letters = sorted(
        (
            Letter(incident.began + place * SECOND, chance.choice(("unknown_schema", "truncated")))
            for incident in incidents
            if incident.kind == "dead_letters"
            for place in range(chance.randrange(1, 40))
        ),
        key=lambda letter: letter.at,
    )
    return Year(
        seed, connections, incidents, pauses, planned, letters, _lags(chance, incidents, ended), ended
    )


def _connections(chance: random.Random, ended: int) -> Iterator[Connection]:
    cadences = [(name, every) for name, (count, every) in CADENCES.items() for _ in range(count)]
    cadences += [("weekly", WEEK), ("daily" if chance.random() < 0.5 else "hourly", 0)]
    for number, (cadence, every) in enumerate(cadences):
        young = number == len(cadences) - 1
        span = every or CADENCES[cadence][1]
        yield Connection(
            connection_id=f"{number:08x}-5eed-4000-8000-000000000000",
            cadence=cadence,
            every=span,
            began=(ended - 3 * DAY if young else BEGAN) + chance.randrange(0, min(span, DAY), MINUTE),
            records=math.exp(chance.uniform(math.log(2_000), math.log(2_000_000))),
            rests_at_night=number in {3, 7},
        )


def _pauses(chance: random.Random, connections: list[Connection], ended: int) -> list[Pause]:
    """One of ten days, of three connections."""
    began = BEGAN + chance.randrange((ended - BEGAN) // 3, (ended - BEGAN) // 2, DAY)
    resting = frozenset(c.connection_id for c in chance.sample(connections, 3))
    return [Pause(began, began + 10 * DAY, resting, "planned")]


def _incidents(
    chance: random.Random, connections: list[Connection], pauses: list[Pause], ended: int
) -> list[Incident]:
    """At most two of a connection, weeks apart; none in a pause, nor in the first three weeks."""
    found: list[Incident] = []

    def free(connection: Connection, began: int, until: int) -> bool:
        around = [(i.began, i.ended) for i in found if i.connection_id == connection.connection_id]
        around += [(p.began, p.ended) for p in pauses if connection.connection_id in p.connections]
        return len(around) < 2 and all(until + 2 * WEEK < b or began > e + 2 * WEEK for b, e in around)

    for kind, count in PLANTED.items():
        planted = 0
        while planted < count:
            began = chance.randrange(BEGAN + 3 * WEEK, ended - WEEK, MINUTE)
            if kind in {"dead_letters", "lag"}:
                found.append(Incident(kind, ALL, began, began + chance.randrange(10, 60) * MINUTE))
                planted += 1
                continue
            connection = chance.choice(connections)
            lasts = LASTS[connection.cadence]
            if kind == "failure_rate" and connection.cadence not in {"hourly", "6-hourly"}:
                continue  # so few runs a day are judged by their successes
            if kind in {"no_success", "repeated_config_error"} and connection.cadence == "weekly":
                continue
            if kind == "zero_record_success" and connection.rests_at_night:
                lasts = 3 * DAY
            if kind in {"zero_record_success", "volume"} and not connection.rests_at_night:
                lasts = connection.every * 3 if connection.cadence != "weekdays" else 4 * DAY
            if not free(connection, began, began + lasts) or began + lasts > ended - 2 * DAY:
                continue
            factor = chance.choice((chance.uniform(0.01, 0.05), chance.uniform(20, 60)))
            found.append(Incident(kind, connection.connection_id, began, began + lasts, factor))
            planted += 1
    return sorted(found, key=lambda incident: incident.began)


def _due(connection: Connection, ended: int) -> Iterator[int]:
    at = connection.began
    while at < ended:
        if connection.cadence != "weekdays" or _weekday(at) < 5:
            yield at
        at += connection.every


def _weekday(at: int) -> int:
    return (at - BEGAN) // DAY % 7


def _volume(connection: Connection, at: int, chance: random.Random) -> float:
    """Records of a run: by the day of the week, the hour, growth, and chance."""
    day = 0.3 if _weekday(at) >= 5 else 1.0
    hour = (at - BEGAN) % DAY / DAY * 24
    of_day = 1 + 0.6 * math.sin((hour - 8) / 24 * 2 * math.pi) if connection.every < DAY else 1.0
    grown = 1 + 0.5 * (at - BEGAN) / (WEEKS * WEEK)
    return connection.records * day * of_day * grown * math.exp(chance.gauss(0, 0.25))


def _runs(
    chance: random.Random,
    connection: Connection,
    incidents: list[Incident],
    pauses: list[Pause],
    ended: int,
) -> Iterator[Planned]:
    ours = [incident for incident in incidents if incident.connection_id == connection.connection_id]
    resting = [pause for pause in pauses if connection.connection_id in pause.connections]
    last_success: int | None = None
    for number, due in enumerate(_due(connection, ended)):
        began = due + int(chance.random() ** 3 * min(connection.every / 4, 45 * MINUTE))
        now = next((incident for incident in ours if incident.began <= began < incident.ended), None)
        paused = any(pause.began <= began < pause.ended for pause in resting)
        if paused or (now and now.kind == "no_success") or chance.random() < MISSED:
            continue
        retried = 0
        while retried < 2 and chance.random() < ATTEMPT_FAILS:
            retried += 1
        end = began + int((2 + 6 * chance.random()) * MINUTE * (1 + retried))
        if end >= ended:
            return
        moved = _moved(connection, began, last_success, now, chance)
        outcome, failure, error = _outcome(now.kind if now else None, number, chance.random())
        if outcome == "succeeded":
            last_success = end
        yield Planned(
            Run(
                connection_id=connection.connection_id,
                job_id=int(connection.connection_id[:8], 16) * 100_000 + number + 1,
                workspace_id=None,
                began=began,
                ended=end,
                outcome=outcome,
                records=moved if outcome == "succeeded" else 0,
                config_error=error,
            ),
            retried,
            failure,
        )


def _moved(
    connection: Connection, began: int, last: int | None, now: Incident | None, chance: random.Random
) -> int:
    """Records of a run that succeeds."""
    moved = _volume(connection, began, chance)
    if last is None:
        moved *= 50  # all there is
    elif connection.every < WEEK:  # what was not moved in time is moved now
        moved *= max(1.0, (began - last) / (1.5 * connection.every))
    at_night = connection.rests_at_night and (began - BEGAN) % DAY < 5 * HOUR
    if at_night or (now and now.kind == "zero_record_success"):
        return 0
    return int(moved * (now.factor if now and now.kind == "volume" else 1))


def _outcome(kind: str | None, number: int, drawn: float) -> tuple[Outcome, str | None, str | None]:
    """How a run ends, its failure's type, and its config error; `kind` of the incident that it is in."""
    if kind == "repeated_config_error":
        return "failed", "config_error", "source: the password was changed"
    if (kind == "failure_rate" and number % 4) or drawn < RUN_FAILS:
        return "failed", "transient_error", None
    if drawn < RUN_FAILS + CONFIG_ERROR:
        return "failed", "config_error", "source: the schema changed"
    return ("cancelled" if drawn < RUN_FAILS + CONFIG_ERROR + CANCELLED else "succeeded"), None, None


def _lags(chance: random.Random, incidents: list[Incident], ended: int) -> list[Lag]:
    """A look every ten minutes, and each minute of an incident."""
    found = [
        Lag(at, int(chance.expovariate(1 / 2) * SECOND), chance.randrange(0, 500))
        for at in range(BEGAN, ended, 10 * MINUTE)
    ]
    for incident in incidents:
        if incident.kind == "lag":
            found = [lag for lag in found if not incident.began <= lag.at <= incident.ended]
            found += [
                Lag(at, at - incident.began, (at - incident.began) // SECOND * 800)
                for at in range(incident.began, incident.ended, MINUTE)
            ]
            found.append(Lag(incident.ended, 0, 0))
    return sorted(found, key=lambda lag: lag.at)
