"""One event of each type, with every field filled."""

from __future__ import annotations

from typing import Any

from jobtrail import events as e
from jobtrail.fields import field_kind, record_type

SAMPLES: dict[str, Any] = {
    "instant": e.utc_now(),
    "count": 2**53 + 1,
    "change": -(2**53) - 1,
    "name": "имя, name",
    "word": "wörd",
    "text": "line\nline „quoted“ \u2028 \U0001f600",
    "json_object": '{"a": [1, null, "é"]}',
    "flag": True,
    "job_id": 2**53 - 1,
    "attempt_number": 1023,
}


def one_of_each() -> list[e.Event]:
    """In the order of a job's life."""
    return [filled(event_type) for event_type in e.EVENT_TYPES]


def filled(event_type: type[e.Event]) -> e.Event:
    """An event with a value in every field."""
    values: dict[str, Any] = {}
    for name, field in event_type.model_fields.items():
        kind = field_kind(field)
        if item := record_type(field):
            values[name] = [item(**dict.fromkeys(item.model_fields, "é"))] * 2
        elif kind is not None and kind.name != "event_id":
            values[name] = SAMPLES[kind.name]
    return event_type(**values)
