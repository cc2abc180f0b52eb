"""What the fields of an event class say: their kind, whether they may be missing, the records in a list."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jobtrail.kinds import Kind


def field_kind(field: FieldInfo) -> Kind | None:
    """The Kind of a scalar field, or None for a list of records. Optional fields have their value's kind."""
    return next(_kinds(field), None)


def _kinds(field: FieldInfo) -> Iterator[Kind]:
    yield from (part for part in field.metadata if isinstance(part, Kind))
    for option in typing.get_args(field.annotation):
        yield from (part for part in getattr(option, "__metadata__", ()) if isinstance(part, Kind))


def is_nullable(field: FieldInfo) -> bool:
    """Whether None is allowed."""
    return types.NoneType in typing.get_args(field.annotation)


def record_type(field: FieldInfo) -> type[BaseModel] | None:
    """The class of the records in a list field, else None."""
    if typing.get_origin(field.annotation) is list:
        (item,) = typing.get_args(field.annotation)
        return typing.cast("type[BaseModel]", item)
    return None
