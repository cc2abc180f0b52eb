"""Messages to columns: a frame for each event type, in its newest shape, and dead letters for the rest.

Values never become Python objects on the way, they would be the cost. Chunks of one schema are read by
`jobtrail.consumers.bulk`; one that it doubts is halved until few messages are left, and those are read
one by one, so that exactly the bad ones are put aside and their neighbours live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, Final, cast

import polars as pl

from jobtrail import codec
from jobtrail.codec import CONFLUENT_HEADER_SIZE, CONFLUENT_MARKER, SchemaById, Schemas
from jobtrail.consumers.bulk import BulkReader, DoubtError
from jobtrail.consumers.records import Records
from jobtrail.errors import BadMessageError
from jobtrail.events import Event
from jobtrail.projections.letters import DeadLetter
from jobtrail.strict import read_strictly
from jobtrail.wire import HEADER_SIZE, WireSchema

#: Messages in one block: with many more they leave the processor's cache, with fewer each call weighs.
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
_Rows = Sequence[int]


@dataclass(slots=True)
class Decoded:
    """What messages came to."""

    #: Event type → its events, never an empty frame. Columns are the event's fields (instants in microseconds
    #: since 1970, lists of records as lists of structs) and the `_` columns above.
    frames: Frames = field(default_factory=dict)
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

    def decode(self, records: Records) -> Decoded:
        """The events in `records`; their order within a frame is that of no promise.

        Raises ServerAwayError where a schema registry has to be asked and does not answer.
        """
        out = Decoded()
        meta = _meta(records)
        parts: dict[type[Event], list[pl.DataFrame]] = {}
        for shape, rows, values in self._groups(records, out.bad):
            for start in range(0, len(values), CHUNK):
                chunk = slice(start, start + CHUNK)
                for read_rows, frame in shape.read(
                    rows[chunk], values[chunk], partial(_put_aside, records, out.bad)
                ):
                    own = meta if len(read_rows) == len(meta) else meta[list(read_rows)]
                    parts.setdefault(shape.wire.event_type, []).append(frame.hstack(own))
        out.frames = {event_type: pl.concat(frames) for event_type, frames in parts.items()}
        return out

    def _groups(
        self, records: Records, bad: list[DeadLetter]
    ) -> Iterator[tuple[_Shape, _Rows, Sequence[bytes]]]:
        """The messages by schema: their rows and, with the header of a single-object encoding, values."""
        heads = pl.Series("head", records.values, dtype=pl.Binary).bin.head(HEADER_SIZE)
        groups = heads.to_frame().with_row_index("row").group_by("head").agg("row")
        # Where a header is known, no value of its group is null.
        values = cast("Sequence[bytes]", records.values)
        others: list[int] = []
        for head, series in groups.iter_rows():
            shape = self._shapes.get(head)
            if shape is None:
                others += series
            elif len(series) == len(records):
                yield shape, range(len(records)), values
            else:
                yield shape, series, [values[row] for row in series]
        yield from self._reframed(others, records, bad)

    def _reframed(
        self, others: _Rows, records: Records, bad: list[DeadLetter]
    ) -> Iterator[tuple[_Shape, _Rows, Sequence[bytes]]]:
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
            yield self._shapes[header], rows, values


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
            ROW: pl.int_range(len(records), dtype=pl.UInt32, eager=True),
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

    @cached_property
    def defaults(self) -> Mapping[str, Any]:
        return {f["name"]: f["default"] for f in self.newest.plain["fields"] if "default" in f}

    def read(
        self, rows: _Rows, values: Sequence[bytes], put_aside: Callable[[int, BadMessageError], None]
    ) -> Iterator[tuple[_Rows, pl.DataFrame]]:
        """Frames in the newest shape, each with the rows that it has of `rows`."""
        if self.wire.nested or len(values) <= FEW:
            yield from self._read_singly(rows, values, put_aside)
            return
        try:
            yield rows, self.bulk.read(values).select(self.newest_columns)
        except DoubtError:
            middle = len(values) // 2
            yield from self.read(rows[:middle], values[:middle], put_aside)
            yield from self.read(rows[middle:], values[middle:], put_aside)

    def _read_singly(
        self, rows: _Rows, values: Sequence[bytes], put_aside: Callable[[int, BadMessageError], None]
    ) -> Iterator[tuple[_Rows, pl.DataFrame]]:
        read, good = [], []
        for row, value in zip(rows, values, strict=True):
            try:
                read.append(read_strictly(self.wire, value))
                good.append(row)
            except BadMessageError as error:
                put_aside(row, error)
        if read:
            yield good, pl.DataFrame(read, schema=self.dtypes).select(self.newest_columns)


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
