"""How far the read models are behind the event log, and whether that is near enough to trust an answer.

A dead letter does not make the service unready: its neighbours are folded, and answers are as good as before.
New ones degrade it, so that somebody looks while it is known what was changed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from jobtrail.api.models import Readiness
from jobtrail.api.queries import query
from jobtrail.api.reads import Database
from jobtrail.consumers.ends import Log, Topic
from jobtrail.consumers.records import Place
from jobtrail.errors import JobtrailError, NotFoundError
from jobtrail.projections.letters import Open, open_letters
from jobtrail.settings import Settings

#: Messages of the event log that a ready service may be behind: a fraction of a second's work.
READY_WITHIN: Final = 10_000
#: Seconds for which one look is good: probes come often, and each costs Kafka a request per partition leader.
LOOK_AGAIN: Final = 1.0


def lag(database: Database, topic: Topic) -> dict[int, int]:
    """Partition → messages of the topic that the live read models do not hold yet."""
    rows = database.execute(query("checkpoints"), {"topic_id": topic.topic_id})
    next_offsets = {row["log_partition"]: row["next_offset"] for row in rows}
    return {partition: max(0, end - next_offsets.get(partition, 0)) for partition, end in topic.ends.items()}


def behind(database: Database, topic: Topic) -> int:
    """The same of all its partitions."""
    return sum(lag(database, topic).values())


@dataclass(frozen=True, slots=True)
class Look:
    """What there was to see at once."""

    readiness: Readiness
    #: (topic, partition) → messages that are not folded yet; without those that nobody tells.
    lag: Mapping[Place, int] = field(default_factory=lambda: MappingProxyType({}))
    #: None where Postgres does not tell.
    open_letters: Sequence[Open] | None = None


class Readings:
    """Whether the service is ready, looked up at most once a second. Thread-safe."""

    def __init__(self, settings: Settings, reading: Callable[[], AbstractContextManager[Database]]) -> None:
        self.settings = settings
        self._log = Log(settings)
        self._reading = reading
        self._lock = threading.Lock()
        self._taken_at = float("-inf")
        self._last = Look(Readiness(ready=False))

    def take(self) -> Look:
        """The newest look."""
        with self._lock:
            if time.monotonic() - self._taken_at > LOOK_AGAIN:
                self._last = self._look()
                self._taken_at = time.monotonic()
            return self._last

    def _look(self) -> Look:
        events, *others = self.settings.projected_topics
        reasons, topics, lags, letters = list[str](), dict[str, Topic](), dict[Place, int](), None
        try:
            topics[events] = self._log.topic(events)
            for other in others:
                with contextlib.suppress(NotFoundError):  # no answer needs it to be there
                    topics[other] = self._log.topic(other)
        except JobtrailError as error:
            reasons.append(str(error))
        try:
            with self._reading() as database:
                letters = open_letters(database)
                for name, topic in topics.items():
                    lags |= {(name, partition): late for partition, late in lag(database, topic).items()}
        except JobtrailError as error:
            reasons.append(str(error))
        late = sum(lags[place] for place in lags if place[0] == events)
        if late > READY_WITHIN:
            reasons.append(
                f"the read models are {late:,} messages behind the event log, more than {READY_WITHIN:,}"
            )
        warnings = [f"dead letters: {said}" for said in _new(letters or [])]
        readiness = Readiness(
            ready=not reasons,
            reasons=reasons,
            degraded=bool(warnings),
            warnings=warnings,
            behind=late if events in topics and letters is not None else None,
            dead_letters=None if letters is None else sum(one.letters for one in letters),
        )
        return Look(readiness, lags, letters)


def _new(letters: Sequence[Open]) -> list[str]:
    """One text where some are new."""
    new = [f"{one.new:,} {one.reason}" for one in letters if one.new]
    return [f"{', '.join(new)} in the last hour; `jobtrail dead-letters list` shows them"] if new else []
