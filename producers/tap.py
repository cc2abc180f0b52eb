"""`jobtrail tap`: a filter between a source and whatever reads it, which reports what passes.

    source read … | jobtrail tap --connection ID | destination write …

Every byte goes on unchanged, before it is looked at. Tracking that fails is said once on the log, and the
pipe goes on without. A tap sees neither exit statuses nor what the destination confirms, so it goes by what
the source prints: the end of the input is a success, unless a TRACE ERROR or an INCOMPLETE stream came before
it; then the job has failed. A reader that closes the pipe early is a failure of the destination. A signal
cancels. What is committed stays unknown.

With `--exit-status FILE` it also goes by the source's exit status, which a shell leaves there before the pipe
closes. No status is no success: the source was killed together with the shell.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from jobtrail.errors import EmbeddedError, SettingError
from jobtrail.events import ConfigType, ConfiguredStream, FailureOrigin, IncompleteRunCause
from jobtrail.producers import failures
from jobtrail.producers.attempt import Attempt, Outcome
from jobtrail.producers.client import log
from jobtrail.producers.job import Job
from jobtrail.producers.lines import LINE_LIMIT, Lines
from jobtrail.producers.protocol import Stream
from jobtrail.producers.publisher import Publisher
from jobtrail.producers.report import Report
from jobtrail.producers.secret_fields import hide_environment, hide_files
from jobtrail.producers.shared import shared_publisher
from jobtrail.producers.stopping import Stop, signals_ask
from jobtrail.producers.tally import Counts, Tally
from jobtrail.settings import Settings

#: Bytes read at once, at most.
CHUNK: Final = 256 * 1024
#: Seconds between two reports of the counters.
_LOOK: Final = 0.2
#: As the shell says of a program that SIGPIPE ended.
BROKEN_PIPE: Final = 141


@dataclass(frozen=True, slots=True)
class TapResult:
    """What passed."""

    #: None: it could not be tracked.
    job_id: int | None
    attempt_number: int | None
    #: By what was seen in the pipe.
    outcome: Outcome
    #: 0 the input ended; 141 the reader went away; 1 writing failed otherwise; 128 and a signal's number.
    exit_status: int
    streams: Mapping[Stream, Counts]
    #: Lines that are no message of the protocol, or too long to look at.
    malformed: int


def tap(
    *,
    connection_id: str | None = None,
    config_type: str | None = None,
    config_id: str | None = None,
    scope_type: str | None = None,
    scope_id: str | None = None,
    workspace_id: str | None = None,
    streams: Iterable[ConfiguredStream | str] = (),
    labels: Mapping[str, str] | None = None,
    job_id: int | None = None,
    attempt_number: int | None = None,
    settings: Settings | None = None,
    publisher: Publisher | None = None,
    stdin: int = 0,
    stdout: int = 1,
    exit_status_file: Path | None = None,
    configs: Iterable[Path] = (),
    specs: Sequence[Path] = (),
    line_limit: int = LINE_LIMIT,
    stop: Stop | None = None,
) -> TapResult:
    """Copies `stdin` to `stdout` (file descriptors) to its end, and reports it; gives what passed.

    With both `job_id` and `attempt_number` the job exists and is others' to decide about, and `config_type`
    is its own, if known; else one is made, by default a sync.
    A line of more than `line_limit` bytes passes like any other, and is counted as malformed. `stdout` is
    closed (it then leads nowhere) before the end is published, so that the reader need not wait for Kafka.
    What is secret in `configs`, files of the source's configuration, is told nowhere: what names say, and
    what `specs`, files with its specification, mark. So it is with variables of the environment.
    `exit_status_file` has the source's exit status, as a decimal number, before the input ends.
    In the main thread SIGINT, SIGTERM and SIGHUP end it at once. Where there is neither a Kafka nor a spool,
    that is logged, and the bytes pass untracked. Raises UsageError for arguments that do not fit and files
    that cannot be read.
    """
    hide_environment(os.environ)
    hide_files(configs, specs)
    stop = stop or Stop()
    watcher = _Watcher(line_limit, exit_status_file)
    with ExitStack() as stack:
        attempt: Attempt | None = None
        try:
            publisher = publisher or shared_publisher(settings)
        except (SettingError, EmbeddedError) as error:
            log.warning("this passes untracked: %s", error)
        else:
            if job_id is not None and attempt_number is not None:
                attempt = stack.enter_context(
                    Attempt.start(
                        job_id=job_id,
                        attempt_number=attempt_number,
                        config_type=config_type,
                        publisher=publisher,
                    )
                )
            else:
                job = Job.start(
                    connection_id=connection_id,
                    config_type=config_type or ConfigType.SYNC,
                    config_id=config_id,
                    scope_type=scope_type,
                    scope_id=scope_id,
                    workspace_id=workspace_id,
                    streams=streams,
                    labels=labels,
                    job_id=job_id,
                    publisher=publisher,
                )
                attempt = stack.enter_context(job).attempt(attempt_number)
            watcher.report = Report(attempt, watcher.tally)
        pipe = _Pipe(stdin, stdout, stop)
        status = pipe.copy(watcher)
        watcher.look(None)
        _detach(stdout)
        outcome = watcher.end(status, pipe)
    return TapResult(
        job_id=attempt.job_id if attempt else None,
        attempt_number=attempt.attempt_number if attempt else None,
        outcome=outcome,
        exit_status=status,
        streams=watcher.tally.snapshot(),
        malformed=watcher.tally.malformed,
    )


class _Watcher:
    """Looks at what passes; never raises."""

    def __init__(self, line_limit: int, exit_status_file: Path | None) -> None:
        self.tally = Tally()
        self._exit_status_file = exit_status_file
        self.report: Report | None = None
        self._lines = Lines(line_limit)
        self._reported_at = 0.0
        self._broken: Exception | None = None
        self._said_failure = False

    def look(self, chunk: bytes | None) -> None:
        """Counts the next bytes; empty: time has passed; None: the input has ended."""
        if self._broken is not None:
            return
        try:
            if chunk is None:
                self._take([self._lines.finish()])
                self.tally.malformed += self._lines.oversized
            elif chunk:
                self._take(self._lines.feed(chunk).lines)
            now = time.monotonic()
            if self.report is not None and now - self._reported_at >= _LOOK:
                self._reported_at = now
                self.report.update()
        except Exception as error:  # noqa: BLE001  # whatever it is, the pipe goes on
            self._broken = error
            log.warning("what passes is tracked no more: %s", error)

    def _take(self, lines: list[bytes]) -> None:
        rest = self.tally.source(lines)
        if rest and self.report is not None:
            self.report.take(FailureOrigin.SOURCE, rest)
        elif rest:
            self._said_failure = self._said_failure or any(
                one.message is not None and one.message.type == "TRACE" and b'"ERROR"' in one.line
                for one in rest
            )

    def end(self, status: int, pipe: _Pipe) -> Outcome:
        """Ends the attempt; gives how."""
        report = self.report
        if report is None:
            if pipe.interrupted:
                return "cancelled"
            return "failed" if status or self._said_failure or self._bad_ending() else "succeeded"
        if self._broken is not None:  # what is known is not all, and must not be taken for a success
            report.attempt.fail(failures.platform(self._broken))
            return "failed"
        if not pipe.interrupted:
            self._judge(report, pipe)
        reasons = report.reasons()
        if pipe.interrupted:
            report.end(IncompleteRunCause.CANCELED)
            for reason in reasons:
                report.attempt.failure(reason)
            report.attempt.cancel()
        elif reasons:
            report.end(IncompleteRunCause.FAILED)
            report.attempt.fail(*reasons)
        else:
            report.end(None)
            report.attempt.succeed()
        return report.attempt.outcome or "failed"

    def _judge(self, report: Report, pipe: _Pipe) -> None:
        """Adds what the end of the pipe says to the failures that were told."""
        if pipe.error is not None:
            why = f"what reads the pipe takes no more: {pipe.error}"
            report.fail(FailureOrigin.DESTINATION, failures.destination(why))
        elif report.failures:
            return
        elif ending := self._bad_ending():
            report.fail(FailureOrigin.SOURCE, failures.source(ending))
        else:
            for stream, at in report.incomplete.items():
                why = f"the source gave up the stream {stream.name}, and did not say why"
                report.fail(FailureOrigin.SOURCE, failures.source(why), at)

    def _bad_ending(self) -> str | None:
        """How the source ended, unless well or nobody looks."""
        if self._exit_status_file is None:
            return None
        try:
            status = self._exit_status_file.read_text("utf-8", "replace").strip()
        except OSError as error:
            return f"the source left no exit status, so it was killed ({error})"
        if status == "0":
            return None
        return f"the source ended with exit status {status if status.isdecimal() else 'unknown'}"


class _Interrupted(BaseException):  # a signal, not an error
    """Leaves a read or write that a signal interrupted; Python would take it up again."""


class _Pipe:
    """The copying itself. A signal ends it, also while it waits for one of its ends."""

    def __init__(self, stdin: int, stdout: int, stop: Stop) -> None:
        self.stdin = stdin
        self.stdout = stdout
        #: Why nothing more could be written.
        self.error: OSError | None = None
        self._stop = stop
        #: Whether a signal, or somebody else, ended it.
        self.interrupted = False
        self._waiting = False

    def copy(self, watcher: _Watcher) -> int:
        """To the end of the input; gives the exit status."""
        with signals_ask(self._stop, then=self._interrupt):
            try:
                while (chunk := self._read()) != b"":
                    if chunk is not None:
                        self._write(chunk)
                    watcher.look(chunk or b"")
            except _Interrupted:
                self.interrupted = True
                return self._stop.exit_status
            except BrokenPipeError as error:
                self.error = error
                return BROKEN_PIPE
            except OSError as error:
                self.error = error
                log.error("the pipe ends here: %s", error)
                return 1
        return 0

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._waiting:
            self._waiting = False
            raise _Interrupted

    def _read(self) -> bytes | None:
        """The next bytes, empty at the end; None: nothing came for a while."""
        self._wait()
        if sys.platform != "win32" and not select.select([self.stdin], [], [], _LOOK)[0]:
            self._waiting = False
            return None
        chunk = os.read(self.stdin, CHUNK)
        self._waiting = False
        return chunk

    def _write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        self._wait()
        while rest:
            rest = rest[os.write(self.stdout, rest) :]
        self._waiting = False

    def _wait(self) -> None:
        self._waiting = True
        if self._stop.count:  # asked for before the line above
            raise _Interrupted


def _detach(descriptor: int) -> None:
    """Closes a descriptor for its reader; whoever writes to it later writes to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
