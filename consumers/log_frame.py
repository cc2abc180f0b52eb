"""Reads a range of the log into one polars frame, by the bulk decoder: no value becomes a Python object."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Final

import polars as pl

from jobtrail import codec, kinds
from jobtrail.consumers.decode import BROKER_AT, OFFSET, PARTITION, Decoded, Decoder, column_types
from jobtrail.consumers.ends import Log
from jobtrail.consumers.filters import Filters, headers_of
from jobtrail.consumers.gate import read_many
from jobtrail.consumers.records import Records
from jobtrail.consumers.registry_schemas import registry_of
from jobtrail.consumers.stretch import TopicReader
from jobtrail.errors import UsageError
from jobtrail.events import Event, JobCreated, JobEvent
from jobtrail.fields import field_kind
from jobtrail.settings import Settings
from jobtrail.wire import HEADER_SIZE

log = logging.getLogger("jobtrail")

#: Messages decoded at once.
CHUNK: Final = 100_000
#: Most rows of a frame.
MOST: Final = 10_000_000
INSTANT: Final = pl.Datetime("us", "UTC")
#: Columns besides the event's fields, behind them.
PLACE: Final = {"partition": PARTITION, "offset": OFFSET, "received_at": BROKER_AT}


def read_frame(
    settings: Settings, filters: Filters, since: datetime | None, until: datetime | None
) -> pl.DataFrame:
    """As `jobtrail.frame` says."""
    ranges = _Ranges(settings)
    jobs = None if filters.connection_id is None else _jobs_of(ranges, settings, filters.connection_id)
    types = filters.wanted(settings)
    parts = {event_type: [_columns(event_type, _empty(event_type), "")] for event_type in types}
    rows = 0
    try:
        for name in filters.topics(settings):
            for decoded in ranges.read(name, types, since, until, key=filters.key):
                for event_type, found in decoded.frames.items():
                    if event_type not in parts:
                        continue  # it came in a framing that does not tell before it is decoded
                    if jobs is not None:
                        found = found.filter(_of_connection(event_type, filters, jobs))  # noqa: PLW2901  # ours
                    rows += found.height
                    if rows > MOST:
                        raise UsageError(
                            f"there are more than {MOST:,} events in that range; name fewer types, or a"
                            " shorter range with since and until"
                        )
                    parts[event_type].append(_columns(event_type, found, name))
    finally:
        ranges.close()
    whole = pl.concat([pl.concat(found) for found in parts.values()], how="diagonal")
    ends = ("topic", *PLACE)
    names = pl.Enum([event_type.__name__ for event_type in types])
    return (
        whole.select(*(name for name in whole.columns if name not in ends), *ends)
        .with_columns(pl.col("event_type").cast(names), pl.col("topic").cast(pl.Categorical))
        .sort(pl.col("topic").cast(pl.String), "partition", "offset")
    )


class _Ranges:
    """Ranges of topics, decoded. Close it."""

    def __init__(self, settings: Settings) -> None:
        self._log = Log(settings)
        self._reader = TopicReader(settings)
        self._decoder = Decoder(schema_by_id=registry_of(settings))
        self._bad = 0

    def read(
        self,
        name: str,
        types: Collection[type[Event]],
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        key: bytes | None = None,
    ) -> Iterator[Decoded]:
        """The events of a topic, of these types and with this key; bad ones are counted."""
        topic = self._log.topic(name, begins=True)
        begins = topic.begins if since is None else self._log.offsets_at(name, topic.ends, since)
        ends = topic.ends if until is None else self._log.offsets_at(name, topic.ends, until)
        others = codec.released().by_header.keys() - headers_of(types)
        for partition, end in sorted(ends.items()):
            for records in self._reader.read(name, topic.topic_id, partition, begins[partition], end, CHUNK):
                chosen = _chosen(records, others, key)
                if len(chosen):
                    decoded = read_many(self._decoder, chosen)
                    if decoded.bad and not self._bad:
                        first = decoded.bad[0]
                        log.warning("%s is no event (%s: %s)", first.place, first.reason, first.detail)
                    self._bad += len(decoded.bad)
                    yield decoded

    def close(self) -> None:
        """Leaves Kafka, and says how much was no event."""
        self._reader.close()
        if self._bad:
            log.warning("%d messages of the range are no events; they are left out", self._bad)


def _chosen(records: Records, others: Collection[bytes], key: bytes | None) -> Records:
    """Those that may be wanted: with the key, and not of another type."""
    rows = [
        row
        for row, value in enumerate(records.values)
        if (value is None or value[:HEADER_SIZE] not in others) and (key is None or records.keys[row] == key)
    ]
    return records if len(rows) == len(records) else records.take(rows)


def _jobs_of(ranges: _Ranges, settings: Settings, connection_id: str) -> pl.Series:
    """Jobs whose first JobCreated in the log names the connection."""
    found = [pl.DataFrame(schema={"job_id": pl.Int64, "connection_id": pl.String})]
    found += (
        decoded.frames[JobCreated].sort(PARTITION, OFFSET).select("job_id", "connection_id")
        for decoded in ranges.read(settings.events_topic, [JobCreated])
        if JobCreated in decoded.frames
    )
    first = pl.concat(found).unique("job_id", keep="first", maintain_order=True)
    return first.filter(pl.col("connection_id") == connection_id)["job_id"]


def _of_connection(event_type: type[Event], filters: Filters, jobs: pl.Series) -> pl.Expr:
    if issubclass(event_type, JobEvent):
        return pl.col("job_id").is_in(jobs.implode())
    return pl.col("connection_id") == filters.connection_id


def _columns(event_type: type[Event], found: pl.DataFrame, topic: str) -> pl.DataFrame:
    """The columns of the result that the type has."""
    instants = [name for name, field in event_type.model_fields.items() if field_kind(field) is kinds.INSTANT]
    return found.select(
        pl.lit(event_type.__name__).alias("event_type"),
        *(pl.col(name).cast(INSTANT) if name in instants else pl.col(name) for name in _types(event_type)),
        pl.lit(topic).alias("topic"),
        *(
            pl.col(source).cast(INSTANT if source == BROKER_AT else pl.Int64).alias(name)
            for name, source in PLACE.items()
        ),
    )


def _empty(event_type: type[Event]) -> pl.DataFrame:
    return pl.DataFrame(schema={**_types(event_type), **dict.fromkeys(PLACE.values(), pl.Int64)})


def _types(event_type: type[Event]) -> dict[str, pl.DataType]:
    return column_types(codec.released().newest[event_type].plain)
