"""Messages to columns: a frame for each event type, in its newest shape, and dead letters for the rest.

Values never become Python objects on the way, they would be the cost. Of a block of the log as it lies in
Kafka, `jobtrail.consumers.flat` reads the messages of most schemas and says which it doubts. The others, and
all that come from a client one by one, are read in chunks of one schema by `jobtrail.consumers.bulk`; one
that it doubts is halved until few messages are left, and those are read one by one, so that exactly the bad
ones are put aside and their neighbours live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import polars as pl

from jobtrail import codec
from jobtrail.codec import CONFLUENT_HEADER_SIZE, CONFLUENT_MARKER, SchemaById, Schemas
from jobtrail.consumers.block import Block
from jobtrail.consumers.bulk import BulkReader, DoubtError
from jobtrail.consumers.records import Records
from jobtrail.errors import BadMessageError
from jobtrail.events import Event
from jobtrail.projections.dead_letter import DeadLetter
from jobtrail.strict import read_strictly
from jobtrail.wire import HEADER_SIZE, WireSchema

if TYPE_CHECKING:
    from jobtrail.consumers.flat import FlatSchemas

#: Messages in one chunk: with many more they leave the processor's cache, with fewer each call weighs.
CHUNK: Final = 20_000
#: As few are read one by one.
FEW: Final = 32
#: Columns that each frame has besides the event's fields.
PARTITION: Final = "_partition"
OFFSET: Final = "_offset"
#: Microseconds since 1970, as the broker appended it.
BROKER_AT: Final = "_broker_at"
#: Only between decoding and the gate: the message's key, and its row in the Records.
KEY: Final = "_key"
ROW: Final = "_row"

Frames = dict[type[Event], pl.DataFrame]
Messages = Records | Block


@dataclass(slots=True)
class Decoded:
    """What messages came to."""

    #: Event type → its events, never an empty frame. Columns are the event's fields (instants in microseconds
    #: since 1970, lists of records as lists of structs) and the `_` columns above.
    frames: Frames = field(default_factory=dict)
    #: Those that have passed the gate, or need not; without the columns that only the gate needs.
    good: Frames = field(default_factory=dict)
    #: The same where there were few (`jobtrail.consumers.few`): each event as a row.
    few: dict[type[Event], list[dict[str, Any]]] = field(default_factory=dict)
    #: Messages that are no events.
    bad: list[DeadLetter] = field(default_factory=list)


def together(parts: Iterable[Decoded]) -> Decoded:
    """Several as one."""
    frames: dict[type[Event], list[pl.DataFrame]] = {}
    whole = Decoded()
    for part in parts:
        whole.bad += part.bad
        for event_type, frame in part.frames.items():
            frames.setdefault(event_type, []).append(frame)
        for event_type, events in part.few.items():
            whole.few.setdefault(event_type, []).extend(events)
    whole.frames = {event_type: pl.concat(found) for event_type, found in frames.items()}
    return whole


class Decoder:
    """Decodes messages of all released schemas."""

    def __init__(self, schemas: Schemas | None = None, schema_by_id: SchemaById | None = None) -> None:
        """Takes the schemas (default: the released ones) and, for the Confluent framing, the registry."""
        self._schemas = schemas or codec.released()
        self._schema_by_id = schema_by_id
        #: First bytes of the Confluent framing → header of the single-object encoding.
        self._headers: dict[bytes | None, bytes] = {}
        self._shapes = {
            header: _Shape(wire, self._schemas.newest[wire.event_type])
            for header, wire in self._schemas.by_header.items()
        }

    def decode(self, messages: Messages) -> Decoded:
        """The events in `messages`; their order within a frame is that of no promise.

        Raises ServerAwayError where a schema registry has to be asked and does not answer.
        """
        return self._decode_block(messages) if isinstance(messages, Block) else self._decode_records(messages)

    def _decode_block(self, block: Block) -> Decoded:
        good: dict[type[Event], list[pl.DataFrame]] = {}
        left = np.ones(len(block), np.bool_)
        for wire, frame, rows in self._flat.read(block):
            left[rows] = False
            about = [
                pl.repeat(block.partition, len(rows), dtype=pl.Int64, eager=True).alias(PARTITION),
                pl.Series(OFFSET, block.offsets[rows]),
                pl.Series(BROKER_AT, block.broker_ms[rows] * 1000),
            ]
            newest = self._shapes[wire.header].in_newest_shape(frame)
            good.setdefault(wire.event_type, []).append(newest.hstack(about))
        others = np.flatnonzero(left)
        out = self._decode_records(block.take(others).records()) if len(others) else Decoded()
        for event_type, frame in out.frames.items():
            rows = others[frame[ROW].to_numpy()].astype(np.uint32)
            out.frames[event_type] = frame.with_columns(pl.Series(ROW, rows))
        out.good = {event_type: pl.concat(frames) for event_type, frames in good.items()}
        return out

    def warm_up(self) -> None:
        """Loads what blocks need, or has it compiled, before the first of them comes."""
        self._flat.warm_up(Block.of("", "", 0, []))

    @cached_property
    def _flat(self) -> FlatSchemas:
        from jobtrail.consumers.flat import FlatSchemas  # and the compiler with it

        return FlatSchemas(shape.wire for shape in self._shapes.values())

    def _decode_records(self, records: Records) -> Decoded:
        out = Decoded()
        meta = _meta(records)
        parts: dict[type[Event], list[pl.DataFrame]] = {}
        for group in self._groups(records, out.bad):
            for rows, frame in group.shape.read(group, partial(_put_aside, records, out.bad)):
                own = meta if len(rows) == len(meta) else meta[rows]
                parts.setdefault(group.shape.wire.event_type, []).append(
                    frame.hstack([*own.get_columns(), rows.alias(ROW)])
                )
        out.frames = {event_type: pl.concat(frames) for event_type, frames in parts.items()}
        return out

    def read(self, value: bytes | None) -> tuple[type[Event], dict[str, Any]]:
        """One message by itself, in its newest shape, with plain values.

        Raises BadMessageError for what is no event, and ServerAwayError as above.
        """
        start = _start(value)
        if start not in self._shapes:
            if start not in self._headers:
                self._headers[start] = self._schemas.frame(start, self._schema_by_id)
            start = self._headers[start]
            value = start + (value or b"")[CONFLUENT_HEADER_SIZE:]
        shape = self._shapes[start]
        return shape.wire.event_type, shape.upcast(read_strictly(shape.wire, value or b""))

    def _groups(self, records: Records, bad: list[DeadLetter]) -> Iterator[_Group]:
        """The messages by schema; what has none that we know is bad."""
        values = pl.Series(records.values, dtype=pl.Binary)
        heads = pl.DataFrame(
            {"head": values.bin.head(HEADER_SIZE), "size": values.bin.size().cast(pl.Int64)}
        ).with_row_index("row")
        groups = heads.group_by("head").agg("row", "size")
        others: list[int] = []
        for head, rows, sizes in zip(*groups.get_columns(), strict=True):
            shape = self._shapes.get(head)
            if shape is None:
                others.extend(rows)
            else:
                # Where a header is known, no value of its group is null.
                yield _Group(shape, rows, cast("list[bytes]", _at(records.values, rows)), sizes)
        yield from self._reframed(others, records, bad)

    def _reframed(self, others: Sequence[int], records: Records, bad: list[DeadLetter]) -> Iterator[_Group]:
        """Messages in the Confluent framing, by schema; what is in neither framing is bad."""
        groups: dict[bytes, tuple[list[int], list[bytes]]] = {}
        refused: dict[bytes | None, BadMessageError] = {}
        for row in others:
            value = records.values[row]
            # What the framing says of the schema is the same for all messages that begin so.
            start = _start(value)
            header = self._headers.get(start)
            if header is None and start not in refused:
                try:
                    header = self._schemas.frame(start, self._schema_by_id)
                    self._headers[start] = header
                except BadMessageError as error:
                    refused[start] = error
            if header is None or value is None:
                _put_aside(records, bad, row, refused[start])
            else:
                group = groups.setdefault(header, ([], []))
                group[0].append(row)
                group[1].append(header + value[CONFLUENT_HEADER_SIZE:])
        for header, (rows, values) in groups.items():
            sizes = pl.Series([*map(len, values)], dtype=pl.Int64)
            yield _Group(self._shapes[header], pl.Series(rows, dtype=pl.UInt32), values, sizes)


def _at(values: Sequence[bytes | None], rows: pl.Series) -> list[bytes | None]:
    """Those in these rows."""
    if len(rows) == len(values):
        return list(values)
    if len(rows) == 1:
        return [values[rows[0]]]
    return list(itemgetter(*rows.to_list())(values))


def _start(value: bytes | None) -> bytes | None:
    """The part of a message that names its schema, in either framing."""
    if value is None:
        return None
    return value[: CONFLUENT_HEADER_SIZE if value.startswith(CONFLUENT_MARKER) else HEADER_SIZE]


def _meta(records: Records) -> pl.DataFrame:
    """The columns that come from the message around the value."""
    return pl.DataFrame(
        {
            PARTITION: pl.Series(records.partitions, dtype=pl.Int64),
            OFFSET: pl.Series(records.offsets, dtype=pl.Int64),
            BROKER_AT: pl.Series(records.broker_ms, dtype=pl.Int64) * 1000,
            KEY: pl.Series(records.keys, dtype=pl.Binary),
        }
    )


def _put_aside(records: Records, bad: list[DeadLetter], row: int, error: BadMessageError) -> None:
    bad.append(records.dead_letter(row, error.reason, error.detail))


@dataclass
class _Shape:
    """One released schema and how its messages become the newest shape."""

    wire: WireSchema
    newest: WireSchema

    @cached_property
    def bulk(self) -> BulkReader:
        return BulkReader(self.wire)

    @cached_property
    def dtypes(self) -> dict[str, pl.DataType]:
        return column_types(self.wire.plain)

    @cached_property
    def newest_columns(self) -> list[pl.Expr]:
        """Upcasting: what an older version lacks has its default."""
        return [
            pl.col(name) if name in self.dtypes else pl.lit(self.defaults[name], dtype=dtype).alias(name)
            for name, dtype in column_types(self.newest.plain).items()
        ]

    def upcast(self, row: dict[str, Any]) -> dict[str, Any]:
        """The same for one message."""
        if self.wire is self.newest:
            return row
        names = (field["name"] for field in self.newest.plain["fields"])
        return {name: row[name] if name in row else self.defaults[name] for name in names}

    @cached_property
    def defaults(self) -> Mapping[str, Any]:
        return {f["name"]: f["default"] for f in self.newest.plain["fields"] if "default" in f}

    def read(
        self, group: _Group, put_aside: Callable[[int, BadMessageError], None]
    ) -> Iterator[tuple[pl.Series, pl.DataFrame]]:
        """Frames in the newest shape, each with the rows that it has of the group's."""
        if len(group) > CHUNK:
            for start in range(0, len(group), CHUNK):
                yield from self.read(group[start : start + CHUNK], put_aside)
        elif len(group) <= FEW:
            yield from self._read_singly(group, put_aside)
        elif (frame := self._read_in_bulk(group)) is not None:
            yield group.rows, frame
        else:
            middle = len(group) // 2
            yield from self.read(group[:middle], put_aside)
            yield from self.read(group[middle:], put_aside)

    def _read_in_bulk(self, group: _Group) -> pl.DataFrame | None:
        """None where it cannot be proven that all are good."""
        try:
            frame = self.bulk.read(group.values, int(group.sizes.sum()))
        except DoubtError:
            return None
        return self.in_newest_shape(frame)

    def in_newest_shape(self, frame: pl.DataFrame) -> pl.DataFrame:
        """A frame of this schema as one of the newest."""
        return frame if self.wire is self.newest else frame.select(self.newest_columns)

    def _read_singly(
        self, group: _Group, put_aside: Callable[[int, BadMessageError], None]
    ) -> Iterator[tuple[pl.Series, pl.DataFrame]]:
        read, good = [], []
        for row, value in zip(group.rows, group.values, strict=True):
            try:
                read.append(read_strictly(self.wire, value))
                good.append(row)
            except BadMessageError as error:
                put_aside(row, error)
        if read:
            frame = pl.DataFrame(read, schema=self.dtypes).select(self.newest_columns)
            yield pl.Series(good, dtype=pl.UInt32), frame


