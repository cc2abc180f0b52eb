"""What connectors print, told to an attempt: counters, run states, failures; and to its log.

`jobtrail run` and `jobtrail tap` share it. Tracking that fails is said once and never harms the sync.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import msgspec

from jobtrail.events import FailureOrigin, IncompleteRunCause, Reporter, RunState, utc_now
from jobtrail.producers import failures, protocol
from jobtrail.producers.attempt import Attempt
from jobtrail.producers.client import log as client_log
from jobtrail.producers.failure_reason import FailureReason
from jobtrail.producers.logs import AttemptLog
from jobtrail.producers.protocol import Message, Stream
from jobtrail.producers.safe_text import safe_name
from jobtrail.producers.secret_fields import hide_secrets
from jobtrail.producers.tally import Counts, Rest, Tally

#: Characters of one of the last lines, and of all of them, that a failure carries.
_LAST_LINE: Final = 500
_LAST_LINES: Final = 8_000


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all streams; None: not known."""

    records: int = 0
    #: UTF-8 length of the records' data.
    bytes: int = 0
    states: int = 0
    committed_records: int | None = None
    committed_bytes: int | None = None


def totals_of(streams: Iterable[Counts]) -> Totals:
    """Sums of the counters that are known."""
    all_counts = list(streams)
    return Totals(
        records=sum(counts.records for counts in all_counts),
        bytes=sum(counts.bytes for counts in all_counts),
        states=sum(counts.states for counts in all_counts),
        committed_records=_sum(counts.committed_records for counts in all_counts),
        committed_bytes=_sum(counts.committed_bytes for counts in all_counts),
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


class Report:
    """Reports one attempt's connectors; any thread may call it."""

    def __init__(self, attempt: Attempt, tally: Tally, log: AttemptLog | None = None) -> None:
        self.attempt = attempt
        self.tally = tally
        self.log = log
        #: Failures in the order in which they were seen, each with when (monotonic seconds) and whose.
        self.failures: list[tuple[float, FailureOrigin, FailureReason]] = []
        #: Streams that the source gave up, by what it said of their run state, and when.
        self.incomplete: dict[Stream, float] = {}
        self._states: dict[Stream, RunState] = {}
        self._told: dict[Stream, Counts] = {}
        self._lock = threading.Lock()
        self._broken = False

    def take(self, origin: FailureOrigin, rest: Iterable[Rest]) -> None:
        """Takes what a tally left: traces, logs, lines that are no messages."""
        for one in rest:
            if one.message is None:
                self.write(origin, one.line)
            elif one.message.type == "TRACE":
                self._trace(origin, one.message)
            elif one.message.type == "LOG" and (said := protocol.log_of(one.message)) is not None:
                self.write(origin, f"{said.level} {said.message}")
                if said.stack_trace:
                    self.write(origin, said.stack_trace)
            elif one.message.type == "CONTROL" and (config := protocol.new_config(one.message)) is not None:
                hide_secrets(config)

    def write(self, origin: str, text: str | bytes) -> None:
        """Adds to the attempt's log, if it has one."""
        if self.log is not None:
            self.log.write(origin, text)

    def fail(self, origin: FailureOrigin, reason: FailureReason, at: float | None = None) -> None:
        """Adds a failure, which was seen at `at` (monotonic seconds, default now)."""
        with self._lock:
            self.failures.append((time.monotonic() if at is None else at, origin, reason))

    def update(self) -> Totals:
        """Hands changed counters to the attempt, which publishes them in its time; gives the sums."""
        snapshot = self.tally.snapshot()
        for stream, counts in snapshot.items():
            if self._told.get(stream) != counts:
                self._told[stream] = counts
                self._safely(partial(self._tell, stream, counts))
                if counts.records:
                    self._state(stream, RunState.RUNNING, only_first=True)
        return totals_of(snapshot.values())

    def end(self, cause: IncompleteRunCause | None) -> None:
        """Gives each stream its last counters and run state: complete, or incomplete for `cause`."""
        self.update()
        for stream in self._told.keys() | self._states.keys():
            if self._states.get(stream) not in {RunState.COMPLETE, RunState.INCOMPLETE}:
                self._state(stream, RunState.INCOMPLETE if cause else RunState.COMPLETE, cause=cause)

    def reasons(self) -> list[FailureReason]:
        """The failures in the order in which they were seen, the cause first, with the newest log lines."""
        found = []
        earliest = None
        for _, origin, reason in sorted(self.failures, key=lambda failure: failure[0]):
            # The connector's clock must not put an effect before its cause.
            moment = min(reason.occurred_at, utc_now())
            earliest = moment if earliest is None else max(earliest, moment)
            facts = {**reason.metadata, "lastLines": self.last_lines(origin)}
            found.append(replace(reason, occurred_at=earliest, metadata=facts))
        return found

    def last_lines(self, origin: str) -> list[str]:
        """The newest log lines of a connector, cut to what a failure may carry."""
        kept: list[str] = []
        room = _LAST_LINES
        for line in reversed(self.log.last_lines(origin) if self.log is not None else []):
            shown = line if len(line) <= _LAST_LINE else f"{line[:_LAST_LINE]} …"
            room -= len(shown)
            if room < 0:
                break
            kept.append(shown)
        return kept[::-1]

    def _trace(self, origin: FailureOrigin, message: Message) -> None:
        trace = protocol.trace_of(message)
        if trace is None:
            self.write(origin, b"malformed TRACE " + bytes(message.trace))
        elif trace.type == "ERROR" and trace.error is not None:
            said: Any = msgspec.json.decode(message.trace)
            self.fail(origin, failures.trace(said, origin))
            self.write(origin, f"ERROR {trace.error.message}")
        elif origin != FailureOrigin.SOURCE:
            return
        elif trace.type == "ESTIMATE" and trace.estimate is not None:
            self.tally.estimate(trace.estimate)
        elif (status := trace.stream_status) is not None and status.run_state is not None:
            stream = status.stream_descriptor.stream
            if status.run_state == RunState.INCOMPLETE:
                self.incomplete.setdefault(stream, time.monotonic())
            self._state(stream, status.run_state, status=status)

    def _state(
        self,
        stream: Stream,
        state: RunState,
        *,
        only_first: bool = False,
        cause: IncompleteRunCause | None = None,
        status: protocol.StreamStatusTrace | None = None,
    ) -> None:
        with self._lock:
            only_first = only_first or state == RunState.PENDING
            if self._states.get(stream) == state or (only_first and stream in self._states):
                return
            self._states[stream] = state
        if state == RunState.INCOMPLETE:
            cause = cause or IncompleteRunCause.FAILED
        resets = status.quota_reset_at if status is not None else None
        self._safely(lambda: self._reporter(stream).status(state, cause, resets))

    def _reporter(self, stream: Stream, reporter: Reporter = Reporter.PLATFORM) -> Any:
        namespace = safe_name(stream.namespace) if stream.namespace else None
        return self.attempt.stream(safe_name(stream.name), namespace, reporter)

    def _tell(self, stream: Stream, counts: Counts) -> None:
        self._reporter(stream).replace(
            records_emitted=counts.records,
            bytes_emitted=counts.bytes,
            state_messages_emitted=counts.states,
            records_committed=counts.committed_records,
            bytes_committed=counts.committed_bytes,
            records_rejected=counts.rejected,
            estimated_records=_natural(counts.estimated_records),
            estimated_bytes=_natural(counts.estimated_bytes),
        )
        if counts.said_by_source is not None:
            self._reporter(stream, Reporter.SOURCE).replace(records_emitted=counts.said_by_source)
        if counts.said_by_destination is not None or counts.rejected is not None:
            self._reporter(stream, Reporter.DESTINATION).replace(
                records_committed=counts.said_by_destination, records_rejected=counts.rejected
            )

    def _safely(self, tell: Callable[[], object]) -> None:
        try:
            tell()
        except Exception as error:  # noqa: BLE001  # whatever it is, the sync goes on
            if not self._broken:
                self._broken = True
                client_log.warning("%s is tracked incompletely: %s", self.attempt, error)


def _natural(count: int | None) -> int | None:
    return count if count is not None and count >= 0 else None
