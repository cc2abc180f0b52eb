"""Where a reader of the log begins: at its beginning, at its end, at a time, or at offsets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from jobtrail.consumers.ends import Log, Topic
from jobtrail.errors import LogError, UsageError

#: Times are the broker's. Offsets are by partition; partitions that are not named begin at their beginning.
Start = Literal["earliest", "latest"] | datetime | Mapping[int, int]


def check_start(start: Start) -> None:
    """Raises UsageError for what is none."""
    match start:
        case "earliest" | "latest":
            return
        case datetime():
            aware("start", start)
        case Mapping():
            for partition, offset in start.items():
                if not all(isinstance(one, int) and one >= 0 for one in (partition, offset)):
                    raise UsageError(
                        f"start: {partition!r}: {offset!r} is no partition and offset, two numbers from 0 on"
                    )
        case int():
            raise UsageError(
                f"start: {start} alone names no place, for each partition has offsets of its own; write"
                f" {{0: {start}}} for partition 0"
            )
        case _:
            raise UsageError(
                f"start: {start!r} is none of 'earliest', 'latest', a datetime, or offsets by partition"
            )


def aware(name: str, moment: object) -> datetime:
    """The moment, if it is one and knows its offset from UTC. Raises UsageError."""
    if not isinstance(moment, datetime):
        raise UsageError(f"{name}: {moment!r} is no datetime")
    if moment.utcoffset() is None:
        raise UsageError(
            f"{name}: {moment.isoformat()} has no offset from UTC; write datetime(…, tzinfo=UTC), or"
            " .astimezone() for a local time"
        )
    return moment


def first_offsets(log: Log, name: str, topic: Topic, start: Start) -> dict[int, int]:
    """Partition → where to begin. `topic` has its begins.

    Raises UsageError for a partition or an offset that is not there yet, LogError for one that is gone.
    """
    match start:
        case "earliest":
            return topic.begins.copy()
        case "latest":
            return topic.ends.copy()
        case datetime():
            return log.offsets_at(name, topic.ends, start)
    for partition, offset in start.items():
        if partition not in topic.ends:
            raise UsageError(
                f"start: topic {name} has {len(topic.ends)} partitions from 0 on, no {partition}"
            )
        if offset > topic.ends[partition]:
            raise UsageError(
                f"start: offset {offset} of topic {name}, partition {partition}, is behind the log's end,"
                f" {topic.ends[partition]}; take a smaller one, or start='latest'"
            )
        check_within(name, partition, offset, topic, f"start={offset}")
    return {**topic.begins, **start}


def check_within(name: str, partition: int, offset: int, topic: Topic, who: str) -> None:
    """Raises LogError where the log does not have the offset; `who` wants it."""
    place = f"topic {name}, partition {partition}"
    begin, end = topic.begins[partition], topic.ends[partition]
    if offset < begin:
        raise LogError(
            f"{place}: {who} needs offsets {offset} to {begin - 1}, which are no longer in the log: it begins"
            f" at {begin}; go on from there on purpose, or read what is missing from an archive"
        )
    if offset > end:
        raise LogError(f"{place}: {who} needs offset {offset}, and the log ends at {end}: it lost events")
