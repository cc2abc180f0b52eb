"""Events to bytes and back.

On the wire an event is an Avro single-object encoding: the marker C3 01, the schema's 64-bit Rabin
fingerprint (little-endian), the body (Avro specification, "Single-object encoding"). The Confluent framing
(00, schema id as four bytes big-endian, body) is read too, where a schema registry resolves the id.

Every released schema stays in avro/. `decode` gives the newest shape only: a field that an older version
lacks has its default.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

from pydantic import ValidationError

from jobtrail.encoder import Encode, encoder
from jobtrail.errors import BadMessageError
from jobtrail.events import EVENT_TYPES, Event
from jobtrail.strict import read_strictly
from jobtrail.wire import HEADER_SIZE, WireSchema, header_of, wire_schema

CONFLUENT_MARKER: Final = b"\x00"
CONFLUENT_HEADER_SIZE: Final = 5

#: From a Confluent schema id to the schema's text. Raises BadMessageError for an id that does not exist.
SchemaById = Callable[[int], str]


class Schemas:
    """All released schemas, by the header of their messages."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        """Takes file names `<Event>.v<version>.avsc` and their texts."""
        types = {event_type.__name__: event_type for event_type in EVENT_TYPES}
        self.by_header: dict[bytes, WireSchema] = {}
        self.newest: dict[type[Event], WireSchema] = {}
        self._encoders: dict[type[Event], Encode] = {}
        for file_name, text in sorted(texts.items()):
            name, version, _ = file_name.rsplit(".", 2)
            wire = wire_schema(types[name], int(version.removeprefix("v")), json.loads(text))
            self.by_header[wire.header] = wire
            known = self.newest.get(wire.event_type)
            if known is None or known.version < wire.version:
                self.newest[wire.event_type] = wire

    def encode(self, event: Event) -> bytes:
        """The event as a single-object encoding in its newest schema."""
        event_type = type(event)
        return (self._encoders.get(event_type) or self.encoder(event_type))(event)

    def encoder(self, event_type: type[Event]) -> Encode:
        """What encodes the events of a type in its newest schema; made when it is first asked for."""
        encode = self._encoders[event_type] = encoder(self.newest[event_type])
        return encode

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
        return build(wire.event_type, read_strictly(wire, framed))


def build(event_type: type[Event], row: Mapping[str, Any]) -> Event:
    """The event of a decoded row, checked by its class. Raises BadMessageError naming the field."""
    known = event_type.model_fields  # looked up once: it is no plain attribute
    try:
        return event_type.model_validate(
            {name: value for name, value in row.items() if name in known}, strict=False
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise BadMessageError(first["type"], f"{event_type.__name__}.{field}: {first['msg']}") from None


def check_key(event_type: type[Event], own: str | int, key: bytes | None) -> None:
    """Raises BadMessageError where a message has another key than its event's `own`."""
    if key != str(own).encode():
        raise wrong_key(event_type, own, key)


def wrong_key(event_type: type[Event], own: str | int, key: bytes | None) -> BadMessageError:
    """The error for it."""
    found = f"the key is {key!r}, not {str(own).encode()!r}"
    return BadMessageError("wrong_key", f"{event_type.__name__}.{event_type.key_field}: {found}")


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
