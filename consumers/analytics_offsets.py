"""Where the analytics workers go on in the log, and whether it still has what they need there.

aiokafka begins at the log's begin where an offset is out of range, and says nothing; what is missing then is
missing in windows for good.
"""

from __future__ import annotations

from confluent_kafka import Consumer, KafkaException, TopicPartition

from jobtrail.consumers.ends import KAFKA_TIMEOUT, Log
from jobtrail.errors import LogError, ServerAwayError
from jobtrail.producers.client import client_config
from jobtrail.running import KAFKA_SETTING, kafka_address
from jobtrail.settings import Settings


class GroupOffsets:
    """The offsets that the group committed, beside the log. Methods raise ServerAwayError and LogError."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = Log(settings)
        self._address = kafka_address(settings)

    def next(self) -> dict[int, int]:
        """Partition → the offset to read next: the committed one, else that at which the log begins.

        Raises LogError where the log has it no longer, or not yet.
        """
        committed = self.committed()
        self.check(committed)
        return self._log.topic(self._settings.events_topic, begins=True).begins | committed

    def check(self, needed: dict[int, int]) -> None:
        """Raises LogError where the log has not the offset of a partition that is needed next."""
        topic = self._log.topic(self._settings.events_topic, committed=False, begins=True)
        anew = f"begin anew with JOBTRAIL_ANALYTICS_GROUP={self._settings.analytics_group}-2"
        group = self._settings.analytics_group
        for partition, offset in sorted(needed.items()):
            place = f"topic {self._settings.events_topic}, partition {partition}: group {group}"
            begin, end = topic.begins.get(partition, 0), topic.ends.get(partition, 0)
            if offset < begin:
                raise LogError(
                    f"{place} needs offsets {offset} to {begin - 1} next, and"
                    f" they are no longer in the log, which begins at {begin}; restore the topic, or {anew},"
                    " which computes windows of what the log still has"
                )
            if offset > end:
                raise LogError(
                    f"{place} goes on at offset {offset}, but the log ends at"
                    f" {end}: it lost events that windows have; restore the topic, or {anew}"
                )

    def committed(self) -> dict[int, int]:
        """Partition → the offset to read next, of those where one was committed.

        Asks as a member of the group that takes no part. An AdminClient ends the process where the
        group's coordinator is not there yet, or moves: librdkafka 2.16 then looks for a group of its own.
        """
        topic = self._settings.events_topic
        places = [TopicPartition(topic, partition) for partition in self._log.topic(topic).ends]
        consumer = Consumer(
            {
                **client_config(self._settings, self._address),
                "group.id": self._settings.analytics_group,
                "enable.auto.commit": False,
            }
        )
        found: list[TopicPartition] = []
        try:
            found = consumer.committed(places, timeout=KAFKA_TIMEOUT)
            refusal = next((each.error for each in found if each.error), None)
        except KafkaException as error:
            refusal = error.args[0]
        finally:
            consumer.close()
        if refusal is not None:
            raise ServerAwayError("Kafka", self._address, KAFKA_SETTING, refusal.str())
        return {each.partition: each.offset for each in found if each.offset >= 0}
