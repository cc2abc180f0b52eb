"""Reports one attempt of a job: its start, its streams' progress, its failures and its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Literal, Self, TypedDict, TypeVar, Unpack

from jobtrail.errors import UsageError
from jobtrail.events import (
    AttemptFailed,
    AttemptHeartbeat,
    AttemptStarted,
    AttemptSucceeded,
    Cancelled,
    CancelRequested,
    Event,
    FailureOrigin,
    Reporter,
    StreamEvent,
    attempt_id,
)
from jobtrail.job_types import job_type_of, status_check_interval
from jobtrail.producers import failures
from jobtrail.producers.blame import Blame, origin_of
from jobtrail.producers.cancellation import cancellation_watch
from jobtrail.producers.client import log, worker_name
from jobtrail.producers.dataplane import Dataplane
from jobtrail.producers.facts import make
from jobtrail.producers.failure_reason import FailureReason
from jobtrail.producers.publisher import Publisher
from jobtrail.producers.pulse import pulse
from jobtrail.producers.receipt import Receipt
from jobtrail.producers.safe_text import safe_name
from jobtrail.producers.shared import shared_publisher
from jobtrail.producers.streams import StreamReporter
from jobtrail.settings import Settings

T = TypeVar("T")
Outcome = Literal["succeeded", "failed", "cancelled"]

#: Events that wait for Kafka beyond which progress is not added to them; the next one says it as well.
_BACKLOG = 10_000
_END = object()


class About(TypedDict, total=False):
    """Who runs an attempt of what; see AttemptStarted."""

    worker: str
    dataplane: str
    source_image: str
    source_version: str
    destination_image: str
    destination_version: str


class Attempt:
    """A running attempt; any thread may call it. As a context manager it ends with its block.

    - Left normally: succeeded; or cancelled, when `cancelled` was seen to be true.
    - By an exception: failed, with a Failure whose origin is where it was raised (`source`, `destination`,
      else replication); or cancelled, when `cancelled` was seen to be true. It goes on unchanged.
    - By Ctrl-C: cancelled. By SystemExit and the like: failed by the platform, for its work was not done.

    Tracking that fails never makes the work fail: it is logged, and counted by the publisher. Leaving the
    block waits up to settings.flush_timeout seconds until the events are durable.
    """

    def __init__(
        self,
        publisher: Publisher,
        started: AttemptStarted,
        *,
        owned: bool = False,
        since: Receipt | None = None,
        config_type: str | None = None,
    ) -> None:
        """For `Attempt.start` and `Job.attempt`. `owned`: the job is the caller's own, created at `since`."""
        self.job_id = started.job_id
        self.attempt_number = started.attempt_number
        #: How it ended; None while it runs.
        self.outcome: Outcome | None = None
        self._publisher = publisher
        self._worker = started.worker
        job_type = None if config_type is None else job_type_of(config_type)
        #: Seconds of silence after which it says that it is alive.
        self._silence = status_check_interval(publisher.settings, job_type)
        self._owned = owned
        self._about = {"job_id": self.job_id, "attempt_number": self.attempt_number}
        self._id = attempt_id(self.job_id, self.attempt_number)
        #: Held while something is published, so that nothing comes after the end.
        self._telling = threading.RLock()
        self._streams: dict[tuple[str | None, str, str], StreamReporter] = {}
        self._told_at = 0.0
        self._cancellation: CancelRequested | Cancelled | None = None
        self._watching = self._saw_cancellation = False
        self.last_receipt = self._tell(started)
        self._since = since or self.last_receipt
        pulse.add(self)
        self._dataplane = Dataplane(publisher, started.dataplane) if started.dataplane else None

    @classmethod
    def start(
        cls,
        *,
        job_id: int,
        attempt_number: int,
        config_type: str | None = None,
        settings: Settings | None = None,
        publisher: Publisher | None = None,
        **about: Unpack[About],
    ) -> Self:
        """Starts an attempt of a job that exists and that others decide about.

        `config_type`, the job's, says after how much silence the attempt has to say that it is alive; without
        it that is after the shortest time of all.
        Raises UsageError for an id, number or name that does not fit, and what `Publisher` raises.
        """
        publisher = publisher or shared_publisher(settings)
        started = start_event(publisher.settings, job_id, attempt_number, about)
        return cls(publisher, started, config_type=config_type)

    def stream(
        self, name: str, namespace: str | None = None, reporter: str = Reporter.PLATFORM
    ) -> StreamReporter:
        """The counters of one stream as `reporter` sees it; the same object for the same three."""
        with self._telling:
            self._require_running()
            key = (namespace or None, name, str(reporter))
            if key not in self._streams:
                about = make(StreamEvent, **self._about, stream_namespace=namespace or None, stream_name=name)
                self._streams[key] = StreamReporter(about, str(reporter), self._say)
            return self._streams[key]

    def source(self, records: Iterable[T] | Callable[[], Iterable[T]]) -> Iterator[T]:
        """Iterates over `records`; an error that they raise is the source's.

        A function that makes them may be given instead, so that what it raises is the source's too.
        """
        blame = Blame(self._id, FailureOrigin.SOURCE)
        with blame:
            iterator = iter(records if isinstance(records, Iterable) else records())
        while True:
            with blame:
                record = next(iterator, _END)
            if record is _END:
                return
            yield record  # type: ignore[misc]  # mypy does not narrow by a sentinel

    def destination(self) -> Blame:
        """A block in which an error that is raised is the destination's."""
        return Blame(self._id, FailureOrigin.DESTINATION)

    def failure(self, reason: FailureReason) -> None:
        """Reports a failure that does not end the attempt: a stream's own, or one of several."""
        self._say(reason.event(**self._about))

    def heartbeat(self) -> None:
        """Says that the attempt is alive. Happens by itself after the silence that its job type allows."""
        self._say(make(AttemptHeartbeat, **self._about))

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked that the job be cancelled, or cancelled it or this attempt.

        Costs nothing to ask often; the first question starts the watch of the events topic. Once it was true
        the attempt ends as cancelled, however its block is left.
        """
        if self._cancellation is not None:
            self._saw_cancellation = True
        elif not self._watching and self._since is not None and self._since.done:
            self._watch(self._since)
        return self._saw_cancellation

    def on_cancellation(self, event: CancelRequested | Cancelled) -> None:
        """For the watch: the job or this attempt is to be or was cancelled."""
        self._cancellation = event

    def _watch(self, since: Receipt) -> None:
        with self._telling:
            if self._watching or self.outcome is not None or since.error is not None:
                return
            self._watching = True
            cancellation_watch(self._publisher).add(self, since.partition, since.offset)

    def succeed(self) -> None:
        """Ends the attempt as succeeded: all was done. Does nothing when it has ended."""
        self._end("succeeded", partial(make, AttemptSucceeded, **self._about))

    def fail(self, *reasons: FailureReason) -> None:
        """Ends the attempt as failed, for `reasons`. Does nothing when it has ended."""
        told = [reason.event(**self._about) for reason in reasons]
        self._end("failed", partial(make, AttemptFailed, **self._about), told)

    def cancel(self, cancelled_by: str | None = None) -> None:
        """Ends the attempt as cancelled. Does nothing when it has ended.

        The whole job is cancelled when it is the caller's own or that was asked for, else this attempt alone.
        """
        request, whole_job = self._cancellation, self._owned
        if isinstance(request, CancelRequested):
            whole_job, cancelled_by = True, cancelled_by or request.requested_by
        elif request is not None and (request.attempt_number is None or not whole_job):
            self._end("cancelled", None)  # somebody has published it
            return
        number = None if whole_job else self.attempt_number
        by = safe_name(cancelled_by) if cancelled_by else self._worker
        self._end("cancelled", partial(Cancelled, job_id=self.job_id, attempt_number=number, cancelled_by=by))

    def close(self, error: BaseException | None = None) -> None:
        """Ends the attempt as its block does when it is left with `error`. Does nothing when it has ended."""
        match error:
            case _ if self._saw_cancellation:
                self.cancel()
            case None:
                self.succeed()
            case KeyboardInterrupt():
                self.cancel(self._worker)
            case Exception():
                self.fail(failures.of(origin_of(error, self._id) or FailureOrigin.REPLICATION, error))
            case _:
                self.fail(failures.platform(error, external_message="The worker was told to stop"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            self.close(error)
        except UsageError as problem:  # the publisher is closed
            if error is None:
                raise
            log.error("the end of %s was not published: %s", self, problem)
        if not self._owned and self.last_receipt is not None:  # else the job waits
            self._publisher.await_receipt(self.last_receipt)

    @property
    def beat_interval(self) -> float:
        """Seconds between two reports of what has changed."""
        return min(self._publisher.settings.stats_interval, self._silence)

    def beat(self) -> None:
        """For the pulse: publishes what has changed, or a heartbeat after silence."""
        if self._publisher.closed:
            pulse.remove(self)
            return
        if self._publisher.counts.waiting > _BACKLOG:
            return
        with self._telling:
            if self.outcome is not None:
                return
            self._tell_stats()
            # The beat that is nearest to the end of the silence: the next may be a whole interval late.
            if time.monotonic() - self._told_at + self.beat_interval / 2 >= self._silence:
                self.heartbeat()

    def _end(self, outcome: Outcome, end: Callable[..., Event] | None, before: Sequence[Event] = ()) -> None:
        with self._telling:
            if self.outcome is not None:
                return
            self.outcome = outcome
            pulse.remove(self)
            if self._dataplane is not None:
                self._dataplane.close()
            if self._watching:
                cancellation_watch(self._publisher).remove(self)
            for stream in self._streams.values():
                stream.end(self._ended())
            self._tell_stats()
            for event in before:
                self._tell(event)
            if end is not None:  # made last, so that nothing is younger
                self.last_receipt = self._tell(end()) or self.last_receipt

    def _tell_stats(self) -> None:
        for stream in list(self._streams.values()):
            if (stats := stream.take()) is not None and self._tell(stats) is None:
                stream.untake()

    def _say(self, event: Event) -> None:
        with self._telling:
            self._require_running()
            self._tell(event)

    def _tell(self, event: Event) -> Receipt | None:
        self._told_at = time.monotonic()
        return self._publisher.offer(event)

    def _require_running(self) -> None:
        if self.outcome is not None:
            raise UsageError(self._ended())

    def _ended(self) -> str:
        return f"{self} has ended ({self.outcome}); start another to report more"

    def __repr__(self) -> str:
        return f"attempt {self.attempt_number} of job {self.job_id}"


def start_event(settings: Settings, job_id: int, attempt_number: int, about: About) -> AttemptStarted:
    """The start of an attempt, by this worker. Raises UsageError for what does not fit."""
    by = {"worker": worker_name(settings), "dataplane": settings.dataplane}
    return make(AttemptStarted, job_id=job_id, attempt_number=attempt_number, **{**by, **about})
