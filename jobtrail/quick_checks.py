"""The checks of an event class without a call into Python for each field, for values that are plainly good.

Derived from the class. What they take, the class takes, and makes the same of it. What they refuse goes to
the class itself, which says what is wrong, or takes it where these are narrower:

    text      so short that its bytes fit, however they are spelled in UTF-8
    instants  two days inside the bounds, whatever the time zone

A StreamStats is checked in 3 µs, by the class itself in 8.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache, partial
from typing import Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, SchemaValidator, core_schema

from jobtrail.fields import field_kind, is_nullable, record_type
from jobtrail.kinds import EPOCH, Kind

#: Bytes of UTF-8 that a character may have.
LONGEST_CHARACTER: Final = 4
#: No time zone is further from UTC.
_ZONES: Final = timedelta(days=2)
_NO_NUL: Final = r"\A[^\x00]*\z"


class _Nobody:
    """Stands in the schema for the class, whose own validator pydantic-core would take instead of ours."""


@cache
def quick_checks(record: type[BaseModel]) -> SchemaValidator:
    """To be called with facts and `self_instance`, a new and empty record of the class, which gets them.

    Raises ValidationError for what may be wrong; its text is of no use.
    """
    fields = {name: core_schema.model_field(_field(field)) for name, field in record.model_fields.items()}
    checked = core_schema.model_fields_schema(fields, extra_behavior="forbid")
    return SchemaValidator(core_schema.model_schema(_Nobody, checked, config={"strict": True}))


def _field(field: FieldInfo) -> CoreSchema:
    schema: CoreSchema
    if item := record_type(field):
        schema = core_schema.list_schema(core_schema.is_instance_schema(item))
    else:
        kind = field_kind(field)
        assert kind is not None, "a field has no Kind"  # noqa: S101  # a mistake in an event class
        schema = _scalar(kind)
    if is_nullable(field):
        schema = core_schema.nullable_schema(schema)
    if field.default_factory is not None:
        return core_schema.with_default_schema(schema, default_factory=field.default_factory)
    if field.is_required():
        return schema
    return core_schema.with_default_schema(schema, default=field.default)


def _scalar(kind: Kind) -> CoreSchema:
    match kind:
        case Kind(avro="boolean"):
            return core_schema.bool_schema()
        case Kind(logical="timestamp-micros", minimum=int(first), maximum=int(last)):
            return core_schema.datetime_schema(
                tz_constraint="aware",
                ge=EPOCH + timedelta(microseconds=first) + _ZONES,
                le=EPOCH + timedelta(microseconds=last) - _ZONES,
            )
        case Kind(avro="long"):
            return core_schema.int_schema(ge=kind.minimum, le=kind.maximum)
        case Kind(json_object=True):
            return core_schema.no_info_after_validator_function(
                partial(_good, kind), core_schema.str_schema()
            )
        case Kind(pattern=pattern) if pattern is not None:
            return core_schema.str_schema(pattern=pattern, regex_engine="python-re")
        case _:
            most = None if kind.max_bytes is None else kind.max_bytes // LONGEST_CHARACTER
            return core_schema.str_schema(pattern=_NO_NUL, max_length=most)


def _good(kind: Kind, value: str) -> str:
    if kind.problem(value):
        raise ValueError
    return value
