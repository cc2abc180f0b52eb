"""Any bytes are a message or none; a message is what plain JSON says it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtrail.events import RunState
from jobtrail.producers import protocol
from jobtrail.producers.protocol import Stream, decode, log_of, state_of, trace_of

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
#: Nearly messages: the protocol's names with any values.
NEARLY = st.fixed_dictionaries(
    {"type": st.sampled_from(["RECORD", "STATE", "TRACE", "LOG", "SPEC"]) | JSON},
    optional={
        name: JSON
        | st.fixed_dictionaries(
            {},
            optional={
                "type": st.sampled_from(["STREAM", "GLOBAL", "LEGACY", "ERROR", "ESTIMATE", "STREAM_STATUS"]),
                "stream": JSON | st.fixed_dictionaries({"stream_descriptor": JSON, "stream_state": JSON}),
                "global": JSON | st.fixed_dictionaries({"stream_states": JSON}),
                "data": JSON,
                "error": JSON,
                "estimate": JSON,
                "stream_status": JSON,
                "emitted_at": JSON,
                "sourceStats": JSON,
            },
        )
        for name in ("record", "state", "trace", "log")
    },
)


@given(st.binary(max_size=300) | NEARLY.map(lambda message: json.dumps(message).encode()))
def test_nothing_raises(line: bytes) -> None:
    message = decode(line)
    if message is not None:
        state_of(message)
        trace_of(message)
        log_of(message)


def trace(**body: Any) -> protocol.Trace | None:
    message = decode(json.dumps({"type": "TRACE", "trace": body}).encode())
    assert message is not None
    return trace_of(message)


@pytest.mark.parametrize(
    ("status", "reasons", "state"),
    [
        ("STARTED", None, RunState.PENDING),
        ("RUNNING", None, RunState.RUNNING),
        ("COMPLETE", [], RunState.COMPLETE),
        ("INCOMPLETE", None, RunState.INCOMPLETE),
        (
            "RUNNING",
            [{"type": "RATE_LIMITED", "rate_limited": {"quota_reset": 1.7e12}}],
            RunState.RATE_LIMITED,
        ),
        ("NEWER", None, None),
    ],
)
def test_run_states(status: str, reasons: Any, state: RunState | None) -> None:
    body = {"stream_descriptor": {"name": "users", "namespace": ""}, "status": status, "reasons": reasons}
    found = trace(type="STREAM_STATUS", stream_status=body)
    assert found is not None
    assert found.stream_status is not None
    assert found.stream_status.stream_descriptor.stream == Stream("users")
    assert found.stream_status.run_state == state
    reset = found.stream_status.quota_reset_at
    assert reset == (datetime.fromtimestamp(1.7e9, UTC) if state == RunState.RATE_LIMITED else None)


def test_a_record_with_half_a_surrogate_pair_keeps_its_length() -> None:
    """The JSON grammar allows it, and sources print it."""
    data = rb'{"name":"\ud83d"}'
    message = decode(b'{"type":"RECORD","record":{"stream":"a\\udfff","data":%s}}' % data)
    assert message is not None
    assert message.record is not None
    assert len(memoryview(message.record.data)) == len(data)


def test_a_record_with_what_only_python_takes_for_numbers_keeps_its_length() -> None:
    data = json.dumps({"a": float("nan"), "b": [float("inf"), float("-inf")], "c": "NaN"}).encode()
    message = decode(b'{"type":"RECORD","record":{"stream":"NaN","data":%s}}' % data)
    assert message is not None
    assert message.record is not None
    assert (message.record.stream, len(memoryview(message.record.data))) == ("NaN", len(data))


@given(JSON, st.permutations(["a", "b", "c"]))
def test_a_state_is_the_same_in_any_spelling_and_with_any_statistics(value: Any, order: list[str]) -> None:
    said = {"a": value, "b": [1, 2], "c": "ü"}

    def digest(stream_state: Any, **more: Any) -> bytes:
        body = {"stream_descriptor": {"name": "users"}, "stream_state": stream_state}
        line = json.dumps({"type": "STATE", "state": {"type": "STREAM", "stream": body, **more}})
        message = decode(line.encode())
        assert message is not None
        state = state_of(message)
        assert state is not None
        return state.digest

    respelt = {name: said[name] for name in order}
    same = digest(respelt, destinationStats={"recordCount": 3.0})
    assert digest(said, sourceStats={"recordCount": 5}) == same
    assert digest({**said, "d": 1}) != same
