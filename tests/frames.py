"""Frames of events as `jobtrail.consumers.decode` gives them, made from event objects without a broker."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import polars as pl

from jobtrail.events import Event
from jobtrail.fields import field_kind, record_type
from jobtrail.kinds import micros

POLARS = {"long": pl.Int64(), "string": pl.String(), "boolean": pl.Boolean()}


def schema_of(event_type: type[Event]) -> dict[str, pl.DataType]:
    schema: dict[str, pl.DataType] = {}
    for name, field in event_type.model_fields.items():
        if item := record_type(field):
            schema[name] = pl.List(pl.Struct(dict.fromkeys(item.model_fields, pl.String())))
        elif kind := field_kind(field):
            schema[name] = POLARS[kind.avro]
    return {**schema, "_partition": pl.Int64(), "_offset": pl.Int64(), "_broker_at": pl.Int64()}


def frames_of(events: Iterable[Event]) -> dict[type[Event], pl.DataFrame]:
    """Columns for each event type. The broker's time is the event's own, so that it is no second fact."""
    rows: dict[type[Event], list[dict[str, Any]]] = {}
    for offset, event in enumerate(events):
        row = {
            name: micros(value) if isinstance(value, datetime) else value
            for name, value in event.model_dump().items()
        }
        row |= {"_partition": 0, "_offset": offset, "_broker_at": row["occurred_at"]}
        rows.setdefault(type(event), []).append(row)
    return {
        event_type: pl.DataFrame(found, schema=schema_of(event_type)) for event_type, found in rows.items()
    }


def few_of(events: Iterable[Event]) -> dict[type[Event], list[dict[str, Any]]]:
    """Rows for each event type, as a few events are decoded."""
    return {event_type: frame.to_dicts() for event_type, frame in frames_of(events).items()}
