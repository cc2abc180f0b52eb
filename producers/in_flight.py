"""Events that were handed to the Kafka client and may have no answer yet, in small groups."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from confluent_kafka import KafkaError, Message

from jobtrail.producers.lasting import Answer
from jobtrail.producers.spool import Header, Place

#: Looks of the publisher's thread that a group stays after its last event: a caller may be about to add one.
_LINGER: Final = 2

#: An event on its way: topic, key, value, and its headers (then None), or its id and the header of its type.
#: A list for each event that waits would be work for the garbage collector.
Waiting = tuple[str, bytes, bytes, list[Header] | str | bytes, Header | None]
#: Takes in an answer for a group; False where the event is sent again, and its `Answer` asked anew.
OnDelivery = Callable[["Group", KafkaError | None, Message, Answer], bool]


class Answers:
    """What all groups of a publisher share."""

    def __init__(self, on_delivery: OnDelivery) -> None:
        self.on_delivery = on_delivery
        self.lock = threading.Lock()
        #: Events that Kafka has confirmed.
        self.delivered = 0
        #: Whether nothing is known to be wrong: a confirmation is one more, and no news.
        self.calm = True


class Group:
    """Events that were handed over one after the other; takes in Kafka's answers, as a callback."""

    __slots__ = ("answered", "answers", "looks", "on_disk", "records", "segment", "since", "spooled")

    def __init__(self, answers: Answers, *, spooled: bool) -> None:
        self.answers = answers
        #: Whether its events go to the spool first, each by itself.
        self.spooled = spooled
        self.records: list[Waiting] = []
        #: How many of them Kafka has confirmed or refused.
        self.answered = 0
        #: How many of them, the first ones, are in the spool; and in which segment the first is.
        self.on_disk = 0
        self.segment = 0
        #: When the first was seen (monotonic seconds), and how often that was looked at since.
        self.since = 0.0
        self.looks = 0

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        """Takes in the answer to one of them."""
        answers = self.answers
        if error is None and answers.calm:  # the short way of nearly all
            with answers.lock:
                self.answered += 1
                answers.delivered += 1
        else:
            answers.on_delivery(self, error, message, self)

    @property
    def waiting(self) -> int:
        """Events without an answer."""
        return len(self.records) - self.answered

    def spool(self, place: Place) -> None:
        """The next of its events is in the spool, there."""
        self.on_disk += 1
        self.segment = self.segment or place.segment


class InFlight:
    """The groups, oldest first. Callers add to `current`; one thread looks after them."""

    def __init__(self, on_delivery: OnDelivery, *, spooled: bool) -> None:
        self.answers = Answers(on_delivery)
        self.current = Group(self.answers, spooled=spooled)
        self._older: deque[Group] = deque()
        self._turning = threading.Lock()

    def turn(self, *, spooled: bool | None = None) -> None:
        """The next event begins a new group, of the same kind where nothing else is said."""
        with self._turning:
            spooled = self.current.spooled if spooled is None else spooled
            if self.current.records or spooled != self.current.spooled:
                self._older.append(self.current)
                self.current = Group(self.answers, spooled=spooled)

    def look(self, now: float) -> float:
        """Forgets the groups that are answered; gives how long the oldest event waits, in seconds."""
        self.turn()
        while self._older and not self._older[0].waiting and self._older[0].looks > _LINGER:
            self._older.popleft()
        waits = 0.0
        for group in list(self._older):
            group.since = group.since or now
            group.looks += 1
            if not waits and group.waiting:
                waits = now - group.since
        return waits

    def __iter__(self) -> Iterator[Group]:
        with self._turning:
            return iter([*self._older, self.current])

    def first_segment(self) -> int | None:
        """The first segment of the spool that has an event without an answer."""
        return next((group.segment for group in self if group.waiting and group.on_disk), None)