@dataclass(frozen=True, slots=True)
class _Group:
    """Messages of one schema."""

    shape: _Shape
    #: In the Records.
    rows: pl.Series
    #: With the header of a single-object encoding.
    values: list[bytes]
    #: Bytes of each.
    sizes: pl.Series

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, part: slice) -> _Group:
        return _Group(self.shape, self.rows[part], self.values[part], self.sizes[part])


def column_types(schema: dict[str, Any]) -> dict[str, pl.DataType]:
    """Field → type of its column, for a record without logical types."""
    named: dict[str, pl.DataType] = {}
    return {part["name"]: _column_type(part["type"], named) for part in schema["fields"]}


_COLUMN_TYPES: Final[Mapping[str, pl.DataType]] = MappingProxyType(
    {"long": pl.Int64(), "string": pl.String(), "boolean": pl.Boolean(), "double": pl.Float64()}
)


def _column_type(schema: Any, named: dict[str, pl.DataType]) -> pl.DataType:
    match schema:
        case ["null", value]:
            return _column_type(value, named)
        case {"type": "array"}:
            return pl.List(_column_type(schema["items"], named))
        case {"type": "record"}:
            fields = {part["name"]: _column_type(part["type"], named) for part in schema["fields"]}
            named[schema["name"]] = pl.Struct(fields)
            return named[schema["name"]]
        case _:
            return _COLUMN_TYPES.get(schema) or named[schema]
