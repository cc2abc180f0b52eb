"""What is said of a field of a request that does not fit: pydantic's finding, in the words of our own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jobtrail.api.anomalies import CURSOR
from jobtrail.api.fields import NO_DATE_TIME
from jobtrail.api.public_models import ORDER
from jobtrail.near import near

#: Kinds of pydantic's findings, and what is said of them.
_SAID: Final[Mapping[str, str]] = {
    **dict.fromkeys(("datetime_parsing", "datetime_from_date_parsing", "datetime_type"), NO_DATE_TIME),
    "datetime_object_invalid": NO_DATE_TIME,
    "timezone_aware": "it has no offset from UTC; write 2026-03-01T12:00:00Z or …T14:00:00+02:00",
    "missing": "it is needed",
}
#: Pattern of a text → how the text is had.
_PATTERNS: Final[Mapping[str, str]] = {
    CURSOR: "it is no cursor; take nextCursor of the page before, unchanged",
    ORDER: "it is no order; write updatedAt|DESC, or createdAt, ASC",
}


def said(found: Mapping[str, Any], endpoint: Callable[..., Any] | None) -> str:
    """One finding in words; what was sent is not repeated. `endpoint` is the function that was asked."""
    kind, context = found["type"], found.get("ctx", {})
    if kind in _SAID:
        return _SAID[kind]
    if kind == "extra_forbidden":
        *path, name = found["loc"]
        known = _fields(endpoint, path) if endpoint else []
        return f"there is no such {'parameter' if path[0] == 'query' else 'field'}{near(str(name), known)}"
    if kind in {"enum", "literal_error"}:
        known = re.findall(r"'([^']*)'", context["expected"])
        return f"it is none of {', '.join(known)}{near(str(found.get('input')), known)}"
    if kind == "string_pattern_mismatch" and context["pattern"] in _PATTERNS:
        return _PATTERNS[context["pattern"]]
    message: str = found["msg"]
    return message.removeprefix("Value error, ")  # pydantic's, before each of ours


def _fields(endpoint: Callable[..., Any], path: Sequence[str | int]) -> list[str]:
    """The names that are known where `path` leads: query or body, then fields."""
    hints = get_type_hints(endpoint, include_extras=True)
    model = _model(hints.get("wanted" if path[0] == "query" else "body"))
    for part in path[1:]:
        fields = model.model_fields if model else {}
        model = next(
            (_model(field.annotation) for name, field in fields.items() if _alias(name, field) == part), None
        )
    return [_alias(name, field) for name, field in model.model_fields.items()] if model else []


def _alias(name: str, field: FieldInfo) -> str:
    return field.alias or name


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation: alone, optional or Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    parts = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return next(filter(None, map(_model, parts)), None)
