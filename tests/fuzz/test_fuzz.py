"""Whatever comes in: codec, bulk decoder, tap and settings take it or refuse it, and never break."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from bodies import BrokenPromiseError, Fuzzer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wire import encoded, messages, newest

from jobtrail import codec, strict
from jobtrail.errors import BadMessageError, SettingError
from jobtrail.events import Event
from jobtrail.producers import protocol
from jobtrail.producers.lines import Lines
from jobtrail.producers.scrub import shapes
from jobtrail.producers.secret_fields import secrets_of
from jobtrail.producers.tally import Tally
from jobtrail.producers.tap import tap
from jobtrail.settings import PREFIX, Settings


def test_twenty_thousand_damaged_messages_break_no_promise() -> None:
    """The million is `make fuzz`."""
    counts = Fuzzer(seed=20_260_101).run(20_000)
    assert counts.bodies == 20_000
    assert counts.accepted > 2_000
    assert {
        "truncated",
        "trailing_bytes",
        "malformed",
        "unknown_schema",
        "invalid_utf8",
    } <= counts.refused.keys()


def test_the_fuzzer_finds_a_decoder_that_reads_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that reads a number as the next is caught."""
    true = strict.read_strictly

    def wrong(wire: Any, framed: bytes) -> dict[str, Any]:
        row = true(wire, framed)
        return {**row, "occurred_at": row["occurred_at"] ^ 1}

    monkeypatch.setattr("jobtrail.consumers.decode.read_strictly", wrong)
    with pytest.raises(BrokenPromiseError, match="the message: c301"):
        Fuzzer(seed=1).run(2_000)


@settings(deadline=None, max_examples=300)
@given(
    st.binary(max_size=200)
    | st.sampled_from(sorted(codec.released().by_header)).flatmap(
        lambda header: st.binary(max_size=200).map(lambda body: header + body)
    )
)
@example(b"")
@example(b"\xc3\x01")
def test_any_bytes_are_an_event_or_a_bad_message(value: bytes) -> None:
    """An event is what it was when it is encoded and read again."""
    try:
        event = codec.decode(value)
    except BadMessageError as error:
        assert error.reason
        assert error.detail
        return
    assert codec.decode(codec.encode(event)) == event


@settings(deadline=None, max_examples=300)
@given(messages())
def test_what_the_codec_takes_it_gives_back(message: tuple[type[Event], dict[str, Any]]) -> None:
    event_type, row = message
    value = encoded(newest(event_type), row)
    try:
        event = codec.decode(value)
    except BadMessageError:
        return
    assert codec.encode(event) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
_SAID = """type RECORD STATE TRACE LOG CONTROL record state trace log control stream error data name namespace
    stream_descriptor ERROR ESTIMATE STREAM_STATUS status emitted_at sourceStats recordCount global
    shared_state connectorConfig config message"""
WORDS = st.sampled_from(_SAID.split())


