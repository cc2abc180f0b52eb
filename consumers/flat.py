"""Messages of a block into columns: of every schema that has neither lists nor records in it.

One pass over the bytes finds the values, and proves that they are spelled in the shortest way, lie within
their bounds, and that the message has the right key. Texts stay where they are: a column of them is Arrow's
views into the block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from jobtrail import kinds
from jobtrail.consumers import compiled
from jobtrail.consumers.block import Block
from jobtrail.events import Event
from jobtrail.fields import field_kind
from jobtrail.kinds import INT64_MAX, Kind
from jobtrail.wire import WireSchema

#: Messages that are read at once: with many more their columns leave the processor's cache.
CHUNK: Final = 20_000
Rows = npt.NDArray[np.intp]


class FlatSchemas:
    """All that can be read so."""

    def __init__(self, wires: Iterable[WireSchema]) -> None:
        self._readers = [(wire, FlatReader(wire)) for wire in wires if _is_flat(wire)]

    def warm_up(self, block: Block) -> None:
        """Has the compiler do its work, or load it, where there is nothing to read yet."""
        for _ in self.read(block):
            pass
        for _, reader in self._readers:
            reader.read(block.buffer, _messages(block))

    def read(self, block: Block) -> Iterator[tuple[WireSchema, pl.DataFrame, Rows]]:
        """Good messages of one schema, a column for each field, and their rows in the block."""
        messages = _messages(block)
        fingerprints = np.empty(len(block), np.uint64)
        compiled.fingerprints(block.buffer, messages, fingerprints)
        for wire, reader in self._readers:
            ours = np.flatnonzero(fingerprints == int.from_bytes(wire.header[-8:], "little"))
            for start in range(0, len(ours), CHUNK):
                rows = ours[start : start + CHUNK]
                some = compiled.Messages(*(column[rows] for column in messages))
                frame, good = reader.read(block.buffer, some)
                if frame.height:
                    yield wire, frame, rows[good]


def _is_flat(wire: WireSchema) -> bool:
    """Whether it has neither lists nor records, nor a field that its class does not know."""
    names = {field["name"] for field in wire.plain["fields"]}
    return not wire.nested and names <= wire.event_type.model_fields.keys()


def _messages(block: Block) -> compiled.Messages:
    return compiled.Messages(block.values, block.value_sizes, block.keys, block.key_sizes)


class FlatReader:
    """Reads messages of one schema that has neither lists nor records in it.

    What it calls good is so by everything that the gate asks for, and keyed by the right field.
    """

    def __init__(self, wire: WireSchema) -> None:
        fields = wire.plain["fields"]
        self._names: list[str] = [field["name"] for field in fields]
        found = [_kind(wire.event_type, name) for name in self._names]
        codes = [_code(kind) for kind in found]
        #: Which column of `compiled.Columns` a field is in, and its row there.
        self._columns = [_COLUMN.get(code, compiled.TEXT) for code in codes]
        slots = [self._columns[:place].count(column) for place, column in enumerate(self._columns)]
        self._optional = [isinstance(field["type"], list) for field in fields]
        least = [-INT64_MAX - 1 if kind.minimum is None else kind.minimum for kind in found]
        most = [kind.max_bytes if kind.avro == "string" else kind.maximum for kind in found]
        self._fields = compiled.Fields(
            np.array(codes, np.int64) | np.array(self._optional, np.int64) * compiled.OPTIONAL,
            np.array(slots, np.int64),
            np.array(least, np.int64),
            np.array([INT64_MAX if limit is None else limit for limit in most], np.int64),
            self._names.index(wire.event_type.key_field),
        )

    def read(
        self, buffer: compiled.Bytes, messages: compiled.Messages
    ) -> tuple[pl.DataFrame, npt.NDArray[np.bool_]]:
        """The good ones, with a column for each field; and which those are. The buffer is a Block's."""
        rows = len(messages.values)
        columns = compiled.Columns(
            np.zeros((self._columns.count(compiled.LONG), rows), np.int64),
            np.zeros((self._columns.count(compiled.BOOLEAN), rows), np.uint8),
            np.zeros((self._columns.count(compiled.TEXT), rows, 2), np.uint64),
            np.ones((len(self._names), rows), np.uint8),
        )
        good = np.zeros(rows, np.bool_)
        words = compiled.words_of(buffer)
        is_ascii = compiled.read_flat(buffer, words, messages, self._fields, columns, good)
        batch = pa.RecordBatch.from_arrays(
            [self._array(field, buffer, columns) for field in range(len(self._names))], self._names
        )
        if not is_ascii:
            try:
                batch.validate(full=True)
            except pa.ArrowInvalid:
                good[:] = False
                return pl.DataFrame(), good
        frame = pl.DataFrame(batch)
        return (frame if good.all() else frame.filter(good)), good

    def _array(self, field: int, buffer: compiled.Bytes, columns: compiled.Columns) -> pa.Array:
        slot, known = self._fields.slots[field], columns.known[field]
        mask = _bits(known) if self._optional[field] else None
        match self._columns[field]:
            case compiled.LONG:
                kind, parts = pa.int64(), [mask, pa.py_buffer(columns.longs[slot])]
            case compiled.BOOLEAN:
                kind, parts = pa.bool_(), [mask, _bits(columns.booleans[slot])]
            case _:
                texts = pa.py_buffer(columns.texts[slot])
                kind, parts = pa.string_view(), [mask, texts, pa.py_buffer(buffer)]
        return pa.Array.from_buffers(kind, len(known), parts)


def _kind(event_type: type[Event], name: str) -> Kind:
    kind = field_kind(event_type.model_fields[name])
    assert kind is not None  # noqa: S101  # else the schema is nested
    return kind


def _code(kind: Kind) -> int:
    match kind:
        case Kind(avro="long"):
            return compiled.LONG
        case Kind(avro="boolean"):
            return compiled.BOOLEAN
        case Kind(pattern=kinds.EVENT_ID):
            return compiled.EVENT_ID
        case Kind(avro="string", pattern=None, json_object=False):
            return compiled.TEXT
        case Kind(avro="string"):
            return compiled.JSON
        case _:
            raise TypeError(f"{kind.name}: there is no column for {kind.avro}")


#: Kind → the column that its values are in, where they are no texts.
_COLUMN: Final = {compiled.LONG: compiled.LONG, compiled.BOOLEAN: compiled.BOOLEAN}


def _bits(of: npt.NDArray[Any]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(of, bitorder="little"))
