"""How far the read models are behind the event log, and whether that is near enough to trust an answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec  # where it is typed

from jobtrail.api.models import Readiness
from jobtrail.api.queries import query
from jobtrail.api.reads import Database
from jobtrail.errors import JobtrailError, NotFoundError, ServerAwayError
from jobtrail.producers.client import client_config
from jobtrail.running import KAFKA_SETTING, kafka_address
from jobtrail.settings import Settings

#: Messages of the event log that a ready service may be behind: a fraction of a second's work.
READY_WITHIN: Final = 10_000
#: Seconds for which one look is good: probes come often, and each costs Kafka a request per partition leader.
LOOK_AGAIN: Final = 1.0
KAFKA_TIMEOUT: Final = 3.0


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it stands."""

    topic_id: str
    #: Partition → offset after its last message that can be read.
    ends: dict[int, int]


class Log:
    """Looks at the topics of an installation; connects at the first look."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._admin: AdminClient | None = None

    def topic(self, name: str) -> Topic:
        """Raises ServerAwayError where Kafka does not answer, NotFoundError where the topic is not there."""
        address = kafka_address(self.settings)
        if self._admin is None:
            self._admin = AdminClient(dict[str, Any](client_config(self.settings, address)))
        try:
            newest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
            future = self._admin.describe_topics(TopicCollection([name]), request_timeout=KAFKA_TIMEOUT)[name]
            found = future.result(KAFKA_TIMEOUT + 1)
            wanted = {TopicPartition(name, part.id): newest for part in found.partitions}
            offsets = self._admin.list_offsets(
                wanted, request_timeout=KAFKA_TIMEOUT, isolation_level=IsolationLevel.READ_COMMITTED
            )
            ends = {
                place.partition: answer.result(KAFKA_TIMEOUT + 1).offset for place, answer in offsets.items()
            }
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise NotFoundError(
                    f"Kafka at {address} has no topic {name}; `jobtrail up` makes it"
                ) from None
            raise ServerAwayError("Kafka", address, KAFKA_SETTING, error.args[0].str()) from error
        except TimeoutError as error:
            raise ServerAwayError("Kafka", address, KAFKA_SETTING, "no answer in time") from error
        return Topic(str(found.topic_id), ends)


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
