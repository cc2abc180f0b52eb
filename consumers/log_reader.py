"""Messages of topics one by one, each done when the next is asked for; in a consumer group or alone.

One message at a time is taken from the client, so nothing is held back here while the caller works:
partitions change hands only when the next one is asked for, and all that was given by then is done. In a
group that is committed soon after, and before the partitions go to another member; whoever dies in between
leaves what it worked at, and what it did in the last COMMIT seconds, to be read again.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from jobtrail.consumers.ends import Log, Topic
from jobtrail.consumers.follow_group import Commits, Group
from jobtrail.consumers.reading import CONSUMER_CONFIG, GONE, IDLE, OUT_OF_RANGE
from jobtrail.consumers.records import Place
from jobtrail.consumers.starting import Start, check_within, first_offsets
from jobtrail.consumers.waiting import Away, StoppedError, until_it_answers
from jobtrail.errors import LogError, NotFoundError, ServerAwayError
from jobtrail.producers.client import client_config
from jobtrail.running import KAFKA_SETTING, kafka_address
from jobtrail.settings import Settings

log = logging.getLogger("jobtrail")
T = TypeVar("T")

#: Seconds between two commits while messages come without a pause; in a pause it is committed at once.
COMMIT: Final = 0.1
#: Seconds between two looks at the topics: whether they are the same, and have more partitions.
LOOK: Final = 10.0
#: Seconds that Kafka has to tell a group's commits; a broker that has just started needs some.
COMMITS_TIMEOUT: Final = 30.0
#: Seconds that Kafka may be away from who reads to the present end; who follows waits for it without end.
PATIENCE: Final = 60.0
#: librdkafka wants a name; nothing ever joins this group or commits to it.
ALONE: Final = "jobtrail-follow"
#: Commits are refused so when partitions have changed hands; their new owner reads from the last commit.
_CHANGED_HANDS: Final = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError._NO_OFFSET,  # noqa: SLF001  # its public name
    }
)
#: Said by a broker that has just started, or while the group moves to another one.
_COORDINATOR_COMES: Final = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError._WAIT_COORD,  # noqa: SLF001  # its public name
    }
)
_REFUSED: Final = frozenset(
    {
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.INCONSISTENT_GROUP_PROTOCOL,
    }
)


class LogReader:
    """Reads until `stop` is set, or, with `until_end`, to where the topics end when it begins.

    Iterate once, and `leave` at the end.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Sequence[str],
        start: Start,
        group: Group | None,
        stop: threading.Event,
        *,
        until_end: bool,
    ) -> None:
        """Raises EmbeddedError where no Kafka is set or runs."""
        self._address = kafka_address(settings)
        self._topics = topics
        self._start = start
        self._group = group
        self._stop = stop
        self._until_end = until_end
        #: Seconds that Kafka is waited for.
        self.patience = PATIENCE if until_end else math.inf
        self._log = Log(settings)
        self._away = Away("Kafka")
        self._away_since: float | None = None
        #: As last looked at.
        self._known: dict[str, Topic] = {}
        #: Where the topics ended at the beginning.
        self._ends: dict[Place, int] = {}
        #: The first offset that is not done, for each partition of ours; none before the first assignment.
        self._next: dict[Place, int] | None = None
        self._committed: dict[Place, int] = {}
        #: Came while the one before was worked at here; few.
        self._held: deque[Message] = deque()
        self._commit_at = 0.0
        self._look_at = 0.0
        #: Number of partitions, kept with commits.
        self._partitions: dict[str, int] = {}
        self._said: set[int] = set()
        #: Before, whoever is away is raised.
        self._begun = False
        self._consumer = Consumer(
            {
                **CONSUMER_CONFIG,
                **client_config(settings, self._address),
                "group.id": group.name if group else ALONE,
                "error_cb": self._on_error,
                "on_commit": self._on_commit,
            }
        )

    def __iter__(self) -> Iterator[Message]:
        """Raises NotFoundError, UsageError, ConflictError, LogError, and at the beginning ServerAwayError."""
        self._begin()
        self._begun = True
        while not self._stop.is_set():
            self._take()
            message = self._held.popleft() if self._held else None
            if message is None:
                self._commit()
                if self._is_at_the_end():
                    return
                message = self._consumer.poll(IDLE)
            if time.monotonic() > self._look_at:
                self._look()
            if message is None or not self._is_wanted(message):
                continue
            yield message
            self._done(message, int(message.offset() or 0) + 1)

    def topic_id(self, topic: str) -> str:
        """Of a topic that is read."""
        return self._known[topic].topic_id

    def keep(self) -> None:
        """Stays in the group while the last message is worked at for long.

        Raises StoppedError, and what iterating raises.
        """
        if self._stop.is_set():
            raise StoppedError
        self._take()

    def waited(self, ask: Callable[[], T]) -> T:
        """What Kafka answers, though it be away for a while.

        Raises StoppedError, and ServerAwayError where it is away for too long.
        """
        return until_it_answers(self._away, self._stop, ask, self.patience)

    def leave(self, done: Message | None = None) -> None:
        """Commits what is done, with `done` also that message, and leaves Kafka. Sets `stop`."""
        self._stop.set()  # closing, the client may call back, and nothing is waited for any more
        if done is not None:
            self._done(done, int(done.offset() or 0) + 1, soon=False)
        self._commit()
        self._consumer.close()

    def _begin(self) -> None:
        for name in self._topics:
            self._known[name] = self._log.topic(name, begins=True)
            self._ends |= {(name, part): end for part, end in self._known[name].ends.items()}
        self._look_at = time.monotonic() + LOOK
        if self._group is None:
            first = {
                (name, part): offset
                for name, topic in self._known.items()
                for part, offset in first_offsets(self._log, name, topic, self._start).items()
            }
            self._assign(first)
            return
        # Before it joins: joining takes partitions from the other members for a moment.
        commits = self._commits(self._group)
        if not commits.offsets:
            for name, topic in self._known.items():
                first_offsets(self._log, name, topic, self._start)
        self._consumer.subscribe(
            list(self._topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def _take(self) -> None:
        if (message := self._consumer.poll(0)) is not None:
            self._held.append(message)

    def _assign(self, first: dict[Place, int]) -> None:
        self._next = first
        self._held.clear()
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in first.items()])

    def _is_wanted(self, message: Message) -> bool:
        """Whether it is a message for the caller; what else comes is seen to."""
        place = str(message.topic()), int(message.partition() or 0)
        if (error := message.error()) is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public name
                # Control records and aborted transactions have offsets, and no messages.
                self._done(message, int(message.offset() or 0), soon=False)
            else:
                self._failed(error, place)
            return False
        if self._next is None or place not in self._next:
            return False
        if self._until_end and int(message.offset() or 0) >= self._ends.get(place, 0):
            self._consumer.pause([TopicPartition(*place)])
            # Between it and the last one may be control records: nothing else tells that they are passed.
            self._done(message, self._ends.get(place, 0), soon=False)
            return False
        return True

    def _done(self, message: Message, following: int, *, soon: bool = True) -> None:
        place = str(message.topic()), int(message.partition() or 0)
        if self._next is None or place not in self._next:
            return  # it went to another member meanwhile
        self._next[place] = max(following, self._next[place])
        if soon and self._group and time.monotonic() > self._commit_at:
            self._commit()

    def _is_at_the_end(self) -> bool:
        return (
            self._until_end
            and self._next is not None
            and all(offset >= self._ends.get(place, 0) for place, offset in self._next.items())
        )

    # In a group.

    def _commits(self, group: Group) -> Commits:
        places = [TopicPartition(name, part) for name, topic in self._known.items() for part in topic.ends]
        until = time.monotonic() + COMMITS_TIMEOUT
        while True:
            try:
                committed = self._consumer.committed(places, COMMITS_TIMEOUT)
                break
            except KafkaException as error:
                if error.args[0].code() not in _COORDINATOR_COMES or time.monotonic() > until:
                    raise self._refused(error.args[0]) or self._gone(error.args[0].str()) from error
                time.sleep(IDLE)
        return group.check(committed, {name: topic.topic_id for name, topic in self._known.items()})

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        group = self._group
        assert group is not None  # noqa: S101  # only a group is assigned to
        places = [(one.topic, one.partition) for one in partitions]
        with contextlib.suppress(StoppedError):
            self._assign(self.waited(lambda: self._goes_on_at(group, places)))
            # From now on it is known where the group began, whatever comes first: an event or its end.
            if self._commit(asynchronous=False):
                # Of two that begin a group with different filters, one sees the other.
                self.waited(lambda: self._commits(group))

    def _goes_on_at(self, group: Group, places: list[Place]) -> dict[Place, int]:
        # What was added since is known to Kafka's assignor.
        self._known = {name: self._log.topic(name, begins=True) for name in self._topics}
        commits = self._commits(group)
        first: dict[Place, int] = {}
        for name, topic in self._known.items():
            self._partitions[name] = commits.partitions.get(name, len(topic.ends))
            ours = [place for place in places if place[0] == name]
            starts: dict[int, int] = {}
            if any(place not in commits.offsets and not commits.added_later(place) for place in ours):
                starts = first_offsets(self._log, name, topic, self._start)
            for place in ours:
                _, part = place
                if place in commits.offsets:
                    first[place] = commits.offsets[place]
                    check_within(name, part, first[place], topic, f"group {group.name}")
                else:
                    first[place] = topic.begins[part] if commits.added_later(place) else starts[part]
        self._committed = {place: commits.offsets[place] for place in places if place in commits.offsets}
        return first

    def _on_revoke(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._commit(asynchronous=False)
        self._forget()

    def _on_lost(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        assert self._group is not None  # noqa: S101  # only a group loses partitions
        log.warning(
            "group %s gave the partitions to others, for nothing was asked for in time; what is not committed"
            " is read again",
            self._group.name,
        )
        self._forget()

    def _forget(self) -> None:
        self._next = None
        self._committed = {}
        self._held.clear()

    def _commit(self, *, asynchronous: bool = True) -> bool:
        """Commits what is done and not committed, if there is any."""
        if self._group is None or self._next is None:
            return False
        moved = {place: at for place, at in self._next.items() if self._committed.get(place) != at}
        if not moved:
            return False
        self._commit_at = time.monotonic() + COMMIT
        text = {
            name: self._group.text(topic.topic_id, self._partitions[name])
            for name, topic in self._known.items()
        }
        offsets = [TopicPartition(*place, at, metadata=text[place[0]]) for place, at in moved.items()]
        try:
            if asynchronous:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            self._on_commit(error.args[0], offsets)
            return False
        self._committed |= moved
        return True

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is None:
            error = next((one.error for one in partitions if one.error is not None), None)
        if error is None or error.code() in _CHANGED_HANDS:
            return
        for one in partitions:
            self._committed.pop((one.topic, one.partition), None)  # so that it is tried again
        self._say(error, "Kafka did not take the commit (%s); should this end now, events come again")

    # What goes wrong.

    def _failed(self, error: KafkaError, place: Place) -> None:
        """Raises what must not go on."""
        if error.fatal():
            raise LogError(f"Kafka ended the consumer: {error.str()}")
        if refused := self._refused(error):
            raise refused
        if error.code() in OUT_OF_RANGE or error.code() in GONE:
            self._look()
            at = (self._next or {}).get(place)
            if at is not None:
                name, part = place
                check_within(name, part, at, self._known[name], "what is read next")
                self._assign(self._next or {})
            return
        if error.code() != KafkaError._MAX_POLL_EXCEEDED:  # noqa: SLF001  # `_on_lost` says so
            self._say(error, "Kafka: %s")

    def _say(self, error: KafkaError, what: str) -> None:
        """Once for each kind of error."""
        if error.code() not in self._said:
            self._said.add(error.code())
            log.warning(what, error.str())

    def _refused(self, error: KafkaError) -> LogError | None:
        if error.code() not in _REFUSED:
            return None
        who = f"group {self._group.name}" if self._group else "this client"
        return LogError(
            f"Kafka at {self._address} lets {who} not read {', '.join(self._topics)}: {error.str()}; see its"
            " access rules, and that no other program uses the group"
        )

    def _gone(self, detail: str) -> ServerAwayError:
        return ServerAwayError("Kafka", self._address, KAFKA_SETTING, detail)

    def _on_error(self, error: KafkaError) -> None:
        if self._begun and error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  # its public name
            self._away.gone(self._gone(error.str()))
            self._away_since = self._away_since or time.monotonic()
            self._look_at = 0.0

    def _look(self) -> None:
        """Raises LogError for a topic that is gone or was made anew; reads partitions that were added."""
        self._look_at = time.monotonic() + LOOK
        try:
            found = {name: self._log.topic(name, begins=True) for name in self._topics}
        except NotFoundError as error:
            raise LogError(f"{error}, though it had it a moment ago; restore it") from None
        except ServerAwayError as error:
            self._look_at = time.monotonic() + 1.0
            since = self._away_since = self._away_since or time.monotonic()
            if time.monotonic() - since > self.patience:
                raise
            self._away.gone(error)
            return
        self._away.back()
        self._away_since = None
        for name, topic in found.items():
            if topic.topic_id != self._known[name].topic_id:
                raise LogError(
                    f"topic {name} was made anew: its id is {topic.topic_id}, and what was read is of"
                    f" {self._known[name].topic_id}; restore the topic that was, or begin again with this one"
                )
        self._known = found
        if self._group is None and self._next is not None:
            added = {
                (name, part): begin
                for name, topic in found.items()
                for part, begin in topic.begins.items()
                if (name, part) not in self._next
            }
            if added:
                log.info("partitions were added: %s", ", ".join(f"{name}[{part}]" for name, part in added))
                # Only they: to assign the others anew would give the message in hand once more.
                with contextlib.suppress(KafkaException):
                    self._consumer.incremental_assign(
                        [TopicPartition(*place, at) for place, at in added.items()]
                    )
                    self._next |= added
