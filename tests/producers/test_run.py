"""`run` with real processes and a real broker."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sdk_reading import Topics, names, of_type, one, published, sdk_settings

from jobtrail import events
from jobtrail.errors import UsageError
from jobtrail.producers.logs import log_path, read_log
from jobtrail.producers.protocol import Stream
from jobtrail.producers.publisher import Publisher
from jobtrail.producers.run import RunResult, run
from jobtrail.producers.stopping import Stop
from jobtrail.settings import Settings

CONNECTION = "9924bcd0-99be-453d-ba47-c2c9766f7da5"
PYTHON = shlex.quote(sys.executable)


@pytest.fixture
def settings(kafka: str, topics: Topics, tmp_path: Path) -> Settings:
    return sdk_settings(kafka, topics, tmp_path, stats_interval=0.2, grace_seconds=1)


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., str]:
    def command(**config: float) -> str:
        path = tmp_path / "source.json"
        path.write_text(json.dumps(config))
        return f"{PYTHON} -m jobtrail.demo.source read --config {shlex.quote(str(path))}"

    return command


@pytest.fixture
def destination(tmp_path: Path) -> Callable[..., str]:
    def command(**config: float) -> str:
        path = tmp_path / "destination.json"
        path.write_text(json.dumps({"path": str(tmp_path / "out"), **config}))
        return f"{PYTHON} -m jobtrail.demo.destination write --config {shlex.quote(str(path))}"

    return command


def script(path: Path, text: str) -> str:
    """A connector that is a few lines of Python."""
    path.write_text(text)
    return f"{PYTHON} {shlex.quote(str(path))}"


def go(
    settings: Settings, source: str, destination: str | None = None, stop: Stop | None = None
) -> RunResult:
    with Publisher(settings) as publisher:
        return run(
            source=source,
            destination=destination,
            connection_id=CONNECTION,
            publisher=publisher,
            quiet=True,
            stop=stop,
        )


def written(folder: Path) -> dict[str, int]:
    return {path.stem: path.read_bytes().count(b"\n") for path in (folder / "out").glob("*.jsonl")}


def newest(told: list[events.Event], reporter: str = "platform") -> dict[str, events.StreamStats]:
    return {
        stats.stream_name: stats for stats in of_type(told, events.StreamStats) if stats.reporter == reporter
    }


def test_a_sync_that_succeeds(
    settings: Settings, source: Callable[..., str], destination: Callable[..., str], tmp_path: Path
) -> None:
    """What is reported is what the destination's files hold."""
    result = go(settings, source(count=1234), destination())
    assert (result.outcome, result.exit_status, result.failures) == ("succeeded", 0, ())
    assert written(tmp_path) == {"users": 1234, "purchases": 1234}
    told = published(settings)
    assert names(told)[:2] == ["JobCreated", "AttemptStarted"]
    assert names(told)[-1] == "AttemptSucceeded"
    started = one(told, events.AttemptStarted)
    assert (started.source_image, started.destination_image) == (
        "jobtrail.demo.source",
        "jobtrail.demo.destination",
    )
    for stream in ("users", "purchases"):
        size = sum(
            len(json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":")).encode())
            for line in (tmp_path / "out" / f"{stream}.jsonl").read_text("utf-8").splitlines()
        )
        stats = newest(told)[stream]
        assert (stats.records_emitted, stats.bytes_emitted) == (1234, size)
        assert (stats.records_committed, stats.bytes_committed) == (1234, size)
        assert (stats.state_messages_emitted, stats.estimated_records) == (13, 1234)
        assert newest(told, "source")[stream].records_emitted == 1234
        assert newest(told, "destination")[stream].records_committed == 1234
        states = [
            status.run_state for status in of_type(told, events.StreamStatus) if status.stream_name == stream
        ]
        assert states == ["PENDING", "RUNNING", "COMPLETE"]
    assert result.totals.records == result.totals.committed_records == 2468


def test_without_a_destination_nothing_is_known_of_what_is_committed(
    settings: Settings, source: Callable[..., str]
) -> None:
    result = go(settings, source(count=50))
    assert (result.outcome, result.totals.records, result.totals.committed_records) == (
        "succeeded",
        100,
        None,
    )
    stats = newest(published(settings))["users"]
    assert (stats.records_emitted, stats.records_committed) == (50, None)


