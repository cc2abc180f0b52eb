"""Failure reasons: one factory for each place where a sync can go wrong.

Each takes the exception (or a message) and gives a `FailureReason`; the attempt that reports it adds the
job and the attempt number. Airbyte's vocabulary is used throughout; its names of 2022 are translated.

`retryable` is said only where it is known: a configuration error is not (another attempt fails alike), a
transient error is, and of anything else nobody knows.

    attempt.fail(failures.source(error))
    attempt.failure(failures.destination("table is locked", stream="users", retryable=True))
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, TypedDict, Unpack

from jobtrail import kinds
from jobtrail.events import FailureOrigin, FailureType, StreamDescriptor
from jobtrail.producers.causes import message, stacktrace
from jobtrail.producers.failure_reason import FailureReason, descriptor, reason

#: What users read, by origin. The wording of the first seven is Airbyte's.
EXTERNAL_MESSAGES: Final = MappingProxyType(
    {
        FailureOrigin.SOURCE: "Something went wrong within the source connector",
        FailureOrigin.DESTINATION: "Something went wrong within the destination connector",
        FailureOrigin.REPLICATION: "Something went wrong during replication",
        FailureOrigin.PERSISTENCE: "Something went wrong during state persistence",
        FailureOrigin.NORMALIZATION: "Something went wrong during normalization",
        FailureOrigin.DBT: "Something went wrong during dbt",
        FailureOrigin.UNKNOWN: "An unknown failure occurred",
        FailureOrigin.AIRBYTE_PLATFORM: "Something went wrong within the platform that runs the sync",
    }
)
_LAST_MILLI: Final = (kinds.INSTANT.maximum or 0) // 1000
#: Whether another attempt may help, by today's type; absent: nobody knows.
RETRYABLE: Final[Mapping[str, bool]] = MappingProxyType(
    {FailureType.CONFIG_ERROR: False, FailureType.TRANSIENT_ERROR: True}
)


class Facts(TypedDict, total=False):
    """What a caller may say beyond the error itself."""

    #: A FailureType; default: system_error.
    failure_type: str
    #: For users, instead of the origin's own wording.
    external_message: str
    #: Whether another attempt may help; default: what the type says.
    retryable: bool | None
    #: The one stream that failed, by name or by namespace and name.
    stream: StreamDescriptor | str | None
    #: More facts for operators.
    metadata: Mapping[str, Any]


def source(error: BaseException | str, **facts: Unpack[Facts]) -> FailureReason:
    """The source connector failed."""
    return of(FailureOrigin.SOURCE, error, **facts)


def destination(error: BaseException | str, **facts: Unpack[Facts]) -> FailureReason:
    """The destination connector failed."""
    return of(FailureOrigin.DESTINATION, error, **facts)


def replication(error: BaseException | str, **facts: Unpack[Facts]) -> FailureReason:
    """What moves records between the two failed."""
    return of(FailureOrigin.REPLICATION, error, **facts)


def persistence(error: BaseException | str, **facts: Unpack[Facts]) -> FailureReason:
    """The state could not be kept."""
    return of(FailureOrigin.PERSISTENCE, error, **facts)


def normalization(error: BaseException | str, **facts: Unpack[Facts]) -> FailureReason:
    """Normalization failed."""
    return of(FailureOrigin.NORMALIZATION, error, **facts)


def dbt(error: BaseException | str, **facts: Unpack[Facts]) -> FailureReason:
    """A dbt run failed."""
    return of(FailureOrigin.DBT, error, **facts)


def platform(error: BaseException | str, **facts: Unpack[Facts]) -> FailureReason:
    """What runs the sync failed: a worker, its machine, its scheduler."""
    return of(FailureOrigin.AIRBYTE_PLATFORM, error, **facts)


def unknown_origin(error: BaseException | str, **facts: Unpack[Facts]) -> FailureReason:
    """Something failed, and nobody can say what."""
    return of(FailureOrigin.UNKNOWN, error, **facts)


def of(origin: FailureOrigin, error: BaseException | str, **facts: Unpack[Facts]) -> FailureReason:
    """A failure of `origin`, with the whole chain of the error's causes in its message and stack trace."""
    failure_type = facts.get("failure_type", FailureType.SYSTEM_ERROR)
    return reason(
        origin,
        failure_type=failure_type,
        internal_message=message(error),
        external_message=facts.get("external_message", EXTERNAL_MESSAGES[origin]),
        stacktrace=stacktrace(error),
        retryable=facts.get("retryable", RETRYABLE.get(failure_type)),
        stream=facts.get("stream"),
        metadata=facts.get("metadata"),
    )


