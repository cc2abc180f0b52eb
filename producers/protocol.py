"""The Airbyte protocol, as far as tracking needs it: one line of a connector's output, one message.

Decoding is typed and partial: a record's data is never parsed into objects, only measured. No byte string
raises; what is no message gives None. Message shapes: airbyte-protocol, airbyte_protocol.yaml, version 0.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from jobtrail.events import RunState
from jobtrail.kinds import EPOCH, INSTANT, INT64_MAX


class Stream(NamedTuple):
    """A stream's name; null and empty namespaces are the same."""

    name: str
    namespace: str | None = None


class Record(msgspec.Struct, gc=False):
    """A RECORD, its data unparsed."""

    stream: str
    data: msgspec.Raw
    namespace: str | None = None


#: No JSON, so that reading it is an error like any other.
_ABSENT: Final = msgspec.Raw(b"")


class Message(msgspec.Struct, gc=False):
    """A line: its type, a record if it is one, and the unparsed rest."""

    type: str
    record: Record | None = None
    # Not `Raw | None`: msgspec then takes null only.
    state: msgspec.Raw = _ABSENT
    trace: msgspec.Raw = _ABSENT
    log: msgspec.Raw = _ABSENT
    control: msgspec.Raw = _ABSENT


class Descriptor(msgspec.Struct):
    """How a message names a stream."""

    name: str
    namespace: str | None = None

    @property
    def stream(self) -> Stream:
        """The stream it names."""
        return Stream(self.name, self.namespace or None)


class _StreamState(msgspec.Struct):
    stream_descriptor: Descriptor
    stream_state: Any = None


class _GlobalState(msgspec.Struct):
    stream_states: list[_StreamState]
    shared_state: Any = None


class _StateStats(msgspec.Struct):
    #: A double in the protocol, "to account for integer overflows".
    recordCount: float | None = None  # noqa: N815  # the protocol's name
    #: Newer destinations say it.
    rejectedRecordCount: float | None = None  # noqa: N815


class _State(msgspec.Struct):
    type: str | None = None
    stream: _StreamState | None = None
    global_: _GlobalState | None = msgspec.field(default=None, name="global")
    data: Any = None
    sourceStats: _StateStats = msgspec.field(default_factory=_StateStats)  # noqa: N815
    destinationStats: _StateStats = msgspec.field(default_factory=_StateStats)  # noqa: N815


class State(NamedTuple):
    """A STATE."""

    #: Those it speaks for; empty: all of them (a LEGACY state).
    streams: tuple[Stream, ...]
    #: Whether it is of one stream only, so that its order matters within that stream alone.
    of_one_stream: bool
    #: Digest of what it says, statistics left out: a destination gives the source's state back with its own.
    digest: bytes
    #: Records since the state before, as the source says.
    source_records: int | None
    #: Records written since the state before, as the destination says.
    destination_records: int | None
    #: Records refused since the state before, as the destination says.
    rejected_records: int | None


class TraceError(msgspec.Struct):
    """TRACE ERROR: a connector says why it fails."""

    message: str = ""
    internal_message: str | None = None
    stack_trace: str | None = None
    failure_type: str | None = None
    stream_descriptor: Descriptor | None = None


class Estimate(msgspec.Struct):
    """TRACE ESTIMATE: what a source expects to give in this sync."""

    type: str
    name: str | None = None
    namespace: str | None = None
    row_estimate: int | None = None
    byte_estimate: int | None = None


class _RateLimited(msgspec.Struct):
    #: Milliseconds since 1970.
    quota_reset: float | None = None


class _Reason(msgspec.Struct):
    type: str
    rate_limited: _RateLimited | None = None


class StreamStatusTrace(msgspec.Struct):
    """TRACE STREAM_STATUS: what a stream is doing."""

    stream_descriptor: Descriptor
    status: str
    reasons: list[_Reason] | None = None

    @property
    def run_state(self) -> RunState | None:
        """Our name of the status; None for one that we do not know."""
        if self.status == "RUNNING" and any(reason.type == "RATE_LIMITED" for reason in self.reasons or ()):
            return RunState.RATE_LIMITED
        return _RUN_STATES.get(self.status)

    @property
    def quota_reset_at(self) -> datetime | None:
        """When a rate-limited stream may go on."""
        for reason in self.reasons or ():
            limited = reason.rate_limited
            if limited is not None and limited.quota_reset is not None:
                return instant_of(limited.quota_reset)
        return None


