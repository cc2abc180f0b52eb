"""Events from what callers say, with errors in their terms."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from jobtrail.errors import UsageError
from jobtrail.quick_checks import quick_checks

T = TypeVar("T", bound=BaseModel)


def make(record_type: type[T], **facts: Any) -> T:
    """An event, or a record of one. Raises UsageError that names the field and what was found."""
    made = record_type.__new__(record_type)
    try:
        quick_checks(record_type).validate_python(facts, self_instance=made)
    except ValidationError:  # the class itself says what is wrong, or takes it after all
        return _made(record_type, facts)
    return made


def _made(record_type: type[T], facts: dict[str, Any]) -> T:
    try:
        return record_type(**facts)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"{record_type.__name__}.{field}: {first['msg']}; found {first['input']!r:.200}"
        ) from None
