"""A failure reason: the facts of a Failure event before it is known of which attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from jobtrail.events import Failure, FailureOrigin, FailureType, StreamDescriptor, utc_now
from jobtrail.producers.facts import make
from jobtrail.producers.safe_text import safe_json, safe_name
from jobtrail.producers.scrub import MESSAGE_LIMIT, STACKTRACE_LIMIT, known

#: Characters kept of the metadata.
METADATA_LIMIT: Final = 20_000

#: Names of 2022 → today's.
OLD_ORIGINS: Final = MappingProxyType(
    {"replicationWorker": FailureOrigin.REPLICATION, "airbytePlatform": FailureOrigin.AIRBYTE_PLATFORM}
)
OLD_TYPES: Final = MappingProxyType(
    {
        "userError": FailureType.CONFIG_ERROR,
        "systemError": FailureType.SYSTEM_ERROR,
        "transient": FailureType.TRANSIENT_ERROR,
        "manualCancellation": FailureType.MANUAL_CANCELLATION,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureReason:
    """Why something failed, before it is known of which attempt. All texts are safe to publish."""

    #: Whose fault; None: nobody's (a cancellation).
    origin: str | None
    failure_type: str | None = None
    #: For operators.
    internal_message: str | None = None
    #: For users.
    external_message: str | None = None
    stacktrace: str | None = None
    #: Whether another attempt may help; None: not known.
    retryable: bool | None = None
    from_trace_message: bool | None = None
    #: The one stream that failed; None: the attempt did.
    stream: StreamDescriptor | None = None
    #: More facts; jobId and attemptNumber are added.
    metadata: Mapping[str, Any] = field(default_factory=dict)
    occurred_at: datetime = field(default_factory=utc_now)

    def event(self, job_id: int, attempt_number: int) -> Failure:
        """The event that says it of an attempt. Raises UsageError for facts that do not fit."""
        return make(
            Failure,
            occurred_at=self.occurred_at,
            job_id=job_id,
            attempt_number=attempt_number,
            stream_namespace=self.stream.namespace if self.stream else None,
            stream_name=self.stream.name if self.stream else None,
            failure_origin=self.origin,
            failure_type=self.failure_type,
            internal_message=self.internal_message,
            external_message=self.external_message,
            stacktrace=self.stacktrace,
            retryable=self.retryable,
            from_trace_message=self.from_trace_message,
            metadata=safe_json(
                {**self.metadata, "jobId": job_id, "attemptNumber": attempt_number}, METADATA_LIMIT
            ),
        )


def reason(
    origin: str | None,
    *,
    failure_type: str | None = None,
    internal_message: str | None = None,
    external_message: str | None = None,
    stacktrace: str | None = None,
    retryable: bool | None = None,
    from_trace_message: bool | None = None,
    stream: StreamDescriptor | str | None = None,
    metadata: Mapping[str, Any] | None = None,
    occurred_at: datetime | None = None,
) -> FailureReason:
    """A failure reason from facts that somebody else gathered; secret, unsafe and over-long text is made fit.

    Origins and types of 2022 are translated, `transient` says that it is retryable; unknown ones are kept.
    """
    if retryable is None and failure_type == "transient":
        retryable = True
    origin = OLD_ORIGINS.get(origin or "", origin)
    failure_type = OLD_TYPES.get(failure_type or "", failure_type)
    return FailureReason(
        origin=safe_name(origin) if origin else None,
        failure_type=safe_name(failure_type) if failure_type else None,
        internal_message=_text(internal_message, MESSAGE_LIMIT),
        external_message=_text(external_message, MESSAGE_LIMIT),
        stacktrace=_text(stacktrace, STACKTRACE_LIMIT),
        retryable=retryable,
        from_trace_message=from_trace_message,
        stream=_stream(stream),
        metadata=metadata or {},
        occurred_at=occurred_at or utc_now(),
    )


def _text(text: str | None, limit: int) -> str | None:
    return None if text is None else known.fit(text, limit)


def _stream(stream: StreamDescriptor | str | None) -> StreamDescriptor | None:
    return descriptor(stream, None) if isinstance(stream, str) else stream


def descriptor(name: str, namespace: str | None) -> StreamDescriptor:
    """A stream by names that may need to be made fit."""
    return StreamDescriptor(name=safe_name(name), namespace=safe_name(namespace) if namespace else None)