def test_a_source_that_says_why_it_fails(
    settings: Settings, source: Callable[..., str], destination: Callable[..., str], tmp_path: Path
) -> None:
    result = go(settings, source(count=500, fail_after=750), destination())
    assert (result.outcome, result.exit_status) == ("failed", 1)
    assert written(tmp_path) == {"users": 500, "purchases": 250}
    told = published(settings)
    failure = one(told, events.Failure)
    assert (failure.failure_origin, failure.failure_type) == ("source", "transient_error")
    assert (failure.retryable, failure.from_trace_message) == (True, True)
    assert any("exit status 1" in line for line in json.loads(failure.metadata or "")["lastLines"])
    assert names(told)[-2:] == ["AttemptFailed", "JobFailed"]
    stats = newest(told)["purchases"]
    assert (stats.records_emitted, stats.records_committed) == (250, 200)
    last = {status.stream_name: status for status in of_type(told, events.StreamStatus)}
    assert last["users"].run_state == "COMPLETE"
    assert (last["purchases"].run_state, last["purchases"].incomplete_run_cause) == ("INCOMPLETE", "FAILED")
    assert any(
        "ERROR The demonstration source failed" in line for line in read_log(tmp_path, result.job_id, 0)
    )


def test_a_source_that_is_killed(settings: Settings, destination: Callable[..., str], tmp_path: Path) -> None:
    killed = script(
        tmp_path / "killed.py",
        "import os, sys\n"
        'print(\'{"type":"RECORD","record":{"stream":"users","data":{}}}\', flush=True)\n'
        "print('all was well', file=sys.stderr, flush=True)\n"
        "os.kill(os.getpid(), 9)\n",
    )
    result = go(settings, killed, destination())
    assert result.outcome == "failed"
    failure = one(published(settings), events.Failure)
    assert failure.failure_origin == "source"
    assert failure.internal_message == "the source was killed by SIGKILL; its last lines:\nall was well"
    assert json.loads(failure.metadata or "")["exitStatus"] == -9
    assert result.totals.records == 1


def test_a_destination_that_dies_is_the_cause_and_the_source_is_stopped(
    settings: Settings, source: Callable[..., str], destination: Callable[..., str]
) -> None:
    result = go(settings, source(count=100_000_000), destination(fail_after=1000))
    told = published(settings)
    failure = one(told, events.Failure)
    assert result.outcome == "failed"
    assert (failure.failure_origin, failure.from_trace_message) == ("destination", True)
    assert "fail_after was reached" in (failure.internal_message or "")


def test_a_destination_that_leaves_early_has_failed_whatever_its_exit_status(
    settings: Settings, source: Callable[..., str], tmp_path: Path
) -> None:
    result = go(settings, source(count=1_000_000), script(tmp_path / "early.py", "input()"))
    assert result.outcome == "failed"
    assert "before all was given to it" in (result.failures[0].internal_message or "")


def test_both_fail_and_the_first_is_the_cause(settings: Settings, tmp_path: Path) -> None:
    """A destination that complains about the end of its input did not cause it."""
    result = go(
        settings,
        script(tmp_path / "source.py", "raise SystemExit(7)"),
        script(tmp_path / "destination.py", "import sys; sys.stdin.read(); sys.exit('incomplete')"),
    )
    assert [failure.origin for failure in result.failures] == ["source", "destination"]
    first, second = of_type(published(settings), events.Failure)
    assert (first.failure_origin, second.failure_origin) == ("source", "destination")
    assert first.occurred_at <= second.occurred_at
    assert "exit status 7" in (first.internal_message or "")


