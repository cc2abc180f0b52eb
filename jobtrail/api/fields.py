"""Kinds of fields of requests and answers: what fits, and the OpenAPI document that says exactly that."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

from jobtrail import kinds
from jobtrail.events import Name

INT64: Final[dict[str, Any]] = {"format": "int64"}
#: An int64 that OpenAPI, whose bounds are floats, tells exactly; the greatest of all it cannot.
GREATEST: Final = 9 * 10**18
NO_DATE_TIME: Final = "it is no date-time such as 2026-03-01T12:00:00Z"
_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")


def _whole(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("it is no whole number")  # noqa: TRY004  # pydantic's word for what does not fit
    return value


def _date_time(value: object) -> object:
    """Pydantic takes numbers, also as text, for seconds since 1970."""
    if isinstance(value, datetime) or (isinstance(value, str) and _DATE_TIME.match(value)):
        return value
    raise ValueError(NO_DATE_TIME)


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair is no character") from None
    return value


def _filled(value: str) -> str:
    if not value.strip():
        raise ValueError("it is blank")
    return value


def _seconds(value: object) -> object:
    return int(value.timestamp()) if isinstance(value, datetime) else value


def or_null(schema: dict[str, Any]) -> None:
    """For a field with a default that generated clients send as null when it is not set."""
    told = {key: schema.pop(key) for key in [*schema] if key not in {"title", "description", "default"}}
    schema["anyOf"] = [told, {"type": "null"}]


#: JSON knows no difference between 7 and 7.0. Stands last: what stands behind it is not in the document.
WHOLE: Final = BeforeValidator(_whole)
JobId = Annotated[int, Field(ge=0, le=GREATEST, examples=[42], json_schema_extra=INT64), WHOLE]
#: In a path or query all is text.
JobIdText = Annotated[int, Field(ge=0, le=GREATEST, examples=[42], json_schema_extra=INT64)]
Number = Annotated[
    int,
    Field(ge=0, le=2**31 - 1, examples=[0], description="From 0 within the job; not an id."),
    WHOLE,
]
Counter = Annotated[int, Field(ge=0, le=GREATEST, json_schema_extra=INT64), WHOLE] | None
#: Milliseconds since 1970 UTC.
Millis = Annotated[
    int,
    Field(
        ge=(kinds.INSTANT.minimum or 0) // 1000,
        le=(kinds.INSTANT.maximum or 0) // 1000,
        examples=[1_767_225_600_000],
        json_schema_extra=INT64,
    ),
    WHOLE,
]
#: An instant, with its offset from UTC.
DateTime = Annotated[AwareDatetime, BeforeValidator(_date_time)]
#: Text that Postgres and Kafka can hold.
FilterText = Annotated[Name, AfterValidator(_encodable)]
#: The same, and something to see in it: no identifier is blank.
FilledText = Annotated[FilterText, Field(min_length=1), AfterValidator(_filled)]
#: What leaves as whole seconds since 1970 UTC.
EpochSeconds = Annotated[int, BeforeValidator(_seconds), Field(json_schema_extra=INT64)]
#: A count that may not be known; sums are numeric in SQL, and leave as integers.
Count = Annotated[int | None, Field(json_schema_extra=INT64)]
