"""What a value on the wire may be, stated once for event classes, .avsc files and the projector's gate.

Avro allows more than Postgres can hold and the API can show. A `Kind` states the narrower rule once;
`jobtrail.events` checks single values with it, `jobtrail.consumers.gate` checks whole columns with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec


class Problem(NamedTuple):
    """Why a value is refused."""

    #: Short, stable code; a dead letter carries it.
    reason: str
    #: What was found, for a person.
    detail: str


NUL: Final = "\0"
#: How JSON text spells NUL, which Postgres' jsonb refuses.
JSON_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
EVENT_ID: Final = re.compile(r"\A[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
EVENT_ID_SIZE: Final = 36
#: Most levels of lists and objects in a JSON text. The API's serializer gives up at about 255; what people
#: attach to a failure has a handful.
MAX_NESTING: Final = 64
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC of an aware datetime, exactly."""
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def are_event_ids(ids: str) -> bool:
    """Whether texts of EVENT_ID_SIZE bytes each, end to end, all match EVENT_ID; at a fifth of its cost."""
    found = ids.encode()
    count = len(found) // EVENT_ID_SIZE
    return found.translate(None, b"0123456789abcdef") == b"-" * 4 * count and all(
        found[place::EVENT_ID_SIZE] == b"-" * count for place in (8, 13, 18, 23)
    )


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of wire value."""

    name: str
    #: Avro type; always one of long, string, boolean (no int, enum, map: bulk decoders mistreat them).
    avro: str
    logical: str | None = None
    minimum: int | None = None
    maximum: int | None = None
    #: Most bytes of UTF-8; index entries of Postgres end at about 2,700.
    max_bytes: int | None = None
    pattern: re.Pattern[str] | None = None
    #: The text is one JSON object.
    json_object: bool = False

    def problem(self, value: Any) -> Problem | None:
        """Why `value` is refused, or None. Integers and instants are checked by range, texts by content."""
        if isinstance(value, datetime):
            value = micros(value)
        if isinstance(value, int):
            return self._range_problem(value)
        if isinstance(value, str):
            return self._text_problem(value)
        return None

    def _range_problem(self, value: int) -> Problem | None:
        if (self.minimum is not None and value < self.minimum) or (
            self.maximum is not None and value > self.maximum
        ):
            return Problem("out_of_range", f"{value} is not within {self.minimum} to {self.maximum}")
        return None

    def _text_problem(self, value: str) -> Problem | None:
        if NUL in value:
            return Problem("nul_in_text", "the text holds a NUL character")
        if (
            self.max_bytes is not None
            and (size := len(value.encode("utf-8", "surrogatepass"))) > self.max_bytes
        ):
            return Problem("too_long", f"{size} bytes of UTF-8, at most {self.max_bytes} fit")
        if self.pattern is not None and not self.pattern.match(value):
            return Problem("bad_id", f"{value!r} is not a UUID in lower case with hyphens")
        if self.json_object:
            return _json_problem(value)
        return None


def _json_problem(value: str) -> Problem | None:
    try:
        decoded = msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        return Problem("bad_json", f"not JSON: {error}")
    if not isinstance(decoded, dict):
        return Problem("bad_json", "not a JSON object")
    if _is_deeper(decoded, MAX_NESTING):
        return Problem("bad_json", f"JSON nested deeper than {MAX_NESTING} levels")
    if JSON_NUL.search(value):
        return Problem("nul_in_text", "the JSON text holds \\u0000")
    return None


def _is_deeper(decoded: Any, levels: int) -> bool:
    """Whether lists and objects nest in more than so many levels; without recursion."""
    level = [decoded]
    for _ in range(levels):
        level = [
            child
            for holder in level
            for child in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


INT64_MAX: Final = 2**63 - 1

EVENT_ID_KIND: Final = Kind("event_id", "string", logical="uuid", pattern=EVENT_ID)
#: Years 2000 to 2200, UTC, in microseconds since 1970.
INSTANT: Final = Kind(
    "instant",
    "long",
    logical="timestamp-micros",
    minimum=micros(datetime(2000, 1, 1, tzinfo=UTC)),
    maximum=micros(datetime(2200, 1, 1, tzinfo=UTC)) - 1,
)
#: Below 2^53, so that JavaScript reads it exactly.
JOB_ID: Final = Kind("job_id", "long", minimum=0, maximum=2**53 - 1)
#: From 0 within the job; attempt_id has room for 1,024.
ATTEMPT_NUMBER: Final = Kind("attempt_number", "long", minimum=0, maximum=1023)
#: A counter: records, bytes, messages, sequence numbers.
COUNT: Final = Kind("count", "long", minimum=0, maximum=INT64_MAX)
#: How much a counter rose; less than nothing where a reporter took back what it had said.
CHANGE: Final = Kind("change", "long", minimum=-INT64_MAX, maximum=INT64_MAX)
#: Something that may become part of a key.
NAME: Final = Kind("name", "string", max_bytes=1024)
#: A word of the contract in a key beside names: together they must fit an index entry of Postgres.
WORD: Final = Kind("word", "string", max_bytes=255)
TEXT: Final = Kind("text", "string")
JSON_OBJECT: Final = Kind("json_object", "string", json_object=True)
FLAG: Final = Kind("flag", "boolean")
