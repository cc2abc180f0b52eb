"""Keeps events on the disk until Kafka has them: from when the oldest waits too long, or always.

Whatever is in the spool of this process and not in the client's queue is handed on from there, in order, as
soon as there is room. What has been written before a kill -9 is delivered by `jobtrail spool send`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from confluent_kafka import KafkaError, KafkaException, Message

from jobtrail.producers.client import log
from jobtrail.producers.in_flight import Group, InFlight, OnDelivery, Waiting
from jobtrail.producers.lasting import LastingProducer, gave_up
from jobtrail.producers.receipt import Receipt
from jobtrail.producers.spool import Place, Record, Spool, SpoolError, folder_of
from jobtrail.settings import Settings

#: Seconds that the oldest event waits for Kafka's answer before all that wait go to the spool; and seconds
#: without such a wait after which the spool is left again.
SPOOL_AFTER: Final = 0.2
_CALM_SECONDS: Final = 1.0
#: Seconds between two syncs of the spool.
_SYNC_SECONDS: Final = 0.1
#: Events that are read from the spool in one go; meanwhile callers wait.
_AT_ONCE: Final = 50


class Keeper:
    """The spool of one publisher. Its methods but `look` may be called from any thread."""

    def __init__(
        self,
        settings: Settings,
        spool: Literal["outage", "always", "off"],
        producer: LastingProducer,
        on_delivery: OnDelivery,
        whole: Callable[[Waiting], Record],
    ) -> None:
        """`whole`: an event with all of its headers."""
        self.folder: Path = folder_of(settings.home)
        self.off = spool == "off"
        #: What may have no answer from Kafka yet. Events of a group that is `spooled` go through `take`.
        self.in_flight = InFlight(on_delivery, spooled=spool == "always" or producer.absent)
        self._always = spool == "always"
        self._fsync = settings.spool_fsync
        self._producer = producer
        self._whole = whole
        #: Held to write to the spool, or to read from it.
        self._busy = threading.Lock()
        self._spool = Spool(self.folder, settings.spool_limit)
        #: Events that Kafka refused for a reason that may pass: for `jobtrail spool send`.
        self._kept = Spool(self.folder, settings.spool_limit)
        #: The first event that is in the spool alone, because the client's queue was full; receipts of such.
        self._unsent: Place | None = None
        self._awaited: dict[Place, Receipt] = {}
        #: Whether Kafka refused an event, and since when nothing has waited long (monotonic seconds).
        self._troubled = False
        self._calm_since = self._synced_at = 0.0
        self._error: str | None = None
        #: Whether what came before the events of today's group is in the spool.
        self._copied = True

    def take(self, event: Waiting, receipt: Receipt | None) -> bool:
        """Writes an event to the spool, then hands it on if there is room; whether it is accepted.

        Where the spool takes nothing, the next group is not `spooled`, unless others wait in it already.
        Raises KafkaException where the client does not take such an event at all; then nothing is kept.
        """
        record = topic, key, value, headers = self._whole(event)
        with self._busy:
            group = self.in_flight.current
            place = self._write(record) if self._copied or self._copy() else None
            if place is None:
                if self._unsent is None:
                    self.in_flight.turn(spooled=False)
                return False
            if self._unsent is None:
                answer = group if receipt is None else both(group, receipt)
                try:
                    self._producer.now.produce(topic, value, key, on_delivery=answer, headers=headers)
                except BufferError:
                    self._unsent = place
                except KafkaException:
                    self._spool.take_back(place)
                    raise
                else:
                    group.records.append(event)
                    if group.spooled:
                        group.spool(place)
                    return True
            if receipt is not None:
                self._awaited[place] = receipt
            return True

    def not_taken(self, group: Group, event: Waiting) -> None:
        """The client did not take an event that was added to a group."""
        with self._busy:
            if group.records.index(event) < group.on_disk:
                group.answered += 1  # it was copied meanwhile; sent twice it does no harm
            else:
                group.records.remove(event)

    def keep(self, group: Group, message: Message) -> bool:
        """Whether an event that Kafka refused is kept on the disk."""
        self._troubled = True
        value = message.value()
        event = next((event for event in group.records if event[2] == value), None)
        if self.off or event is None:
            return False
        with self._busy:
            try:
                self._kept.write(self._whole(event))
            except SpoolError as error:
                self._say(error)
                return False
        return True

    def look(self, now: float) -> None:
        """Begins and ends to spool, hands on what is there alone, and deletes what Kafka has.

        For one thread, many times a second; `now` in monotonic seconds.
        """
        waits = self.in_flight.look(now)
        if self.off:
            return
        waits_on_disk = self._unsent is not None or self._producer.absent
        trouble, self._troubled = waits > SPOOL_AFTER or self._troubled or waits_on_disk, False
        if trouble or self._always:
            self._calm_since = 0.0
            with self._busy:
                self.in_flight.turn(spooled=True)
                self._copy()
        elif self.in_flight.current.spooled:
            self._calm_since = self._calm_since or now
            if now - self._calm_since > _CALM_SECONDS:
                with self._busy:
                    self.in_flight.turn(spooled=False)
        if self._fsync == "interval" and now - self._synced_at > _SYNC_SECONDS:
            self._synced_at = now
            self._sync()
        while self._hand_on():
            pass
        with self._busy:
            needed = [number for number in (self.in_flight.first_segment(),) if number is not None]
            needed += [self._unsent.segment] if self._unsent else []
            self._spool.drop_before(min(needed)) if needed else self._spool.drop_all()

    def close(self, *, delete: bool) -> bool:
        """Whether all that waits is in the spool, and stays there; or deletes what is there."""
        with self._busy:
            if delete:
                self._spool.drop_all()
            elif not self.off:
                self._error = None
                self._copy()
                if self._fsync != "none":
                    self._sync()
            self._spool.leave()
            self._kept.leave()
        return not self.off and self._error is None

    def disown(self) -> None:
        """For the child after a fork: the files are the parent's."""
        self._spool.disown()
        self._kept.disown()

    def _write(self, record: Record) -> Place | None:
        """Where it is in the spool; None, and that is said, if the spool does not take it."""
        try:
            place = self._spool.write(record)
            if self._fsync == "each":
                self._spool.sync()
        except SpoolError as error:
            self._say(error)
            return None
        self._error = None
        return place

    def _copy(self) -> bool:
        """Writes those that wait and did not go to the spool when they came; whether it took them all."""
        self._copied = False
        for group in self.in_flight:
            if group.spooled or not group.waiting:
                continue
            for event in group.records[group.on_disk :]:
                place = self._write(self._whole(event))
                if place is None:
                    return False
                group.spool(place)
        self._copied = True
        return True

    def _hand_on(self) -> bool:
        """Hands a few events that are in the spool alone to the client; whether there may be more."""
        with self._busy:
            if self._unsent is None:
                return False
            group = self.in_flight.current
            for number, (record, place, behind) in enumerate(self._spool.read(self._unsent)):
                self._unsent = place
                if number == _AT_ONCE:
                    return True
                topic, key, value, headers = record
                receipt = self._awaited.get(place)
                answer = group if receipt is None else both(group, receipt)
                try:
                    self._producer.now.produce(topic, value, key, on_delivery=answer, headers=headers)
                except BufferError:
                    return False
                except KafkaException as error:
                    if not gave_up(error):
                        raise
                    return False  # until another client is there
                self._awaited.pop(place, None)
                group.records.append((*record, None))
                group.spool(place)
                self._unsent = behind
            self._unsent = None
        return False

    def _sync(self) -> None:
        try:
            self._spool.sync()
        except SpoolError as error:
            self._say(error)

    def _say(self, error: SpoolError) -> None:
        if self._error != str(error):
            self._error = str(error)
            log.error("%s; events wait in memory", error)


def both(group: Group, receipt: Receipt) -> Callable[[KafkaError | None, Message], None]:
    """Takes in the answer to an event that somebody may wait for."""

    def settle(error: KafkaError | None, message: Message) -> None:
        if group.answers.on_delivery(group, error, message, settle):
            receipt.settle(error, message)

    return settle
