"""One attempt's connectors at work: started, piped together, watched, stopped, and judged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from jobtrail.events import FailureOrigin, FailureType, IncompleteRunCause
from jobtrail.producers import failures, protocol
from jobtrail.producers.attempt import Outcome
from jobtrail.producers.connector import Connector
from jobtrail.producers.lines import Lines
from jobtrail.producers.report import Report
from jobtrail.producers.run_progress import Progress
from jobtrail.producers.stopping import Stop
from jobtrail.producers.tally import Rest

#: Seconds between two looks at everything; what ends is seen at once.
_LOOK: Final = 0.1
#: Bytes held of one line that goes to the log.
_LOG_LINE: Final = 64 * 1024


class Replication:
    """Runs one attempt. The first failure is the cause; what a stopped connector does is not its fault."""

    def __init__(self, report: Report, stop: Stop, grace: float, progress: Progress) -> None:
        """`grace`: seconds between SIGTERM and SIGKILL."""
        self._report = report
        self._stop = stop
        self._grace = grace
        self._progress = progress
        self._wake = threading.Event()
        self._source: Connector | None = None
        self._destination: Connector | None = None
        #: When the source's output ended (monotonic seconds).
        self._source_end: float | None = None
        #: Whether the destination took all its input.
        self._all_given = False
        self._threads: list[threading.Thread] = []
        self._crashed: BaseException | None = None

    def run(self, source: list[str], destination: list[str] | None) -> Outcome:
        """From start to the published end of the attempt."""
        cancelled = False
        try:
            started = (
                destination is None or self._start(FailureOrigin.DESTINATION, destination)
            ) and self._start(FailureOrigin.SOURCE, source)
            if not started:
                for connector in self._connectors():
                    connector.stop(self._grace)
                    connector.ended.wait()
            else:
                cancelled = self._watch()
        finally:
            for connector in self._connectors():
                connector.end()
            for thread in self._threads:  # first: they read to the end
                thread.join(5)
            for connector in self._connectors():
                connector.close()
        self._judge()
        return self._end(cancelled=cancelled)

    def _start(self, origin: FailureOrigin, argv: list[str]) -> bool:
        attempt = self._report.attempt
        environment = {
            "JOBTRAIL_JOB_ID": str(attempt.job_id),
            "JOBTRAIL_ATTEMPT_NUMBER": str(attempt.attempt_number),
        }
        try:
            connector = Connector(
                origin,
                argv,
                environment=environment,
                takes_input=origin == FailureOrigin.DESTINATION,
                on_end=self._wake.set,
            )
        except (OSError, ValueError) as error:
            why = f"the {origin} cannot be started: {argv[0]!r}: {error}"
            self._report.fail(
                origin,
                failures.of(
                    origin,
                    why,
                    failure_type=FailureType.CONFIG_ERROR,
                    external_message=f"The {origin}'s command cannot be started; please review it",
                ),
            )
            self._report.write("jobtrail", why)
            return False
        if origin == FailureOrigin.SOURCE:
            self._source = connector
            self._thread("source", self._pump_source)
        else:
            self._destination = connector
            self._thread("destination", self._pump_destination)
        self._thread(f"{origin}-errors", lambda: self._pump_errors(connector))
        return True

    def _connectors(self) -> Iterator[Connector]:
        for connector in (self._source, self._destination):
            if connector is not None:
                yield connector

    def _thread(self, name: str, pump: Callable[[], None]) -> None:
        def run() -> None:
            try:
                pump()
            except BaseException as error:  # noqa: BLE001  # a fault of ours ends the run, and is told as such
                self._crashed = self._crashed or error
            finally:
                self._wake.set()

        thread = threading.Thread(target=run, name=f"jobtrail-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _watch(self) -> bool:
        """Until all have ended; gives whether that was because somebody cancelled."""
        cancelled = False
        source, destination = self._source, self._destination
        while any(thread.is_alive() for thread in self._threads) or any(
            not connector.ended.is_set() for connector in self._connectors()
        ):
            self._wake.wait(_LOOK)
            self._wake.clear()
            if not cancelled and (self._stop.count or self._report.attempt.cancelled):
                cancelled = True
                self._progress.line("cancelled; the connectors are told to stop")
            if cancelled or self._crashed is not None:
                for connector in self._connectors():
                    connector.stop(self._grace)
                    if self._stop.count > 1:
                        connector.kill()
            elif source and destination and destination.ended.is_set() and self._lingers(source):
                destination.kill()  # whoever holds its input
                source.stop(self._grace)
            self._progress.show(self._report.update())
        return cancelled

    def _lingers(self, source: Connector) -> bool:
        """Whether the source goes on for nobody; one that has closed its output has time to end by itself."""
        given = self._source_end is None or time.monotonic() > self._source_end + self._grace
        return given and not source.ended.is_set()

    def _pump_source(self) -> None:
        source, destination = self._source, self._destination
        assert source is not None  # noqa: S101  # started
        lines, tally = Lines(), self._report.tally
        open_end = destination is not None
        for chunk in source.output():
            before, complete, after = lines.feed(chunk)
            rest = tally.source(complete)
            self._report.take(FailureOrigin.SOURCE, rest)
            if destination is not None and open_end:
                held_back = {one.index for one in rest if not _is_for_destination(one)}
                if held_back:
                    complete = [line for index, line in enumerate(complete) if index not in held_back]
                passed = b"\n".join([*complete, b""])
                open_end = _give(destination, before + passed + after)
        if last := lines.finish():
            rest = tally.source([last])
            self._report.take(FailureOrigin.SOURCE, rest)
            if destination is not None and open_end and all(map(_is_for_destination, rest)):
                open_end = _give(destination, last + b"\n")
        tally.malformed += lines.oversized
        self._source_end = time.monotonic()
        if destination is not None:
            gone = destination.ended.is_set() or source.stopped_at is not None
            self._all_given = open_end and not gone
            destination.end_input()

    def _pump_destination(self) -> None:
        destination = self._destination
        assert destination is not None  # noqa: S101  # started
        lines, tally = Lines(), self._report.tally
        for chunk in destination.output():
            self._report.take(FailureOrigin.DESTINATION, tally.destination(lines.feed(chunk).lines))
        self._report.take(FailureOrigin.DESTINATION, tally.destination([lines.finish()]))
        tally.malformed += lines.oversized

    def _pump_errors(self, connector: Connector) -> None:
        lines = Lines(_LOG_LINE)
        for chunk in connector.errors():
            _, complete, after = lines.feed(chunk)
            for line in complete:
                self._report.write(connector.origin, line)
            if after:
                self._report.write(connector.origin, after)
        if last := lines.finish():
            self._report.write(connector.origin, last)

    def _judge(self) -> None:
        """Adds what the ends of the processes say to the failures; drops what is no fault."""
        report = self._report
        stops = {connector.origin: connector.stopped_at for connector in self._connectors()}
        report.failures[:] = [
            failure
            for failure in report.failures
            if (stopped := stops.get(failure[1])) is None or failure[0] < stopped
        ]
        for connector in self._connectors():
            self._judge_end(connector)
        source_stopped = stops.get(FailureOrigin.SOURCE)
        blamed = {origin for _, origin, _ in report.failures}
        for stream, at in report.incomplete.items():
            if FailureOrigin.SOURCE not in blamed and (source_stopped is None or at < source_stopped):
                why = f"the source gave up the stream {stream.name}, and did not say why"
                report.fail(FailureOrigin.SOURCE, failures.source(why), at)
        if self._crashed is not None:
            report.fail(FailureOrigin.REPLICATION, failures.replication(self._crashed))

    def _judge_end(self, connector: Connector) -> None:
        if connector.stopped_at is not None and connector.stopped_at <= (connector.ended_at or 0):
            return
        report, origin = self._report, FailureOrigin(connector.origin)
        ended_at = connector.ended_at or time.monotonic()
        if origin == FailureOrigin.SOURCE and self._source_end is not None:
            ended_at = min(ended_at, self._source_end)
        # Whatever such a destination says, it cannot have written all.
        early = origin == FailureOrigin.DESTINATION and not self._all_given
        if connector.exit_status == 0 and not early:
            return
        if any(failed == origin for _, failed, _ in report.failures):
            return  # it said so itself
        why = f"the {origin} {connector.ending()}"
        if connector.exit_status == 0:
            why += " before all was given to it"
        if lines := report.last_lines(origin):
            why += "; its last lines:\n" + "\n".join(lines)
        metadata = {"exitStatus": connector.exit_status}
        report.fail(origin, failures.of(origin, why, metadata=metadata), ended_at)

    def _end(self, *, cancelled: bool) -> Outcome:
        report, attempt = self._report, self._report.attempt
        reasons = report.reasons()
        if cancelled:
            report.end(IncompleteRunCause.CANCELED)
            for reason in reasons:
                attempt.failure(reason)
            attempt.cancel(self._cancelled_by())
        elif reasons:
            report.end(IncompleteRunCause.FAILED)
            attempt.fail(*reasons)
        else:
            report.end(None)
            attempt.succeed()
        return attempt.outcome or "failed"

    def _cancelled_by(self) -> str | None:
        if not self._stop.count:
            return None
        import getpass

        try:
            return getpass.getuser()
        except (OSError, KeyError, ImportError):  # nobody has a name here
            return None


def _give(destination: Connector, data: bytes) -> bool:
    """Gives the destination its input; False when it takes no more."""
    try:
        if data:
            destination.write(data)
    except (BrokenPipeError, ValueError):  # ValueError: closed by us
        return False
    return True


def _is_for_destination(rest: Rest) -> bool:
    """Whether a line that is neither record nor state is for the destination, as in Airbyte's platform.

    Run states are. So is what may be a record or state that we cannot read: the destination decides. Other
    messages and plain text are not, for some destinations end over them.
    """
    if rest.message is None:
        return rest.line.lstrip().startswith(b"{")
    if rest.message.type in {"RECORD", "STATE"}:
        return True
    trace = protocol.trace_of(rest.message) if rest.message.type == "TRACE" else None
    return trace is not None and trace.stream_status is not None
