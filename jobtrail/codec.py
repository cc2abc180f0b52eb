"""Events to bytes and back.

On the wire an event is an Avro single-object encoding: the marker C3 01, the schema's 64-bit Rabin
fingerprint (little-endian), the body (Avro specification, "Single-object encoding"). The Confluent framing
(00, schema id as four bytes big-endian, body) is read too, where a schema registry resolves the id.

Every released schema stays in avro/. `decode` gives the newest shape only: a field that an older version
lacks has its default.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form
from pydantic import ValidationError

from jobtrail.errors import BadMessageError
from jobtrail.events import EVENT_TYPES, Event

MARKER: Final = b"\xc3\x01"
#: Bytes before the body in a single-object encoding.
HEADER_SIZE: Final = 10
CONFLUENT_MARKER: Final = b"\x00"
CONFLUENT_HEADER_SIZE: Final = 5

Schema = dict[str, Any]
#: From a Confluent schema id to the schema's text. Raises BadMessageError for an id that does not exist.
SchemaById = Callable[[int], str]


@dataclass(frozen=True, slots=True)
class WireSchema:
    """One released schema of one event type."""

    event_type: type[Event]
    version: int
    #: As in avro/, without logical types: all readers see plain longs and strings, bounds are the gate's.
    plain: Schema
    #: Parsed by fastavro, with logical types.
    parsed: Schema
    #: The ten bytes before each body.
    header: bytes
    #: Whether a field is a list of records.
    nested: bool


class Schemas:
    """All released schemas, by the header of their messages."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        """Takes file names `<Event>.v<version>.avsc` and their texts."""
        types = {event_type.__name__: event_type for event_type in EVENT_TYPES}
        self.by_header: dict[bytes, WireSchema] = {}
        self.newest: dict[type[Event], WireSchema] = {}
        for file_name, text in sorted(texts.items()):
            name, version, _ = file_name.rsplit(".", 2)
            wire = _wire_schema(types[name], int(version.removeprefix("v")), json.loads(text))
            self.by_header[wire.header] = wire
            known = self.newest.get(wire.event_type)
            if known is None or known.version < wire.version:
                self.newest[wire.event_type] = wire

    def encode(self, event: Event) -> bytes:
        """The event as a single-object encoding in its newest schema."""
        wire = self.newest[type(event)]
        out = io.BytesIO(wire.header)
        out.seek(HEADER_SIZE)
        # A flat event's attributes are its row already; model_dump costs as much as the encoding.
        row = event.model_dump() if wire.nested else event.__dict__
        fastavro.schemaless_writer(out, wire.parsed, row)
        return out.getvalue()

    def frame(self, value: bytes | None, schema_by_id: SchemaById | None = None) -> bytes:
        """The message with a known single-object header, whatever framing it came in.

        Raises BadMessageError (null_value, unknown_schema) where it has no schema that we know.
        """
        if value is None:
            raise BadMessageError("null_value", "the message has no value; events are never deleted")
        if value[:HEADER_SIZE] in self.by_header:
            return value
        if value[:1] == CONFLUENT_MARKER and len(value) >= CONFLUENT_HEADER_SIZE:
            return self._confluent_header(value, schema_by_id) + value[CONFLUENT_HEADER_SIZE:]
        found = value[:HEADER_SIZE].hex(" ") or "nothing"
        raise BadMessageError("unknown_schema", f"it starts with {found}, which is no released schema")

    def _confluent_header(self, value: bytes, schema_by_id: SchemaById | None) -> bytes:
        schema_id = int.from_bytes(value[1:CONFLUENT_HEADER_SIZE], "big")
        if schema_by_id is None:
            raise BadMessageError(
                "unknown_schema",
                f"Confluent framing with schema id {schema_id}, and no schema registry is set",
            )
        header = header_of(json.loads(schema_by_id(schema_id)))
        if header not in self.by_header:
            raise BadMessageError(
                "unknown_schema", f"the registry's schema {schema_id} is no released schema"
            )
        return header

    def decode(self, value: bytes | None, schema_by_id: SchemaById | None = None) -> Event:
        """The event in a message, in its newest shape.

        Raises BadMessageError with a reason: null_value, unknown_schema, truncated, trailing_bytes,
        invalid_utf8, malformed, or that of a Kind (out_of_range, nul_in_text, too_long, bad_id, bad_json).
        """
        framed = self.frame(value, schema_by_id)
        wire = self.by_header[framed[:HEADER_SIZE]]
        return build(wire.event_type, read_body(wire, framed))


def _wire_schema(event_type: type[Event], version: int, schema: Schema) -> WireSchema:
    return WireSchema(
        event_type=event_type,
        version=version,
        plain=_without_logical_types(schema),
        parsed=fastavro.parse_schema(schema),  # type: ignore[arg-type]  # a dict is what it gives for a record
        header=header_of(schema),
        nested=any(
            isinstance(field["type"], dict) and "items" in field["type"] for field in schema["fields"]
        ),
    )


def header_of(schema: Schema) -> bytes:
    """Marker and fingerprint of a schema: the first ten bytes of its messages."""
    digest = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    return MARKER + bytes.fromhex(digest)


def _without_logical_types(schema: Any) -> Any:
    match schema:
        case {"type": str(primitive), "logicalType": _}:
            return primitive
        case dict():
            return {key: _without_logical_types(value) for key, value in schema.items() if key != "doc"}
        case list():
            return [_without_logical_types(part) for part in schema]
        case _:
            return schema


def read_body(wire: WireSchema, framed: bytes) -> dict[str, Any]:
    """Decodes one body to its last byte, instants as microseconds. Raises BadMessageError."""
    stream = io.BytesIO(framed)
    stream.seek(HEADER_SIZE)
    try:
        row = fastavro.schemaless_reader(stream, wire.plain, None)
    except UnicodeDecodeError as error:
        raise BadMessageError(
            "invalid_utf8", f"{error.reason} in a text of {wire.event_type.__name__}"
        ) from None
    except EOFError:
        raise BadMessageError(
            "truncated",
            f"the body of {wire.event_type.__name__} ends after {len(framed) - HEADER_SIZE} bytes",
        ) from None
    except (IndexError, ValueError, OverflowError, MemoryError, TypeError, KeyError) as error:
        raise BadMessageError("malformed", f"no {wire.event_type.__name__}: {error!r}") from None
    if extra := len(framed) - stream.tell():
        raise BadMessageError("trailing_bytes", f"{extra} bytes after the body of {wire.event_type.__name__}")
    return row  # type: ignore[return-value]  # the schema is a record


def build(event_type: type[Event], row: Mapping[str, Any]) -> Event:
    """The event of a decoded row, checked by its class. Raises BadMessageError naming the field."""
    try:
        return event_type.model_validate(
            {name: value for name, value in row.items() if name in event_type.model_fields}, strict=False
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise BadMessageError(first["type"], f"{event_type.__name__}.{field}: {first['msg']}") from None


@cache
def released() -> Schemas:
    """The schemas in avro/, read once."""
    folder = files("jobtrail") / "avro"
    return Schemas(
        {entry.name: entry.read_text() for entry in folder.iterdir() if entry.name.endswith(".avsc")}
    )


def encode(event: Event) -> bytes:
    """The event as a single-object encoding in its newest released schema."""
    return released().encode(event)


def decode(value: bytes | None, schema_by_id: SchemaById | None = None) -> Event:
    """The event in a message, in its newest shape. See `Schemas.decode`."""
    return released().decode(value, schema_by_id)
