"""Takes what waits in a consumer, as columns.

A few hundred messages at a time: they are read while they are in the processor's cache, and given back before
Python's garbage collector, which counts 700 new objects, begins to look at them. A hundred thousand at once
take twice as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from confluent_kafka import Consumer, Message

from jobtrail.consumers.records import Place, Records

PIECE: Final = 500
#: Seconds for the next messages to come where it is known that there are some.
PATIENCE: Final = 0.02


class Taken:
    """Messages in the order of the log, by topic; and errors, among which are the ends of partitions."""

    def __init__(self, topic_ids: Mapping[str, str]) -> None:
        """`topic_ids`: topic → id, of all that the consumer reads."""
        self.records: dict[str, Records] = {}
        self.errors: list[Message] = []
        #: The offset after the last message of each partition.
        self.reached: dict[Place, int] = {}
        self.count = 0
        self._topic_ids = topic_ids

    def add(self, piece: Sequence[Message]) -> None:
        """Takes these in as well."""
        self.count += len(piece)
        if any(map(Message.error, piece)):
            self.errors += [each for each in piece if each.error()]
            piece = [each for each in piece if not each.error()]
        topics = {str(topic) for topic in map(Message.topic, piece)}
        for topic in topics:
            ours = piece if len(topics) == 1 else [each for each in piece if each.topic() == topic]
            records = self.records.get(topic)
            if records is None:
                records = self.records[topic] = Records(topic, self._topic_ids[topic], [], [], [], [], [])
            for partition, offset in records.extend(ours).items():
                self.reached[topic, partition] = offset + 1


def take(
    consumer: Consumer,
    first: Message,
    most: int,
    topic_ids: Mapping[str, str],
    is_behind: Callable[[Taken], bool] = lambda _: False,
) -> Taken:
    """The first and what waits behind it, at most so many; and what comes soon, where it is behind."""
    taken = Taken(topic_ids)
    piece = [first, *consumer.consume(min(PIECE, most) - 1, 0)]
    while piece:
        taken.add(piece)
        room = min(PIECE, most - taken.count)
        piece = consumer.consume(room, 0) if room else []
        if room and not piece and is_behind(taken) and (late := consumer.poll(PATIENCE)):
            piece = [late]
    return taken
