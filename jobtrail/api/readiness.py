"""How far the read models are behind the event log, and whether that is near enough to trust an answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from jobtrail.api.models import Readiness
from jobtrail.api.queries import query
from jobtrail.api.reads import Database
from jobtrail.consumers.ends import Log, Topic
from jobtrail.errors import JobtrailError
from jobtrail.settings import Settings

#: Messages of the event log that a ready service may be behind: a fraction of a second's work.
READY_WITHIN: Final = 10_000
#: Seconds for which one look is good: probes come often, and each costs Kafka a request per partition leader.
LOOK_AGAIN: Final = 1.0


def behind(database: Database, topic: Topic) -> int:
    """Messages of the topic that the live read models do not hold yet."""
    rows = database.execute(query("checkpoints"), {"topic_id": topic.topic_id})
    next_offsets = {row["log_partition"]: row["next_offset"] for row in rows}
    return sum(max(0, end - next_offsets.get(partition, 0)) for partition, end in topic.ends.items())


class Readings:
    """Whether the service is ready, looked up at most once a second. Thread-safe."""

    def __init__(self, settings: Settings, reading: Callable[[], AbstractContextManager[Database]]) -> None:
        self.settings = settings
        self._log = Log(settings)
        self._reading = reading
        self._lock = threading.Lock()
        self._taken_at = float("-inf")
        self._last = Readiness(ready=False)

    def take(self) -> Readiness:
        """The newest look."""
        with self._lock:
            if time.monotonic() - self._taken_at > LOOK_AGAIN:
                self._last = self._look()
                self._taken_at = time.monotonic()
            return self._last

    def _look(self) -> Readiness:
        reasons, topic, lag = [], None, None
        try:
            topic = self._log.topic(self.settings.events_topic)
        except JobtrailError as error:
            reasons.append(str(error))
        try:
            with self._reading() as database:
                lag = behind(database, topic or Topic("", {}))
        except JobtrailError as error:
            reasons.append(str(error))
        if lag is not None and lag > READY_WITHIN:
            reasons.append(
                f"the read models are {lag:,} messages behind the event log, more than {READY_WITHIN:,}"
            )
        return Readiness(ready=not reasons, reasons=reasons, behind=lag if topic else None)