def cancel_soon(settings: Settings, path: Path) -> threading.Thread:
    """Asks for cancellation as soon as the connector has written its process id to `path`."""

    def ask() -> None:
        while not (path.exists() and path.read_text()):
            time.sleep(0.02)
        while not (created := of_type(published(settings), events.JobCreated)):
            time.sleep(0.1)
        with Publisher(settings) as publisher:
            publisher.deliver(events.CancelRequested(job_id=created[0].job_id, requested_by="olivia"))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, {handler})
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(20)"
child = subprocess.Popen([sys.executable, "-c", deaf])
print('{{"type":"RECORD","record":{{"stream":"users","data":{{}}}}}}', flush=True)
time.sleep(0.3)
open({path!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
time.sleep(20)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("handler", ["signal.SIG_DFL", "signal.SIG_IGN"])
def test_cancelled_from_elsewhere_within_the_grace(
    settings: Settings, destination: Callable[..., str], tmp_path: Path, handler: str
) -> None:
    """Also where the connector, and what it started, do not listen to SIGTERM; nobody stays behind."""
    pids = tmp_path / "pids"
    stubborn = script(tmp_path / "stubborn.py", STUBBORN.format(handler=handler, path=str(pids)))
    asking = cancel_soon(settings, pids)
    began = time.monotonic()
    result = go(settings, stubborn, destination())
    asking.join()
    assert time.monotonic() - began < 15
    assert (result.outcome, result.exit_status, result.failures) == ("cancelled", 1, ())
    told = published(settings)
    assert one(told, events.Cancelled).cancelled_by == "olivia"
    assert not of_type(told, events.Failure)
    assert of_type(told, events.StreamStatus)[-1].incomplete_run_cause == "CANCELED"
    assert not any(alive(int(pid)) for pid in pids.read_text().split())


def test_ctrl_c_cancels(
    settings: Settings, source: Callable[..., str], destination: Callable[..., str]
) -> None:
    handler = signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        while signal.getsignal(signal.SIGINT) is handler:
            time.sleep(0.01)
        time.sleep(1)
        signal.raise_signal(signal.SIGINT)

    interrupting = threading.Thread(target=interrupt, daemon=True)
    interrupting.start()
    result = go(settings, source(slow=0.01), destination())
    interrupting.join(10)
    assert (result.outcome, result.exit_status) == ("cancelled", 130)
    assert one(published(settings), events.Cancelled).attempt_number is None
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("origin", ["source", "destination"])
def test_a_command_that_does_not_exist(
    settings: Settings, source: Callable[..., str], destination: Callable[..., str], origin: str
) -> None:
    commands = {"source": source(), "destination": destination(), origin: "no-such-connector read"}
    result = go(settings, commands["source"], commands["destination"])
    assert (result.outcome, result.exit_status) == ("failed", 1)
    failure = one(published(settings), events.Failure)
    assert (failure.failure_origin, failure.failure_type, failure.retryable) == (
        origin,
        "config_error",
        False,
    )
    assert "'no-such-connector'" in (failure.internal_message or "")
    assert names(published(settings))[-1] == "JobFailed"


@pytest.mark.parametrize("command", ["", "'unbalanced"])
def test_what_is_no_command_is_wrong_usage(settings: Settings, command: str) -> None:
    with pytest.raises(UsageError):
        go(settings, command)
    assert published(settings) == []


def test_the_log_is_capped_and_plain_text_does_not_reach_the_destination(
    settings: Settings, destination: Callable[..., str], tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"log_limit": 20_000})
    chatty = script(
        tmp_path / "chatty.py",
        "import sys\n"
        "for number in range(5000):\n"
        "    print('plain text', number)\n"
        '    print(\'{"type":"LOG","log":{"level":"WARN","message":"said"}}\')\n'
        "    print('x' * 10, file=sys.stderr)\n"
        'print(\'{"type":"RECORD","record":{"stream":"users","data":{}}}\')\n'
        "sys.stderr.write('y' * 200_000)\n",
    )
    result = go(settings, chatty, destination())
    assert result.outcome == "succeeded", result.failures
    assert written(tmp_path) == {"users": 1}
    assert (
        sum(file.stat().st_size for file in log_path(tmp_path, result.job_id, 0).parent.iterdir()) <= 20_000
    )


def test_connectors_learn_which_attempt_they_are(settings: Settings, tmp_path: Path) -> None:
    """And an attempt of a job that others decide about publishes neither its creation nor its end."""
    told = script(
        tmp_path / "env.py",
        "import os, sys\n"
        "sys.stderr.write(os.environ['JOBTRAIL_JOB_ID'] + ' ' + os.environ['JOBTRAIL_ATTEMPT_NUMBER'])\n"
        "sys.exit(1)",
    )
    with Publisher(settings) as publisher:
        result = run(source=told, job_id=77, attempt_number=3, publisher=publisher, quiet=True)
    assert (result.job_id, result.attempt_number) == (77, 3)
    assert read_log(tmp_path, 77, 3)[0].endswith(" 77 3")
    assert names(published(settings)) == ["AttemptStarted", "Failure", "AttemptFailed"]


def test_streams_and_sync_modes_come_from_the_catalog_of_the_command(
    settings: Settings, source: Callable[..., str], tmp_path: Path
) -> None:
    catalog = tmp_path / "catalog.json"
    catalog.write_text(
        json.dumps({"streams": [{"stream": {"name": "users"}, "sync_mode": "incremental"}]}), "utf-8"
    )
    result = go(settings, f"{source(count=3)} --catalog {shlex.quote(str(catalog))}")
    (stream,) = one(published(settings), events.JobCreated).streams
    assert (stream.name, stream.sync_mode) == ("users", "incremental")
    assert result.streams.keys() == {Stream("users")}
