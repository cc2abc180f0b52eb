"""Released schemas on the wire: what stands before a body, and how it is read.

An Avro single-object encoding is the marker C3 01, the schema's 64-bit Rabin fingerprint (little-endian) and
the body (Avro specification, "Single-object encoding").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from jobtrail.events import Event

MARKER: Final = b"\xc3\x01"
#: Bytes before the body in a single-object encoding.
HEADER_SIZE: Final = 10

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class WireSchema:
    """One released schema of one event type."""

    event_type: type[Event]
    version: int
    #: As in avro/.
    schema: Schema
    #: The same without logical types and docs: readers see plain longs and strings, bounds are the gate's.
    plain: Schema
    #: `plain`, parsed: else fastavro parses it for each message, at three times the cost.
    readable: Schema
    #: The ten bytes before each body.
    header: bytes
    #: Whether a field is a list of records.
    nested: bool


def wire_schema(event_type: type[Event], version: int, schema: Schema) -> WireSchema:
    """Of one file in avro/."""
    plain = _without_logical_types(schema)
    return WireSchema(
        event_type=event_type,
        version=version,
        schema=schema,
        plain=plain,
        readable=cast("Schema", fastavro.parse_schema(plain)),
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
