"""Events from what callers say, with errors in their terms."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from jobtrail.errors import UsageError

T = TypeVar("T", bound=BaseModel)


def make(record_type: type[T], **facts: Any) -> T:
    """An event, or a record of one. Raises UsageError that names the field and what was found."""
    try:
        return record_type(**facts)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"{record_type.__name__}.{field}: {first['msg']}; found {first['input']!r:.200}"
        ) from None