def check(
    error: BaseException | str, origin: FailureOrigin = FailureOrigin.SOURCE, **facts: Unpack[Facts]
) -> FailureReason:
    """The connection check of `origin` (source or destination) failed: its configuration is at fault."""
    facts.setdefault("failure_type", FailureType.CONFIG_ERROR)
    facts.setdefault(
        "external_message", f"The check of the {origin} connection failed; please review its configuration"
    )
    return of(origin, error, **facts)


def source_heartbeat(silence: timedelta, limit: timedelta, **facts: Unpack[Facts]) -> FailureReason:
    """The source sent nothing for `silence`, which is longer than `limit`."""
    facts.setdefault("failure_type", FailureType.HEARTBEAT_TIMEOUT)
    facts.setdefault("external_message", f"The source sent no records for {silence}; the limit is {limit}")
    return of(FailureOrigin.SOURCE, f"no message from the source for {silence}, limit {limit}", **facts)


def destination_timeout(silence: timedelta, limit: timedelta, **facts: Unpack[Facts]) -> FailureReason:
    """The destination took nothing for `silence`, which is longer than `limit`."""
    facts.setdefault("failure_type", FailureType.DESTINATION_TIMEOUT)
    facts.setdefault(
        "external_message", f"The destination made no progress for {silence}; the limit is {limit}"
    )
    return of(
        FailureOrigin.DESTINATION, f"no progress of the destination for {silence}, limit {limit}", **facts
    )


def trace(trace_message: Mapping[str, Any], origin: FailureOrigin = FailureOrigin.SOURCE) -> FailureReason:
    """What a connector said of its own failure: an Airbyte TRACE message of type ERROR.

    Takes the whole message, its `trace`, or the `error` in it; `origin` is the connector that sent it. A
    missing failure type is a system error (Airbyte protocol). Whatever is missing or malformed is left out.
    """
    body = _mapping(trace_message.get("trace")) or trace_message
    error = _mapping(body.get("error")) or body
    said_type = _string(error.get("failure_type")) or FailureType.SYSTEM_ERROR
    stream = _mapping(error.get("stream_descriptor"))
    name = _string(stream.get("name"))
    return reason(
        origin,
        failure_type=said_type,
        internal_message=_string(error.get("internal_message")),
        external_message=_string(error.get("message")) or EXTERNAL_MESSAGES[origin],
        stacktrace=_string(error.get("stack_trace")),
        retryable=RETRYABLE.get(said_type),
        from_trace_message=True,
        stream=descriptor(name, _string(stream.get("namespace"))) if name else None,
        occurred_at=_from_millis(body.get("emitted_at")),
    )


def from_workflow_and_activity(
    workflow: str, activity: str, error: BaseException | str, **facts: Unpack[Facts]
) -> FailureReason:
    """A failure of `activity` in `workflow`, by the names that they have in Airbyte, in any spelling.

    A sync's replicate, persist, normalize and dbt run have origins of their own; all else is unknown.
    """
    origin = _ACTIVITIES.get(_bare(activity)) if _bare(workflow) == "sync" else None
    return of(origin or FailureOrigin.UNKNOWN, error, **facts)


_ACTIVITIES: Final = MappingProxyType(
    {
        "replicate": FailureOrigin.REPLICATION,
        "replication": FailureOrigin.REPLICATION,
        "persist": FailureOrigin.PERSISTENCE,
        "persiststate": FailureOrigin.PERSISTENCE,
        "normalize": FailureOrigin.NORMALIZATION,
        "normalization": FailureOrigin.NORMALIZATION,
        "run": FailureOrigin.DBT,
        "dbt": FailureOrigin.DBT,
        "dbtrun": FailureOrigin.DBT,
        "dbttransformation": FailureOrigin.DBT,
    }
)


def _bare(name: str) -> str:
    letters = "".join(filter(str.isalnum, name)).lower()
    return letters.removesuffix("impl").removesuffix("workflow").removesuffix("activity")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _from_millis(value: Any) -> datetime | None:
    """The instant of milliseconds since 1970, where an event may carry it."""
    if not isinstance(value, int | float) or not 0 <= value <= _LAST_MILLI:
        return None
    moment = kinds.EPOCH + timedelta(milliseconds=value)
    return None if kinds.INSTANT.problem(moment) else moment
