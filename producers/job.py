"""Reports a job: that it was asked for, its attempts, and that nobody is left to retry it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Final, Self, Unpack

from jobtrail.errors import UsageError
from jobtrail.events import (
    Cancelled,
    ConfigType,
    ConfiguredStream,
    JobCreated,
    JobFailed,
    Label,
    StreamDescriptor,
)
from jobtrail.producers import failures
from jobtrail.producers.attempt import About, Attempt, start_event
from jobtrail.producers.client import log, worker_name
from jobtrail.producers.facts import make
from jobtrail.producers.publisher import Publisher
from jobtrail.producers.shared import shared_publisher
from jobtrail.scope import scope_misfit
from jobtrail.settings import Settings


class Job:
    """A job that this caller decides about. As a context manager it ends with its block.

    - An attempt that still runs, for it was not ended by a block of its own, fails.
    - When an attempt succeeded or was cancelled, that decided the job, and nothing more is published.
    - When its attempts failed, or an exception left the block before any: JobFailed; by Ctrl-C: Cancelled.
    - When there are none and no exception, others are to run it.

    Leaving the block waits up to settings.flush_timeout seconds until the events are durable.
    """

    def __init__(self, publisher: Publisher, created: JobCreated) -> None:
        """For `Job.start`."""
        self.job_id = created.job_id
        self.attempts: list[Attempt] = []
        self._publisher = publisher
        self._lock = threading.Lock()
        self._config_type = created.config_type
        self._created = publisher.offer(created)

    @classmethod
    def start(
        cls,
        *,
        connection_id: str | None = None,
        config_type: str = ConfigType.SYNC,
        config_id: str | None = None,
        scope_type: str | None = None,
        scope_id: str | None = None,
        workspace_id: str | None = None,
        streams: Iterable[ConfiguredStream | str] = (),
        streams_to_reset: Iterable[StreamDescriptor | str] = (),
        streams_to_refresh: Iterable[StreamDescriptor | str] = (),
        labels: Mapping[str, str] | None = None,
        job_id: int | None = None,
        settings: Settings | None = None,
        publisher: Publisher | None = None,
    ) -> Self:
        """Publishes JobCreated; see there for the arguments.

        `config_id` is the connection unless given; `job_id` is made here unless given, unique without asking
        anybody. Streams may be names. `publisher` is the process's own for `settings` unless given.
        Raises UsageError for what does not fit, EmbeddedError or SettingError as `Publisher` does.
        """
        if config_id is None and connection_id is None:
            raise UsageError("a job needs connection_id=, or config_id= for what it runs instead")
        if misfit := scope_misfit(scope_type, scope_id, workspace_id):
            raise UsageError(f"{misfit.field}: {misfit.found}")
        created = make(
            JobCreated,
            job_id=offline_job_id() if job_id is None else job_id,
            config_type=config_type,
            config_id=config_id or connection_id,
            connection_id=connection_id,
            scope_type=scope_type,
            scope_id=scope_id,
            workspace_id=workspace_id,
            streams=[make(ConfiguredStream, name=one) if isinstance(one, str) else one for one in streams],
            streams_to_reset=_descriptors(streams_to_reset),
            streams_to_refresh=_descriptors(streams_to_refresh),
            labels=[make(Label, key=key, value=value) for key, value in (labels or {}).items()],
        )
        return cls(publisher or shared_publisher(settings), created)

    def attempt(self, attempt_number: int | None = None, **about: Unpack[About]) -> Attempt:
        """Starts an attempt; its number is the next one from 0 unless given.

        Raises UsageError while another attempt runs, and for what does not fit.
        """
        with self._lock:
            if any(attempt.outcome is None for attempt in self.attempts):
                raise UsageError(f"{self.attempts[-1]} still runs; end it before the next one starts")
            last = max((attempt.attempt_number for attempt in self.attempts), default=-1)
            number = last + 1 if attempt_number is None else attempt_number
            started = start_event(self._publisher.settings, self.job_id, number, about)
            attempt = Attempt(
                self._publisher, started, owned=True, since=self._created, config_type=self._config_type
            )
            self.attempts.append(attempt)
            return attempt

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            self._end(error)
        except UsageError as problem:  # the publisher is closed
            if error is None:
                raise
            log.error("the end of job %d was not published: %s", self.job_id, problem)

    def _end(self, error: BaseException | None) -> None:
        for attempt in self.attempts:
            if attempt.outcome is None:
                attempt.fail(failures.replication(error or "the job's block ended before the attempt did"))
        last = self._created
        if end := self._decision(error):
            last = self._publisher.offer(end) or last
        elif self.attempts:
            last = self.attempts[-1].last_receipt
        if last is not None:
            self._publisher.await_receipt(last)

    def _decision(self, error: BaseException | None) -> JobFailed | Cancelled | None:
        """What decides the job, unless the end of an attempt did or somebody else is to run it."""
        outcomes = {attempt.outcome for attempt in self.attempts}
        if outcomes & {"succeeded", "cancelled"}:
            return None
        if isinstance(error, KeyboardInterrupt):
            by = worker_name(self._publisher.settings)
            return make(Cancelled, job_id=self.job_id, cancelled_by=by)
        return JobFailed(job_id=self.job_id) if outcomes or error is not None else None


def _descriptors(streams: Iterable[StreamDescriptor | str]) -> list[StreamDescriptor]:
    return [make(StreamDescriptor, name=one) if isinstance(one, str) else one for one in streams]


#: Ids made here are 2^52 + 41 bits of milliseconds since 2020 + 11 random bits: below 2^53, in the order of
#: time until 2089, and apart from those that the HTTP API gives out (below 2^43).
_OFFLINE: Final = 2**52
_EPOCH_MILLIS: Final = 1_577_836_800_000
_RANDOM_BITS: Final = 11


_last_id = 0
_minting: Final = threading.Lock()


def offline_job_id() -> int:
    """A job id made without asking anybody: unique within the process, and very likely everywhere."""
    global _last_id  # noqa: PLW0603  # one sequence for the process
    millis = time.time_ns() // 1_000_000 - _EPOCH_MILLIS
    minted = _OFFLINE + (millis % 2**41 << _RANDOM_BITS) + secrets.randbits(_RANDOM_BITS)
    with _minting:
        _last_id = max(_last_id + 1, minted)
        return _last_id
