"""Every factory of failure reasons, and any text that an error may hold."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtrail import codec, events, failures
from jobtrail.errors import UsageError
from jobtrail.producers.failure_reason import FailureReason, reason
from jobtrail.producers.safe_text import safe, safe_json, safe_name
from jobtrail.producers.scrub import MESSAGE_LIMIT, STACKTRACE_LIMIT


def fail(error: Exception) -> None:
    raise error


def raised() -> ValueError:
    """An error with a cause, which has a context."""
    try:
        try:
            try:
                fail(KeyError("root"))
            except KeyError:
                fail(OSError("disk"))
        except OSError as error:
            raise ValueError("bad row") from error
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("factory", "origin", "external"),
    [
        (failures.source, "source", "Something went wrong within the source connector"),
        (failures.destination, "destination", "Something went wrong within the destination connector"),
        (failures.replication, "replication", "Something went wrong during replication"),
        (failures.persistence, "persistence", "Something went wrong during state persistence"),
        (failures.normalization, "normalization", "Something went wrong during normalization"),
        (failures.dbt, "dbt", "Something went wrong during dbt"),
        (failures.unknown_origin, "unknown", "An unknown failure occurred"),
        (
            failures.platform,
            "airbyte_platform",
            "Something went wrong within the platform that runs the sync",
        ),
    ],
)
def test_origins(factory: Callable[[Exception], FailureReason], origin: str, external: str) -> None:
    """Each has its origin, its wording for users, and the whole chain of causes for operators."""
    failure = factory(raised()).event(job_id=7, attempt_number=2)
    assert (failure.failure_origin, failure.external_message) == (origin, external)
    assert (failure.failure_type, failure.retryable, failure.from_trace_message) == (
        "system_error",
        None,
        None,
    )
    assert failure.internal_message == "ValueError: bad row (caused by OSError: disk; KeyError: 'root')"
    trace = failure.stacktrace or ""
    assert [part in trace for part in ("KeyError: 'root'", "OSError: disk", "ValueError: bad row")] == [
        True
    ] * 3
    assert trace.index("root") < trace.index("disk") < trace.index("bad row")
    assert json.loads(failure.metadata or "") == {"jobId": 7, "attemptNumber": 2}
    assert codec.decode(codec.encode(failure)) == failure


def test_what_a_caller_may_add() -> None:
    said = failures.destination(
        "table is locked",
        failure_type="transient_error",
        external_message="Please wait",
        stream=events.StreamDescriptor(name="users", namespace="public"),
        metadata={"table": "users", "jobId": "not theirs to say"},
    )
    failure = said.event(1, 0)
    assert (failure.internal_message, failure.stacktrace) == ("table is locked", None)
    assert (failure.failure_type, failure.retryable) == ("transient_error", True)
    assert (failure.stream_namespace, failure.stream_name) == ("public", "users")
    assert json.loads(failure.metadata or "") == {"table": "users", "jobId": 1, "attemptNumber": 0}
    assert failures.source("x", failure_type="config_error").retryable is False
    assert failures.source("x", failure_type="config_error", retryable=True).retryable is True
    with pytest.raises(UsageError, match=r"Failure\.attempt_number: 1024"):
        said.event(1, 1024)


def test_check() -> None:
    """A failed check is a matter of configuration: another attempt would fail alike."""
    failed = failures.check("no such host", events.FailureOrigin.DESTINATION)
    assert (failed.origin, failed.failure_type, failed.retryable) == ("destination", "config_error", False)
    assert "check of the destination connection failed" in (failed.external_message or "")


def test_timeouts() -> None:
    silence, limit = timedelta(minutes=95), timedelta(minutes=90)
    source = failures.source_heartbeat(silence, limit)
    destination = failures.destination_timeout(silence, limit, retryable=True)
    assert (source.origin, source.failure_type, source.retryable) == ("source", "heartbeat_timeout", None)
    assert (destination.origin, destination.failure_type, destination.retryable) == (
        "destination", "destination_timeout", True
    )  # fmt: skip
    for failed in (source, destination):
        assert "1:35:00" in (failed.external_message or "")
        assert "1:30:00" in (failed.internal_message or "")


TRACE = {
    "type": "TRACE",
    "trace": {
        "type": "ERROR",
        "emitted_at": 1_700_000_000_123.0,
        "error": {
            "message": "The API key has expired",
            "internal_message": "401",
            "stack_trace": "Traceback …",
            "failure_type": "config_error",
            "stream_descriptor": {"name": "users", "namespace": "public"},
        },
    },
}


def test_a_trace_message() -> None:
    """Whole, without its envelope, or the error alone."""
    failed = failures.trace(TRACE, events.FailureOrigin.DESTINATION)
    assert failed.occurred_at == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)
    failure = failed.event(1, 0)
    assert failure.model_dump(exclude={"event_id", "occurred_at", "metadata"}) == {
        "job_id": 1, "attempt_number": 0, "stream_namespace": "public", "stream_name": "users",
        "failure_origin": "destination", "failure_type": "config_error", "internal_message": "401",
        "external_message": "The API key has expired", "stacktrace": "Traceback …", "retryable": False,
        "from_trace_message": True,
    }  # fmt: skip
    body: Any = TRACE["trace"]
    assert failures.trace(body).event(1, 0).internal_message == "401"
    assert failures.trace(body["error"]).event(1, 0).internal_message == "401"


@pytest.mark.parametrize(
    ("said", "kept", "retryable"),
    [
        ("config_error", "config_error", False),
        ("transient_error", "transient_error", True),
        ("transient", "transient_error", True),
        ("system_error", "system_error", None),
        (None, "system_error", None),
        ("brand_new_error", "brand_new_error", None),
        (5, "system_error", None),
    ],
)
def test_failure_types_of_traces(said: object, kept: str, retryable: bool | None) -> None:
    failed = failures.trace({"error": {"message": "m", "failure_type": said}})
    assert (failed.failure_type, failed.retryable) == (kept, retryable)


@given(
    st.dictionaries(
        st.sampled_from(
            ["type", "trace", "error", "emitted_at", "message", "failure_type", "stream_descriptor"]
        ),
        st.recursive(
            st.none() | st.text() | st.floats() | st.integers(),
            lambda inner: st.dictionaries(st.sampled_from(["error", "emitted_at", "name", "message"]), inner),
        ),
    )
)
def test_any_trace_message_becomes_a_failure(message: dict[str, Any]) -> None:
    """Connectors send what they like."""
    failure = failures.trace(message).event(1, 0)
    assert codec.decode(codec.encode(failure)) == failure


@pytest.mark.parametrize(
    ("workflow", "activity", "origin"),
    [
        ("sync", "replicate", "replication"),
        ("SyncWorkflow", "Replicate", "replication"),
        ("SyncWorkflowImpl", "ReplicationActivity", "replication"),
        ("sync", "persist", "persistence"),
        ("sync", "normalize", "normalization"),
        ("sync", "Normalize", "normalization"),
        ("sync", "dbt run", "dbt"),
        ("SyncWorkflow", "Run", "dbt"),
        ("sync", "something", "unknown"),
        ("check", "replicate", "unknown"),
        ("", "", "unknown"),
    ],
)
def test_workflow_and_activity(workflow: str, activity: str, origin: str) -> None:
    failed = failures.from_workflow_and_activity(workflow, activity, raised(), retryable=True)
    assert failed.origin == origin
    assert failed.external_message == failures.EXTERNAL_MESSAGES[events.FailureOrigin(origin)]
    assert "KeyError" in (failed.stacktrace or "")


def test_names_of_2022_are_translated_and_unknown_ones_kept() -> None:
    old = reason("replicationWorker", failure_type="transient")
    assert (old.origin, old.failure_type, old.retryable) == ("replication", "transient_error", True)
    assert reason("source", failure_type="userError").failure_type == "config_error"
    assert reason("source", failure_type="systemError").failure_type == "system_error"
    assert reason("source", failure_type="transient", retryable=False).retryable is False
    new = reason("brand_new", failure_type="newer", internal_message="m")
    assert (new.origin, new.failure_type, new.retryable) == ("brand_new", "newer", None)
    assert reason(None, failure_type="manual_cancellation").event(1, 0).failure_origin is None


def test_members_of_groups_and_suppressed_contexts() -> None:
    """Each member of a group is told, with its own causes; what was suppressed on purpose is not."""
    group = ExceptionGroup("two", [raised(), ExceptionGroup("inner", [TypeError("t")])])
    failed = failures.replication(group)
    for part in ("bad row", "disk", "root", "TypeError: t"):
        assert part in (failed.internal_message or "")
        assert part in (failed.stacktrace or "")
    try:
        try:
            fail(KeyError("hidden"))
        except KeyError:
            raise ValueError("seen") from None
    except ValueError as error:
        failed = failures.source(error)
    assert "hidden" not in (failed.internal_message or "") + (failed.stacktrace or "")


def test_errors_that_are_errors_themselves() -> None:
    """A broken __str__, a chain that bites its tail, and one of ten thousand links."""

    class Broken(Exception):  # noqa: N818  # a fitting name
        def __str__(self) -> str:
            raise RuntimeError

    assert "its text cannot be read" in (failures.source(Broken()).internal_message or "")
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert failures.source(first).internal_message == "ValueError: first (caused by ValueError: second)"
    error: Exception = ValueError(0)
    for number in range(10_000):
        error, cause = ValueError(number), error
        error.__cause__ = cause
    failed = failures.source(error)
    assert "9,950 more" in (failed.internal_message or "")
    assert len(failed.stacktrace or "") <= STACKTRACE_LIMIT


def test_long_texts_keep_head_and_tail() -> None:
    failed = failures.source(ValueError("head" + "x" * 300_000 + "tail"))
    for text, limit in ((failed.internal_message, MESSAGE_LIMIT), (failed.stacktrace, STACKTRACE_LIMIT)):
        assert text is not None
        assert len(text) == limit
        assert "characters" in text
        assert text.rstrip().endswith("tail")
    assert (failed.internal_message or "").startswith("ValueError: headx")
    assert safe("abc", 3) == "abc"


#: Any str at all: NUL, lone surrogates and all.
ANY_TEXT = st.text(
    st.characters(codec=None, categories=None) | st.sampled_from("\0\ud800\udfff\\u"), max_size=50
)


def readable(char: str) -> str:
    if char == "\0" or "\ud800" <= char <= "\udfff":
        return "\ufffd"
    turns = char in "\u061c\u200e\u200f" or unicodedata.bidirectional(char) in TURNING
    moves = unicodedata.category(char) == "Cc" or turns
    return char.encode("unicode_escape").decode() if moves and char not in "\n\t" else char


#: Classes of Unicode's bidirectional algorithm that change how text around them runs.
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@given(ANY_TEXT, ANY_TEXT, st.dictionaries(ANY_TEXT, ANY_TEXT | st.floats() | st.integers(), max_size=3))
def test_any_text_becomes_a_valid_failure(text: str, name: str, facts: dict[str, Any]) -> None:
    """What was fine stays as it was; control characters are shown."""
    failed = failures.source(ValueError(text), external_message=text, stream=name, metadata=facts)
    failure = failed.event(1, 0)
    assert codec.decode(codec.encode(failure)) == failure
    clean = "".join(map(readable, text.replace("\r\n", "\n")))
    assert failure.external_message == clean
    assert failure.stream_name == safe(name)


@given(st.text(st.sampled_from("aü\U0001f600\0\ud800"), max_size=3_000))
def test_any_name_fits_an_index(text: str) -> None:
    assert len(safe_name(text).encode()) <= 1024


def test_metadata_of_any_kind() -> None:
    """What JSON does not know is written as text; what is too much is replaced by its size."""
    odd = {"at": timedelta(1), 3: {1}, "big": 2**70, "nan": float("nan"), "list": [None, True, 1.5, b"x"]}
    assert json.loads(safe_json(odd, 1_000)) == {  # type: ignore[arg-type]  # keys of any type are the point
        "at": "1 day, 0:00:00", "3": [1], "big": str(2**70), "nan": "nan", "list": [None, True, 1.5, "b'x'"],
    }  # fmt: skip
    assert json.loads(safe_json({"a": "x" * 1_000}, 100)) == {"leftOut": "1,008 characters"}
    endless: dict[str, Any] = {}
    endless["self"] = endless
    assert json.loads(safe_json(endless, 100)) == {"leftOut": "nested too deeply"}