def like_a_message(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(WORDS, WORDS | inner, max_size=5)


MESSAGES = st.recursive(JSON | WORDS, like_a_message, max_leaves=12)
LINES = st.one_of(
    st.binary(max_size=60),
    MESSAGES.map(lambda message: json.dumps(message).encode()),
    MESSAGES.map(lambda message: json.dumps(message).encode()[:-1]),
    st.sampled_from(
        [b'{"type":"RECORD","record":{"stream":"\\ud800","data":{"a":NaN}}}', b"[" * 5000, b"{" * 5000]
    ),
    st.sampled_from(
        [b'{"type":"RECORD","record":{"stream":"users","data":{"a":1}}}', b"", b"\r", b"\x00\xff"]
    ),
)


@settings(deadline=None, max_examples=400)
@given(st.lists(LINES, max_size=10), st.integers(1, 50))
def test_lines_of_any_bytes_are_counted_or_said_to_be_none(lines: list[bytes], size: int) -> None:
    """However they are cut into chunks; nothing of them is lost."""
    stream = b"\n".join(lines)
    split, tally, seen = Lines(limit=200), Tally(with_destination=True), b""
    for at in range(0, len(stream), size):
        before, complete, after = split.feed(stream[at : at + size])
        seen += before + b"".join(line + b"\n" for line in complete) + after
        for rest in [*tally.source(complete), *tally.destination(complete)]:
            take(rest.message)
    seen += split.finish()
    assert seen == stream
    assert all(counts.records >= 0 and counts.bytes >= 0 for counts in tally.snapshot().values())


def take(message: protocol.Message | None) -> None:
    """What the report makes of a message that is neither record nor state."""
    if message is not None:
        protocol.trace_of(message)
        protocol.log_of(message)
        protocol.state_of(message)
        if (config := protocol.new_config(message)) is not None:
            assert list(secrets_of(config)) is not None


@settings(deadline=None, max_examples=30)
@given(st.lists(LINES, max_size=10))
def test_the_tap_passes_any_bytes_unchanged(lines: list[bytes]) -> None:
    """Also where no Kafka is to be had: the pipe goes on."""
    stream = b"\n".join(lines)
    (source, entry), (leaving, sink) = os.pipe(), os.pipe()
    got = bytearray()

    def read() -> None:
        while part := os.read(leaving, 65_536):
            got.extend(part)

    reader = threading.Thread(target=read)
    reader.start()

    def write() -> None:
        with os.fdopen(entry, "wb") as pipe:
            pipe.write(stream)

    writer = threading.Thread(target=write)
    writer.start()
    nowhere = Settings(home=Path("/nonexistent"), spool="off")
    result = tap(connection_id="c", settings=nowhere, stdin=source, stdout=sink, line_limit=1000)
    os.close(sink)
    writer.join(30)
    reader.join(30)
    for end in (source, leaving):
        os.close(end)
    assert bytes(got) == stream
    assert (result.exit_status, result.job_id) == (0, None)


VARIABLES = st.sampled_from(Settings.variables()) | st.text(
    alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789", max_size=20
).map(lambda name: PREFIX + name)
VALUES = st.text(max_size=20) | st.sampled_from(
    [
        "0",
        "-1",
        "1e309",
        "nan",
        "1_000",
        " 7 ",
        "99999999999999999999",
        "true",
        "127.0.0.1",
        "tcp://x",
        "[]",
        "\u0663",
    ]
)


@settings(deadline=None, max_examples=500)
@given(st.dictionaries(VARIABLES, VALUES, max_size=4))
def test_any_environment_is_settings_or_one_clear_error(environ: dict[str, str]) -> None:
    try:
        found = Settings.from_env(environ)
    except SettingError as error:
        assert error.variable in {*environ}
        assert str(error).startswith(f"{error.variable}: ")
        assert "\n" not in str(error).replace(environ[error.variable], "")
        return
    assert Settings.model_validate(found.model_dump()) == found


@settings(deadline=None, max_examples=200)
@given(JSON, MESSAGES)
def test_any_configuration_and_spec_can_be_looked_through(config: Any, spec: Any) -> None:
    if isinstance(config, dict):
        found = [*secrets_of(config, spec if isinstance(spec, dict) else {"properties": config})]
        assert all(isinstance(part, str) for one in found for part in one)


@settings(deadline=None, max_examples=300)
@given(JSON)
def test_scrubbed_json_is_json_of_the_same_shape(value: Any) -> None:
    text = json.dumps(value)
    scrubbed = json.loads(shapes.json_text(text))
    assert type(scrubbed) is type(value)
    if not isinstance(value, str | dict | list):
        assert shapes.json_text(text) == text


def test_a_line_of_16_megabytes_is_never_held() -> None:
    """A connector that prints without a line feed fills no memory."""
    split, passed = Lines(limit=1_000), io.BytesIO()
    for _ in range(1_000):
        before, complete, after = split.feed(b"x" * 16_000)
        passed.write(before + after)
        assert not complete
        assert sys.getsizeof(b"".join(split._held)) < 20_000
    assert passed.tell() + len(split.finish()) == 16_000_000
    assert split.oversized == 1
