"""The tap as a filter: bytes pass unchanged, whatever they are and whatever happens to the tracking."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sdk_reading import Topics, names, of_type, one, published, sdk_settings

from jobtrail import events
from jobtrail.errors import SettingError
from jobtrail.producers import tap as tap_module
from jobtrail.producers.protocol import Stream
from jobtrail.producers.publisher import Publisher
from jobtrail.producers.stopping import Stop
from jobtrail.producers.tap import BROKEN_PIPE, TapResult, tap
from jobtrail.settings import Settings

CONNECTION = "9924bcd0-99be-453d-ba47-c2c9766f7da5"
RECORD = b'{"type":"RECORD","record":{"stream":"users","data":{"id":1}}}\n'


@pytest.fixture
def settings(kafka: str, topics: Topics, tmp_path: Path) -> Settings:
    return sdk_settings(kafka, topics, tmp_path, stats_interval=0.2)


@pytest.fixture
def _untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any Kafka."""

    def refuse(_settings: Settings | None) -> Publisher:
        raise SettingError("JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS", "not set", "set it")

    monkeypatch.setattr(tap_module, "shared_publisher", refuse)
    monkeypatch.setattr(logging.getLogger("jobtrail"), "disabled", True)


def passed(chunks: list[bytes], **options: Any) -> tuple[bytes, TapResult]:
    """What comes out when the chunks are written one after the other."""
    (tap_in, feed), (drain, tap_out) = os.pipe(), os.pipe()
    came: list[bytes] = []

    def write() -> None:
        for chunk in chunks:
            os.write(feed, chunk)
        os.close(feed)

    def read() -> None:
        while chunk := os.read(drain, 1 << 20):
            came.append(chunk)

    threads = [threading.Thread(target=write), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    try:
        result = tap(connection_id=CONNECTION, stdin=tap_in, stdout=tap_out, **options)
    finally:
        os.close(tap_in)
        os.close(tap_out)
        for thread in threads:
            thread.join()
        os.close(drain)
    return b"".join(came), result


BYTES = st.lists(
    st.binary(max_size=200)
    | st.sampled_from(
        [
            RECORD,
            RECORD.replace(b"\n", b"\r\n"),
            b"\n",
            b'{"type":"RECORD"',
            b'{"type":"RECORD","record":null}\n',
            b'{"type":"STATE","state":{"type":"STREAM"}}\n',
            b'{"type":"TRACE","trace":{"type":"ERROR","error":7}}\n',
            b'{"type":"TRACE","trace":null}\n',
            b"[" * 5000 + b"\n",
            b'{"type":"RECORD","record":{"stream":"\xff\xfe","data":{}}}\n',
            b'{"type":"RECORD","record":{"stream":"\\ud800","data":{"a":"\\udfff"}}}\n',
            b'{"type":"LOG","log":{"message":"\\u0000"}}\n',
        ]
    ),
    max_size=12,
)


@pytest.mark.usefixtures("_untracked")
@given(chunks=BYTES, line_limit=st.integers(1, 300))
@hypothesis_settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_pass_unchanged(chunks: list[bytes], line_limit: int) -> None:
    came, result = passed(chunks, line_limit=line_limit)
    assert came == b"".join(chunks)
    assert result.exit_status == 0


NAMES = st.text(min_size=1, max_size=8)
MESSAGES = st.fixed_dictionaries(
    {
        "type": st.just("RECORD"),
        "record": st.fixed_dictionaries(
            {
                "stream": NAMES,
                "data": st.dictionaries(NAMES, st.text() | st.integers() | st.booleans() | st.none()),
            },
            optional={"namespace": st.none() | st.text(max_size=4), "emitted_at": st.integers(0, 2**40)},
        ),
    }
)


@pytest.mark.usefixtures("_untracked")
@given(messages=st.lists(MESSAGES, max_size=20), ascii_only=st.booleans(), data=st.data())
@hypothesis_settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_counts_are_those_of_plain_json_whatever_the_chunks(
    messages: list[dict[str, Any]], ascii_only: bool, data: st.DataObject
) -> None:
    text = b"".join(
        json.dumps(message, ensure_ascii=ascii_only).encode("utf-8", "replace") + b"\n"
        for message in messages
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    came, result = passed(chunks)
    records: Counter[Stream] = Counter()
    sizes: Counter[Stream] = Counter()
    for line in text.splitlines(keepends=False) if b"\x85" not in text else text.split(b"\n"):
        if not line:
            continue
        record = json.loads(line)["record"]
        stream = Stream(record["stream"], record.get("namespace") or None)
        records[stream] += 1
        sizes[stream] += len(json.dumps(record["data"], ensure_ascii=ascii_only).encode("utf-8", "replace"))
    assert came == text
    assert {stream: counts.records for stream, counts in result.streams.items()} == records
    assert {stream: counts.bytes for stream, counts in result.streams.items()} == sizes
    assert result.malformed == 0


def test_a_pipe_is_a_job(settings: Settings) -> None:
    with Publisher(settings) as publisher:
        came, result = passed([RECORD * 1000, b"no message\n", RECORD[:-1]], publisher=publisher)
    assert came == RECORD * 1000 + b"no message\n" + RECORD[:-1]
    assert (result.outcome, result.exit_status, result.malformed) == ("succeeded", 0, 1)
    told = published(settings)
    assert names(told)[-1] == "AttemptSucceeded"
    stats = of_type(told, events.StreamStats)[-1]
    assert (stats.records_emitted, stats.bytes_emitted, stats.records_committed) == (1001, 8008, None)


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"TRACE","trace":{"type":"ERROR","emitted_at":1.6e12,"error":{"message":"no"}}}\n',
        b'{"type":"TRACE","trace":{"type":"STREAM_STATUS","stream_status":%s}}\n'
        % b'{"stream_descriptor":{"name":"users"},"status":"INCOMPLETE"}',
    ],
)
def test_a_source_that_says_it_failed_has_failed(settings: Settings, line: bytes) -> None:
    with Publisher(settings) as publisher:
        _, result = passed([RECORD, line], publisher=publisher)
    assert (result.outcome, result.exit_status) == ("failed", 0)
    assert one(published(settings), events.Failure).failure_origin == "source"
    assert of_type(published(settings), events.StreamStatus)[-1].run_state == "INCOMPLETE"


