"""`jobtrail analytics`: windows over the event log by Faust, which only this module imports.

Faust gives the consumer group, tables with changelogs and their recovery. The rules are in
`jobtrail.consumers.windows`, what a partition holds in `window_partition`, how it ends in `analytics_end`.
Three things are done in this order for each batch of a partition, each one only when Kafka has the one
before:

1. the results, to `jobtrail.analytics`
2. the facts that changed, to the changelog
3. the offsets, committed

So what the changelog has was said, and whoever takes over folds the rest again: facts are a function of the
set of events, and of two results of a window the one with the higher sequence counts. Nothing depends on
transactions; Faust's exactly_once is not used.

Faust's windowed tables are not used either: they add up what comes, so that what comes twice would count
twice, and drop windows by the worker's clock. The table here holds facts, in memory and in its changelog.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from datetime import timedelta
from typing import Any, Final

import faust
from aiokafka.errors import KafkaError
from faust.exceptions import ProducerSendError
from faust.tables.table import Table
from faust.types import EventT, StreamT

from jobtrail import codec
from jobtrail.consumers.aiokafka_client import client_settings
from jobtrail.consumers.analytics_end import end, run
from jobtrail.consumers.analytics_offsets import GroupOffsets
from jobtrail.consumers.registry_schemas import registry_of
from jobtrail.consumers.topics import Changelog, TopicAdmin
from jobtrail.consumers.waiting import FIRST_PAUSE, LONGEST_PAUSE, Away, StoppedError, until_it_answers
from jobtrail.consumers.window_folding import Facts, Message, Step
from jobtrail.consumers.window_partition import Partition, offset_of, partition_of
from jobtrail.errors import BadMessageError, LogError, ServerAwayError
from jobtrail.events import JobEvent, WindowComputed
from jobtrail.running import KAFKA_SETTING, kafka_address
from jobtrail.settings import Settings

log = logging.getLogger("jobtrail")

#: The table, with the id of the log's topic behind it; its changelog is GROUP-facts-ID-changelog.
TABLE: Final = "facts"
#: Messages that are folded though the interval is not over, and those that may wait in memory.
ENOUGH: Final = 5_000
MOST: Final = 4 * ENOUGH
#: Seconds between two looks at what waits.
TICK: Final = 0.1
#: Seconds between two looks at the topics.
WATCH: Final = 5.0
#: Seconds before a run that failed is begun anew.
AGAIN: Final = 1.0
#: Seconds for the last batch, when told to stop.
LAST: Final = 10.0
HEADERS: Final = {
    "ce_specversion": b"1.0",
    "ce_type": f"jobtrail.{WindowComputed.__name__}".encode(),
    "ce_source": b"/jobtrail/analytics",
    "content-type": b"application/avro",
}


class _FactsTable(Table[bytes, bytes]):
    """Facts by key. Values are bytes, as in the changelog; keys begin with their partition."""

    def apply_changelog_batch(self, batch: Iterable[EventT[bytes]]) -> None:
        """Of two values the one of the later offset counts, not the one that came later.

        A worker that was stopped for so long that its partitions were given away may still have written.
        """
        facts = self.data.data
        for event in batch:
            key, value = event.message.key, event.message.value
            known = facts.get(key)
            if value is None:
                facts.pop(key, None)
            elif known is None or offset_of(known) <= offset_of(value):
                facts[key] = value


class _App(faust.App):
    """Without what a worker of ours does not need: a web server, and folders on the disk."""

    def _create_directories(self) -> None:
        """The tables are in memory; Faust would make folders for others below the working directory."""


class _EndedError(Exception):
    """Faust ended by itself: mostly as Kafka went away."""


#: What waiting may heal, beside ServerAwayError, which says it in our words.
AWAY: Final = (_EndedError, KafkaError, ProducerSendError, OSError, TimeoutError)


class Analytics:
    """One run of the Faust application: until it is told to stop, or something fails."""

    def __init__(
        self,
        settings: Settings,
        stop: threading.Event,
        changelog: Changelog,
        topics_are_the_same: Callable[[], bool],
        away: Away,
    ) -> None:
        """`topics_are_the_same` asks Kafka whether none was made anew; `away` says when it is gone."""
        self._settings = settings
        self._stop = stop
        self._topics_are_the_same = topics_are_the_same
        self._away = away
        self._client = client_settings(settings)
        self._schema_by_id = registry_of(settings)
        self._registry = Away("The schema registry")
        self._app = self._new_app(changelog.partitions)
        self._events = self._topic(settings.events_topic)
        self._results = self._topic(settings.analytics_topic)
        self._table = _FactsTable(
            self._app,
            name=changelog.table,
            key_type=bytes,
            value_type=bytes,
            partitions=changelog.partitions,
        )
        self._app.tables.add(self._table)
        self._app.on_rebalance_complete.connect(self._on_assigned)
        self._app.agent(self._events, name="jobtrail.analytics")(self._take)
        self._stream: Any = None
        self._pending: list[EventT[bytes]] = []
        self._partitions: dict[int, Partition] = {}
        self._offsets = GroupOffsets(settings)
        #: Partition → the offset that it goes on at.
        self._next: dict[int, int] = {}
        #: Why partitions could not be taken.
        self._failed: LogError | ServerAwayError | None = None
        #: Held while a batch is on its way, and while partitions change.
        self._lock = asyncio.Lock()
        self._flushed_at = time.monotonic()

    async def run(self) -> None:
        """Raises what ended it, but for being told to stop."""
        starting = asyncio.ensure_future(self._app.start())
        flushing = asyncio.ensure_future(self._flush_for_ever())
        watching = asyncio.ensure_future(self._watch())
        try:
            while not self._stop.is_set():
                for task in (starting, flushing, watching):
                    if task.done():
                        task.result()
                if self._failed:
                    raise self._failed
                if self._app.crashed:
                    raise _EndedError(self._app.crash_reason)
                await asyncio.sleep(TICK)
            flushing.cancel()
            with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                await flushing
            async with asyncio.timeout(LAST):
                await self._flush()
                await self._app.consumer.commit()
        finally:
            await end(self._app.stop(), (starting, flushing, watching))

    async def _watch(self) -> None:
        """Says when Kafka is away and when it is back. Raises LogError for a topic that was made anew."""
        while True:
            await asyncio.sleep(WATCH)
            try:
                same = await asyncio.to_thread(self._topics_are_the_same)
            except ServerAwayError as error:
                self._away.gone(error)
                continue
            self._away.back()
            if not same:
                raise LogError(
                    "a topic was made anew under the same name, and what the changelog has is of the one that"
                    " was; restore it, or begin anew with"
                    f" JOBTRAIL_ANALYTICS_GROUP={self._settings.analytics_group}-2"
                )

    def _new_app(self, partitions: int) -> faust.App:
        servers = kafka_address(self._settings).split(",")
        security = self._client.security
        credentials: faust.SASLCredentials | faust.SSLCredentials | None = None
        if security.mechanism:
            credentials = faust.SASLCredentials(
                username=security.username,
                password=security.password,
                ssl_context=security.context,
                mechanism=security.mechanism,
            )
        elif security.context:
            credentials = faust.SSLCredentials(security.context)
        return _App(
            self._settings.analytics_group,
            broker=[f"kafka://{server.strip()}" for server in servers],
            broker_credentials=credentials,
            broker_client_id="jobtrail",
            store="memory://",
            topic_partitions=partitions,
            topic_replication_factor=self._settings.replication_factor or 1,
            # Made by TopicAdmin.
            topic_allow_declare=False,
            topic_disable_leader=True,
            # What is not folded when it ends, or partitions change, is not acknowledged: it is read again.
            stream_wait_empty=False,
            # For a group without commits; `_on_assigned` and `_fold` look for gaps.
            consumer_auto_offset_reset="earliest",
            producer_compression_type="lz4",
            web_enabled=False,
            # Standby tables would double the memory; the changelog is read in seconds.
            table_standby_replicas=0,
            **self._client.tuning,
        )

    def _topic(self, name: str) -> Any:
        return self._app.topic(
            name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )

    async def _take(self, stream: StreamT[bytes]) -> None:
        """The agent: keeps what comes until the next batch, which acknowledges it."""
        self._stream = stream.noack()  # type: ignore[attr-defined]  # the protocol lacks it
        async for event in self._stream.events():
            while len(self._pending) >= MOST:  # noqa: ASYNC110  # it is looked at as often as flushed
                await asyncio.sleep(TICK)
            self._pending.append(event)

    async def _on_assigned(self, *_: Any, **__: Any) -> None:
        """Tables are recovered: what the changelog has of the partitions that are ours is what we know."""
        async with self._lock:
            self._partitions = {}  # nothing is folded, nor committed, that has a gap before it
            try:
                self._next = await asyncio.to_thread(self._offsets.next)
            except (LogError, ServerAwayError) as error:
                self._failed = error  # Faust would keep it to itself
                return
            facts = self._table.data.data
            mine = {
                place.partition
                for place in self._app.assignor.assigned_actives()
                if place.topic == self._settings.events_topic
            }
            for key in [key for key in facts if partition_of(key) not in mine]:
                del facts[key]
            lateness = timedelta(hours=self._settings.analytics_lateness_hours)
            self._partitions = {number: Partition(number, facts, lateness) for number in mine}
            self._pending.clear()  # read again, from the committed offsets
            log.info("windows of partitions %s", ", ".join(map(str, sorted(mine))) or "none")

    async def _flush_for_ever(self) -> None:
        away = self._app.conf.broker_session_timeout / 2
        while True:
            before = time.monotonic()
            await asyncio.sleep(TICK)
            if time.monotonic() - before > away:
                # We did not run (SIGSTOP, a machine that slept): others may have our partitions. The group
                # says so before the next heartbeats are over, and then nothing of what waits is ours.
                await asyncio.sleep(2 * self._app.conf.broker_heartbeat_interval)
            due = time.monotonic() - self._flushed_at >= self._settings.analytics_interval
            if self._pending and (due or len(self._pending) >= ENOUGH):
                await self._flush()
                self._flushed_at = time.monotonic()

    async def _flush(self) -> None:
        """Folds what waits, partition by partition."""
        async with self._lock:
            batch, self._pending = self._pending, []
            of_partition = defaultdict(list)
            for event in batch:
                of_partition[event.message.partition].append(event)
            for number, events in of_partition.items():
                if (partition := self._partitions.get(number)) is not None:
                    await self._fold(partition, events)

    async def _fold(self, partition: Partition, events: list[EventT[bytes]]) -> None:
        generation = events[0].message.generation_id
        if events[0].message.offset > (needed := self._next[partition.number]):
            await asyncio.to_thread(self._offsets.check, {partition.number: needed})
        messages = await self._decode(partition.number, events)
        if messages:
            step = partition.fold(messages)
            results = [self._send(result) for result in partition.results(step)]
            await asyncio.gather(*results)
            if self._app.consumer_generation_id != generation:
                return  # the partition may be another's by now, who says all of this again
            await self._keep(partition, step)
        for event in events:
            await self._stream.ack(event)
        self._next[partition.number] = events[-1].message.offset + 1

    def _send(self, result: WindowComputed) -> Any:
        headers = {**HEADERS, "ce_id": result.event_id.encode()}
        return self._results.send_soon(key=result.key, value=codec.encode(result), headers=headers)

    async def _keep(self, partition: Partition, step: Step) -> None:
        """Facts into the changelog, and then into memory."""
        sent = [self._table.send_changelog(partition.number, key, value) for key, value in step.facts.items()]
        await asyncio.gather(*sent)
        _remember(self._table.data.data, step.facts)
        partition.apply(step)

    async def _decode(self, number: int, events: list[EventT[bytes]]) -> list[Message]:
        """Those that are job events. Others are the projector's dead letters: counted and said here."""
        messages, bad, first = [], 0, ""
        for event in events:
            raw = event.message
            try:
                found = await self._event_of(raw.value)
                if not isinstance(found, JobEvent):
                    continue
                codec.check_key(type(found), found.job_id, raw.key)
            except BadMessageError as error:
                bad += 1
                first = first or f"offset {raw.offset}: {error}"
            else:
                messages.append(Message(raw.offset, round(raw.timestamp * 1000), found))
        if bad:
            where = f"{self._settings.events_topic}[{number}]"
            log.warning("%s: %d messages are no events and count nowhere (%s)", where, bad, first)
        return messages

    async def _event_of(self, value: bytes | None) -> Any:
        """Raises BadMessageError; waits for a schema registry that is away."""
        pause = FIRST_PAUSE
        while True:
            try:
                found = codec.decode(value, self._schema_by_id)
            except ServerAwayError as error:
                self._registry.gone(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                self._registry.back()
                return found


def _remember(facts: MutableMapping[bytes, bytes], changed: Facts) -> None:
    for key, value in changed.items():
        if value is None:
            facts.pop(key, None)
        else:
            facts[key] = value


def run_analytics(settings: Settings, stop: threading.Event) -> None:
    """Computes windows until `stop` is set; any number of workers share the partitions.

    Waits for a Kafka that is away. Raises LogError, UsageError or SettingError for what waiting cannot heal.
    """
    client_settings(settings)  # what is wrong there is said before Kafka is waited for
    for library in ("faust", "mode", "aiokafka"):
        # What ends a run is said in our words.
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    away = Away("Kafka")
    admin = TopicAdmin(settings)

    def prepare() -> tuple[Changelog, Mapping[str, str]]:
        ids = admin.ensure()
        return admin.ensure_changelog(TABLE, ids[settings.events_topic]), ids

    try:
        while not stop.is_set():
            changelog, ids = until_it_answers(away, stop, prepare)

            def same(ids: Mapping[str, str] = ids) -> bool:
                return admin.ids(ids) == ids

            try:
                run(Analytics(settings, stop, changelog, same, away).run())
            except ServerAwayError as error:
                away.gone(error)
                stop.wait(AGAIN)
            except AWAY as error:
                away.gone(ServerAwayError("Kafka", admin.address, KAFKA_SETTING, repr(error)))
                stop.wait(AGAIN)
    except StoppedError:
        log.info("stopped while Kafka was away; nothing is lost")
