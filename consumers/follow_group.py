"""A consumer group of followers: its commits say where to go on, and what was read until there.

Kafka keeps a text beside each committed offset. Here it is the filters, so that a group cannot be used with
others by mistake: what they want and the old ones passed over would be lost unseen. It is also the topic's
id, as a topic made anew has other events at the same offsets, and the number of partitions when the group
began: one beyond that was added later, and is read from its beginning.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import TopicPartition

from jobtrail.consumers.filters import Filters, described
from jobtrail.consumers.records import Place
from jobtrail.errors import ConflictError, LogError, UsageError
from jobtrail.settings import Settings

#: Of the text.
VERSION: Final = 1
#: Groups of this name are Jobtrail's own.
OWN: Final = "jobtrail-"


@dataclass(frozen=True)
class Group:
    """One group, as one of its members sees it."""

    name: str
    filters: Filters

    def check_name(self, settings: Settings) -> None:
        """Raises UsageError for a name that is Jobtrail's own, or none."""
        if not isinstance(self.name, str) or not self.name.strip():
            raise UsageError(f"group: {self.name!r} is no name; leave it out to read without a group")
        if self.name.startswith(OWN) or self.name in {settings.projector_group, settings.analytics_group}:
            raise UsageError(
                f"group: {self.name} is one of Jobtrail's own, and reading in it would take events from it;"
                f" choose a name that does not begin with {OWN}"
            )

    def text(self, topic_id: str, partitions: int) -> str:
        """What is kept beside each offset."""
        return json.dumps(
            {"jobtrail": VERSION, "topic_id": topic_id, "partitions": partitions, **self._chosen()},
            ensure_ascii=False,
            separators=(",", ":"),
        )

    def check(self, committed: Iterable[TopicPartition], topic_ids: Mapping[str, str]) -> Commits:
        """What the group has committed.

        Raises ConflictError for other filters, LogError for another topic of the name.
        """
        commits = Commits({}, {})
        for one in committed:
            if one.offset < 0:
                continue
            commits.offsets[one.topic, one.partition] = one.offset
            text = str(getattr(one, "metadata", None) or "")
            if not text:
                continue  # set by Kafka's own tools: whoever did that knows where to go on
            kept = self._read(text)
            if (theirs := _chosen_by(kept)) != self._chosen():
                raise ConflictError(
                    f"group {self.name} is used with other filters: it reads {described(**theirs)}, and this"
                    f" is {self.filters}; what the group has passed over would be missing, so take a group of"
                    " another name"
                )
            if kept["topic_id"] != topic_ids[one.topic]:
                raise LogError(
                    f"topic {one.topic} was made anew: its id is {topic_ids[one.topic]}, and what group"
                    f" {self.name} has committed is of {kept['topic_id']}; restore the topic that was, or"
                    " take a group of another name to read this one"
                )
            least = commits.partitions.get(one.topic, kept["partitions"])
            commits.partitions[one.topic] = min(least, kept["partitions"])
        return commits

    def _read(self, text: str) -> dict[str, Any]:
        try:
            kept = json.loads(text)
            if kept["jobtrail"] == VERSION:
                return dict(kept)
        except (ValueError, LookupError, TypeError):
            pass
        raise ConflictError(
            f"group {self.name} is used by another program, which keeps {text[:80]!r} with its offsets; take"
            " a group of another name"
        )

    def _chosen(self) -> dict[str, Any]:
        filters = self.filters
        types = None if filters.types is None else [event_type.__name__ for event_type in filters.types]
        return {"types": types, "job_id": filters.job_id, "connection_id": filters.connection_id}


@dataclass(frozen=True)
class Commits:
    """Where a group goes on."""

    #: Next offset to read; without an entry nothing was committed.
    offsets: dict[Place, int]
    #: Topic → number of its partitions when the group began; without an entry it has not begun.
    partitions: dict[str, int]

    def added_later(self, place: Place) -> bool:
        """Whether the partition is younger than the group."""
        topic, partition = place
        return topic in self.partitions and partition >= self.partitions[topic]


def _chosen_by(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {name: kept.get(name) for name in ("types", "job_id", "connection_id")}