@pytest.mark.parametrize(
    ("left", "said", "why"),
    [
        ("0\n", b"", None),
        ("137\n", b"", "the source ended with exit status 137"),
        ("", b"", "the source ended with exit status unknown"),
        (None, b"", "the source left no exit status, so it was killed"),
        (
            "1\n",
            b'{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"no such table"}}}\n',
            "no such table",
        ),
    ],
)
def test_the_exit_status_of_the_source_decides_where_it_is_known(
    settings: Settings, tmp_path: Path, left: str | None, said: bytes, why: str | None
) -> None:
    """An input that ends is no success when the source was killed; what the source itself says goes first."""
    status = tmp_path / "exit-status"
    if left is not None:
        status.write_text(left)
    with Publisher(settings) as publisher:
        _, result = passed([RECORD, said], publisher=publisher, exit_status_file=status)
    assert (result.outcome, result.exit_status) == ("failed" if why else "succeeded", 0)
    failures = of_type(published(settings), events.Failure)
    assert len(failures) == (why is not None)
    assert all(failure.failure_origin == "source" for failure in failures)
    assert why is None or why in str(failures[0].internal_message or failures[0].external_message)


def test_tracking_that_breaks_harms_nobody(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no more room")

    monkeypatch.setattr("jobtrail.producers.report.Report.update", broken)
    with Publisher(settings) as publisher, caplog.at_level(logging.WARNING, "jobtrail"):
        came, result = passed([RECORD * 10], publisher=publisher)
    assert (came, result.outcome, result.exit_status) == (RECORD * 10, "failed", 0)
    assert one(published(settings), events.Failure).failure_origin == "airbyte_platform"
    assert "tracked no more: no more room" in caplog.text


COMMAND = (
    "import sys\n"
    "from jobtrail.producers.tap import tap\n"
    "result = tap(connection_id='c')\n"
    "print(result.outcome, result.malformed, file=sys.stderr)\n"
    "sys.exit(result.exit_status)\n"
)


def start(settings: Settings) -> subprocess.Popen[bytes]:
    """The tap as a process of its own."""
    environment = {
        **os.environ,
        "JOBTRAIL_HOME": str(settings.home),
        "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers or "",
        "JOBTRAIL_EVENTS_TOPIC": settings.events_topic,
    }
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND], stdin=pipe, stdout=pipe, stderr=pipe, env=environment
    )


def test_a_reader_that_goes_away_ends_it(settings: Settings) -> None:
    with start(settings) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(RECORD)
        process.stdin.flush()
        assert process.stdout.readline() == RECORD
        process.stdout.close()
        try:
            for _ in range(200):
                process.stdin.write(RECORD * 100)
                process.stdin.flush()
                time.sleep(0.01)
        except BrokenPipeError:
            pass
        assert process.wait(20) == BROKEN_PIPE
    failure = one(published(settings), events.Failure)
    assert failure.failure_origin == "destination"


@pytest.mark.parametrize("blocked", [False, True])
def test_a_signal_cancels_also_while_the_reader_stands_still(settings: Settings, blocked: bool) -> None:
    with start(settings) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(RECORD)
        process.stdin.flush()
        assert process.stdout.readline() == RECORD
        if blocked:
            os.set_blocking(process.stdin.fileno(), False)
            for _ in range(20):
                try:
                    os.write(process.stdin.fileno(), RECORD * 500)
                except BlockingIOError:
                    time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    assert names(published(settings))[-1] == "Cancelled"


@pytest.mark.usefixtures("_untracked")
def test_it_can_be_stopped_from_another_thread() -> None:
    stop = Stop()
    (tap_in, feed), (drain, tap_out) = os.pipe(), os.pipe()
    threading.Timer(0.3, stop.ask).start()
    result = tap(connection_id=CONNECTION, stdin=tap_in, stdout=tap_out, stop=stop)
    assert (result.outcome, result.exit_status) == ("cancelled", 130)
    for descriptor in (tap_in, feed, drain, tap_out):
        os.close(descriptor)
