"""The topics: made as the event log needs them, and refused where they would lose or misdate events."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from types import MappingProxyType
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, but its types do not say so
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from jobtrail.errors import LogError, NotFoundError, ServerAwayError
from jobtrail.producers.client import client_config
from jobtrail.running import KAFKA_SETTING, kafka_address
from jobtrail.settings import Settings

log = logging.getLogger("jobtrail")
T = TypeVar("T")

#: Never compacted, kept for ever, dated by the broker: see DESIGN in ARCHITECTURE.md.
TOPIC_CONFIG: Final[Mapping[str, str]] = MappingProxyType(
    {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "message.timestamp.type": "LogAppendTime",
    }
)
#: A changelog keeps the newest of each key. What was written over stays for a day: should a worker that had
#: lost its partitions have written, the better value before it is still found (`_FactsTable`).
CHANGELOG_CONFIG: Final[Mapping[str, str]] = MappingProxyType(
    {"cleanup.policy": "compact", "min.compaction.lag.ms": str(24 * 3600 * 1000)}
)
#: A dead letter is its message and headers: more than the broker took for the message alone.
DEAD_LETTER_BYTES: Final = 8 * 1024 * 1024
#: Seconds that the broker has for one answer.
ANSWER_TIMEOUT: Final = 10.0
_UNKNOWN: Final = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)  # noqa: SLF001  # its public name


class Changelog(NamedTuple):
    """Where the facts of a table are kept."""

    table: str
    topic: str
    partitions: int


class TopicAdmin:
    """Asks the broker about topics. Every method raises ServerAwayError where it does not answer in time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.address = kafka_address(settings)
        self._admin = AdminClient({**client_config(settings, self.address)})

    def ensure(self) -> dict[str, str]:
        """Makes the topics that are missing, checks the others, and returns topic → id of those to be read.

        Raises LogError for a topic that is compacted or dated by its producers.
        """
        settings = self._settings
        wanted = {
            settings.events_topic: settings.partitions,
            settings.registry_topic: 1,
            settings.analytics_topic: 1,
            settings.dead_letters_topic: 1,
            settings.alerts_topic: 1,
        }
        existing = self._sizes()
        for topic, partitions in wanted.items():
            if topic not in existing:
                self._create(topic, partitions, TOPIC_CONFIG)
        self._check(wanted)
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while True:
            try:
                return self.ids(settings.projected_topics)
            except NotFoundError:
                # A topic just made is not known to every broker at once.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def ensure_changelog(self, table: str, topic_id: str) -> Changelog:
        """Makes the changelog of a table over the event log, whose topic has this id, where it is missing.

        The id is in its name, so that facts of a topic that was are not taken for those of one made anew.
        Raises LogError where there is a changelog of another id, or where it has not as many partitions as
        the log: they lie beside each other.
        """
        # As Kafka's own tools write it: librdkafka's + and / may be in no name.
        topic_id = topic_id.replace("+", "-").replace("/", "_")
        prefix = f"{self._settings.analytics_group}-{table}"
        events, topic = self._settings.events_topic, f"{prefix}-{topic_id}-changelog"
        anew = f"begin anew with JOBTRAIL_ANALYTICS_GROUP={self._settings.analytics_group}-2"
        named = re.compile(rf"{re.escape(prefix)}-([\w-]{{{len(topic_id)}}})-changelog", re.ASCII)
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while not {events, topic} <= (sizes := self._sizes()).keys():
            for other in filter(None, map(named.fullmatch, sizes)):
                raise LogError(
                    f"topic {events} was made anew: its id is {topic_id}, and what {other[0]} has is of"
                    f" {other[1]}; restore the topic that was, or {anew} to compute windows of this one"
                )
            if events in sizes:
                self._create(topic, sizes[events], CHANGELOG_CONFIG)
            if time.monotonic() > deadline:  # as in `ensure`
                raise NotFoundError(f"topics {events} and {topic} do not exist at {self.address}")
            time.sleep(0.1)
        if sizes[topic] != sizes[events]:
            raise LogError(
                f"topic {topic} has {sizes[topic]} partitions and {events} has {sizes[events]}: some were"
                f" added, and jobs are elsewhere now; {anew}"
            )
        return Changelog(f"{table}-{topic_id}", topic, sizes[events])

    def ids(self, topics: Iterable[str]) -> dict[str, str]:
        """Topic → id; a topic made anew has another one. Raises NotFoundError for one that is not there."""
        try:
            futures = self._admin.describe_topics(
                TopicCollection(list(topics)), request_timeout=ANSWER_TIMEOUT
            )
        except KafkaException as error:
            self._away(error)
        found = {}
        for topic, future in futures.items():
            try:
                found[topic] = str(future.result(ANSWER_TIMEOUT).topic_id)
            except KafkaException as error:
                if error.args[0].code() in _UNKNOWN:
                    raise NotFoundError(f"topic {topic} does not exist at {self.address}") from None
                self._away(error)
            except TimeoutError as error:
                self._away(error)
        return found

    def _sizes(self) -> dict[str, int]:
        """Topic → number of its partitions."""
        try:
            found = self._admin.list_topics(timeout=ANSWER_TIMEOUT).topics
        except KafkaException as error:
            self._away(error)
        return {name: len(topic.partitions) for name, topic in found.items()}

    def _create(self, topic: str, partitions: int, given: Mapping[str, str]) -> None:
        config = dict(given)
        if topic == self._settings.dead_letters_topic:
            config["max.message.bytes"] = str(DEAD_LETTER_BYTES)
        new = NewTopic(topic, partitions, self._settings.replication_factor or -1, config=config)
        try:
            self._answer(self._admin.create_topics([new], request_timeout=ANSWER_TIMEOUT)[topic])
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise LogError(f"topic {topic} cannot be made: {error.args[0].str()}") from None
        else:
            log.info("made topic %s with %d partitions", topic, partitions)

    def _check(self, topics: Iterable[str]) -> None:
        resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
        try:
            futures = self._admin.describe_configs(resources, request_timeout=ANSWER_TIMEOUT)
        except KafkaException as error:
            self._away(error)
        for resource, future in futures.items():
            try:
                config = {name: entry.value for name, entry in self._answer(future).items()}
            except KafkaException as error:
                if error.args[0].code() in _UNKNOWN:
                    continue  # just made; what it was made with is known
                self._away(error)
            _check_config(resource.name, config)

    def _answer(self, future: Future[T]) -> T:
        try:
            return future.result(ANSWER_TIMEOUT)
        except TimeoutError as error:
            self._away(error)
        except KafkaException as error:
            if _is_away(error.args[0]):
                self._away(error)
            raise

    def _away(self, error: Exception) -> NoReturn:
        detail = error.args[0].str() if isinstance(error, KafkaException) else "no answer in time"
        raise ServerAwayError("Kafka", self.address, KAFKA_SETTING, detail) from None


def _is_away(error: KafkaError) -> bool:
    return bool(error.retriable()) or error.code() in {
        KafkaError._TRANSPORT,  # noqa: SLF001  # its public name, as below
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    }


def _check_config(topic: str, config: Mapping[str, Any]) -> None:
    change = f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config"
    if "compact" in (policy := config["cleanup.policy"]):
        raise LogError(
            f"topic {topic} has cleanup.policy={policy}, which removes events; set it back with"
            f" `{change} cleanup.policy=delete`, and make sure that nothing was lost yet"
        )
    if (dated_by := config["message.timestamp.type"]) != "LogAppendTime":
        raise LogError(
            f"topic {topic} has message.timestamp.type={dated_by}, so its times are not the broker's; set it"
            f" with `{change} message.timestamp.type=LogAppendTime`"
        )
    if (kept := config["retention.ms"]) != "-1":
        log.warning(
            "topic %s keeps events for %s ms only: rebuilds need an archive of the older", topic, kept
        )
    if (kept := config["retention.bytes"]) != "-1":
        log.warning(
            "topic %s keeps %s bytes of events in each partition only: rebuilds need an archive of the older",
            topic,
            kept,
        )
