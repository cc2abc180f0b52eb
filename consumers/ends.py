"""Where the partitions of a topic end: what there is to be folded at the moment of a look."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec  # where it is typed

from jobtrail.errors import NotFoundError, ServerAwayError
from jobtrail.kinds import micros
from jobtrail.producers.client import client_config
from jobtrail.running import KAFKA_SETTING, kafka_address
from jobtrail.settings import Settings

#: Seconds that Kafka has for one answer.
KAFKA_TIMEOUT: Final = 3.0
#: What it answers while a partition changes its leader, or has none yet; and seconds between two questions.
MOVING: Final = frozenset({KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE})
LOOK: Final = 0.1


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it stands."""

    topic_id: str
    #: Partition → offset after its last message.
    ends: dict[int, int]
    #: Partition → offset of the first message that the topic still has; where it was asked for.
    begins: dict[int, int] = field(default_factory=dict)


class Log:
    """Looks at the topics of an installation; connects at the first look."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._admin: AdminClient | None = None

    def topic(self, name: str, *, committed: bool = True, begins: bool = False) -> Topic:
        """Where the partitions of a topic end; `committed`: before what an open transaction wrote.

        With `begins` also where they begin.

        Raises ServerAwayError where Kafka does not answer, NotFoundError where the topic is not there.
        """
        address = kafka_address(self.settings)
        if self._admin is None:
            self._admin = AdminClient(dict[str, Any](client_config(self.settings, address)))
        try:
            future = self._admin.describe_topics(TopicCollection([name]), request_timeout=KAFKA_TIMEOUT)[name]
            found = future.result(KAFKA_TIMEOUT + 1)
            places = [TopicPartition(name, part.id) for part in found.partitions]
            level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
            ends = self._offsets(places, OffsetSpec.latest(), level)  # type: ignore[no-untyped-call]
            first = self._offsets(places, OffsetSpec.earliest(), level) if begins else {}  # type: ignore[no-untyped-call]
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise NotFoundError(
                    f"Kafka at {address} has no topic {name}; `jobtrail up` makes it"
                ) from None
            raise ServerAwayError("Kafka", address, KAFKA_SETTING, error.args[0].str()) from error
        except TimeoutError as error:
            raise ServerAwayError("Kafka", address, KAFKA_SETTING, "no answer in time") from error
        return Topic(str(found.topic_id), ends, first)

    def offsets_at(self, name: str, ends: Mapping[int, int], moment: datetime) -> dict[int, int]:
        """Partition → offset of its first message that the broker took at the moment or later, else its end.

        Raises ServerAwayError.
        """
        milliseconds = -(-micros(moment) // 1000)  # the broker knows no finer time
        places = [TopicPartition(name, partition) for partition in ends]
        try:
            spec = OffsetSpec.for_timestamp(milliseconds)
            found = self._offsets(places, spec, IsolationLevel.READ_COMMITTED)
        except (KafkaException, TimeoutError) as error:
            detail = error.args[0].str() if isinstance(error, KafkaException) else "no answer in time"
            raise ServerAwayError("Kafka", kafka_address(self.settings), KAFKA_SETTING, detail) from error
        return {
            partition: end if (at := found[partition]) < 0 else min(at, end)
            for partition, end in ends.items()
        }

    def _offsets(
        self, places: list[TopicPartition], spec: OffsetSpec, level: IsolationLevel
    ) -> dict[int, int]:
        assert self._admin is not None  # noqa: S101  # made by `topic`
        asked = dict.fromkeys(places, spec)
        until = time.monotonic() + KAFKA_TIMEOUT
        while True:
            offsets = self._admin.list_offsets(asked, request_timeout=KAFKA_TIMEOUT, isolation_level=level)
            try:
                return {
                    place.partition: answer.result(KAFKA_TIMEOUT + 1).offset
                    for place, answer in offsets.items()
                }
            except KafkaException as error:
                if error.args[0].code() not in MOVING or time.monotonic() > until:
                    raise
            time.sleep(LOOK)