class Trace(msgspec.Struct):
    """A TRACE; ANALYTICS and unknown types have none of the three."""

    type: str
    #: Milliseconds since 1970.
    emitted_at: float | None = None
    error: TraceError | None = None
    estimate: Estimate | None = None
    stream_status: StreamStatusTrace | None = None


class Log(msgspec.Struct):
    """A LOG."""

    message: str = ""
    level: str = "INFO"
    stack_trace: str | None = None


_RUN_STATES: Final = {
    "STARTED": RunState.PENDING,
    "RUNNING": RunState.RUNNING,
    "COMPLETE": RunState.COMPLETE,
    "INCOMPLETE": RunState.INCOMPLETE,
}
_message = msgspec.json.Decoder(Message).decode
_state = msgspec.json.Decoder(_State).decode
_trace = msgspec.json.Decoder(Trace).decode
_log = msgspec.json.Decoder(Log).decode
#: What decoding raises; deep nesting is a RecursionError.
_BAD: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
#: An escaped half of a surrogate pair: the JSON grammar allows it alone, and sources print it.
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
#: What JSON has not, and Python's json prints.
_NO_NUMBER: Final = re.compile(rb"(?<=[:,\[ ])(?:NaN|-?Infinity)(?=[],} ])")


def decode(line: bytes) -> Message | None:
    """The message of one line without its end, or None."""
    try:
        return _message(line)
    except _BAD:
        pass
    # What stands in for it is as long: lengths, which is what we count, stay.
    mended = _SURROGATE.sub(rb"\\u003f", line)
    mended = _NO_NUMBER.sub(lambda found: b"1".ljust(len(found[0]), b"0"), mended)
    if mended == line:
        return None
    try:
        return _message(mended)
    except _BAD:
        return None


def state_of(message: Message) -> State | None:
    """The state of a STATE message, or None where it is malformed."""
    try:
        state = _state(message.state)
        return _read_state(state)
    except (*_BAD, ValueError):
        return None


def _read_state(state: _State) -> State:
    stream, all_streams = state.stream, state.global_
    if stream is not None and state.type in {"STREAM", None}:
        streams: tuple[Stream, ...] = (stream.stream_descriptor.stream,)
        said: list[Any] = ["STREAM", streams[0], stream.stream_state]
    elif all_streams is not None and state.type in {"GLOBAL", None}:
        parts = sorted(
            ((part.stream_descriptor.stream, part.stream_state) for part in all_streams.stream_states),
            key=lambda part: (part[0].namespace or "", part[0].name),
        )
        streams = tuple(part[0] for part in parts)
        said = ["GLOBAL", parts, all_streams.shared_state]
    else:
        streams = ()
        said = ["LEGACY", state.data]
    canonical = json.dumps(said, sort_keys=True).encode()
    return State(
        streams=streams,
        of_one_stream=said[0] == "STREAM",
        digest=blake2b(canonical, digest_size=16).digest(),
        source_records=_count(state.sourceStats.recordCount),
        destination_records=_count(state.destinationStats.recordCount),
        rejected_records=_count(state.destinationStats.rejectedRecordCount),
    )


def _count(number: float | None) -> int | None:
    return int(number) if number is not None and 0 <= number < INT64_MAX else None


def trace_of(message: Message) -> Trace | None:
    """The trace of a TRACE message, or None where it is malformed."""
    try:
        return _trace(message.trace)
    except _BAD:
        return None


def log_of(message: Message) -> Log | None:
    """The log line of a LOG message, or None where it is malformed."""
    try:
        return _log(message.log)
    except _BAD:
        return None


class _Config(msgspec.Struct):
    config: dict[str, Any]


class _Control(msgspec.Struct):
    connectorConfig: _Config  # noqa: N815  # the protocol's name


def new_config(message: Message) -> dict[str, Any] | None:
    """The configuration that a CONTROL message gives the connector anew, such as one with a new token."""
    try:
        return msgspec.json.decode(message.control, type=_Control).connectorConfig.config
    except _BAD:
        return None


def instant_of(milliseconds: float | None) -> datetime | None:
    """Milliseconds since 1970 as an instant; None where no event could hold it."""
    if milliseconds is None or not 0 <= milliseconds < 1e14:
        return None
    moment = EPOCH + timedelta(milliseconds=milliseconds)
    return None if INSTANT.problem(moment) else moment
