"""The contract: event classes, their released schemas, and the bytes on the wire."""

from __future__ import annotations

import contextlib
import itertools
import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from samples import filled, one_of_each

from jobtrail import codec, schemas
from jobtrail import events as e
from jobtrail.errors import BadMessageError
from jobtrail.wire import header_of

RELEASED = sorted(schemas.SCHEMAS.glob("*.avsc"))
FORBIDDEN = {"int", "float", "bytes", "enum", "map", "fixed"}


def test_schema_files_are_those_of_the_classes() -> None:
    """`make schemas` was run after the last change."""
    assert schemas.stale_schemas(schemas.SCHEMAS) == []
    newest = {schemas.schema_file(event_type) for event_type in e.EVENT_TYPES}
    assert newest <= {path.name for path in RELEASED}


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.name)
def test_no_released_schema_uses_a_type_that_bulk_decoders_mistreat(path: Path) -> None:
    def types(schema: Any) -> set[str]:
        match schema:
            case str():
                return {schema}
            case list():
                return set().union(*map(types, schema))
            case {"type": "record", "fields": fields}:
                return set().union(*(types(field["type"]) for field in fields))
            case {"type": "array", "items": items}:
                return types(items)
            case {"type": inner}:
                return types(inner)
        raise AssertionError(schema)

    assert not types(json.loads(path.read_text())) & FORBIDDEN


@pytest.mark.parametrize("event_type", e.EVENT_TYPES, ids=lambda t: t.__name__)
def test_every_version_only_adds_fields_with_defaults(event_type: type[e.Event]) -> None:
    """Each released version reads with every later one, and no version up to the newest is missing."""
    versions = []
    for number in range(1, event_type.version + 1):
        path = schemas.SCHEMAS / f"{event_type.__name__}.v{number}.avsc"
        versions.append(json.loads(path.read_text()))
    for older, newer in itertools.pairwise(versions):
        assert added_only(older, newer)


def added_only(older: dict[str, Any], newer: dict[str, Any]) -> bool:
    """Whether `newer` begins with the fields of `older`, unchanged, and adds fields with defaults."""

    def facts(field: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in field.items() if key != "doc"}

    kept = [facts(field) for field in newer["fields"][: len(older["fields"])]]
    added = newer["fields"][len(older["fields"]) :]
    # Bodies leave nulls and empty lists out: with another default, an old event would get a new body.
    return kept == [facts(field) for field in older["fields"]] and all(
        "default" in field and field["default"] in (None, []) for field in added
    )


def test_the_rule_of_versions_refuses_what_would_break_a_reader() -> None:
    older = schemas.avro_schema(e.AttemptHeartbeat)
    extra = {"name": "note", "type": ["null", "string"], "default": None}
    assert added_only(older, {**older, "fields": [*older["fields"], extra]})
    assert not added_only(older, {**older, "fields": [*older["fields"], {"name": "note", "type": "string"}]})
    flag = {"name": "note", "type": "boolean", "default": False}
    assert not added_only(older, {**older, "fields": [*older["fields"], flag]})
    assert not added_only(older, {**older, "fields": older["fields"][1:]})
    assert not added_only(older, {**older, "fields": [{**older["fields"][0], "type": "long"}]})


@pytest.mark.parametrize("event", one_of_each(), ids=lambda event: type(event).__name__)
def test_an_event_comes_back_as_it_was(event: e.Event) -> None:
    message = codec.encode(event)
    assert message[:2] == b"\xc3\x01"
    assert codec.decode(message) == event


def test_an_older_version_is_read_in_the_newest_shape() -> None:
    """Upcasting fills the fields that the older version lacks; here today's version is the second."""
    today = schemas.avro_schema(e.AttemptStarted)
    first = {**today, "fields": [f for f in today["fields"] if f["name"] != "dataplane"]}
    both = codec.Schemas(
        {"AttemptStarted.v1.avsc": json.dumps(first), "AttemptStarted.v2.avsc": json.dumps(today)}
    )
    event = filled(e.AttemptStarted)
    older = header_of(first) + _body(first, event)
    assert both.decode(older) == event.model_copy(update={"dataplane": None})
    assert both.encode(event)[:10] == header_of(today)
    assert both.decode(both.encode(event)) == event


def _body(schema: dict[str, Any], event: e.Event) -> bytes:
    import io

    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), event.model_dump())
    return out.getvalue()


def test_confluent_framing_is_read_where_the_id_resolves() -> None:
    event = filled(e.StreamStats)
    framed = b"\x00" + (7).to_bytes(4, "big") + codec.encode(event)[10:]
    text = schemas.rendered(e.StreamStats)
    assert codec.decode(framed, {7: text}.__getitem__) == event
    with pytest.raises(BadMessageError, match="schema id 7, and no schema registry is set"):
        codec.decode(framed)
    with pytest.raises(BadMessageError, match="the registry's schema 7 is no released schema"):
        codec.decode(framed, lambda _: '{"type": "record", "name": "Other", "fields": []}')


GOOD = codec.encode(
    e.StreamStats(job_id=1, attempt_number=0, stream_name="users", reporter="source", sequence=1)
)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (None, "null_value"),
        (b"", "unknown_schema"),
        (b"{}", "unknown_schema"),
        (b"\xc3\x01" + bytes(8) + GOOD[10:], "unknown_schema"),
        (GOOD[:-1], "truncated"),
        (GOOD[:10], "truncated"),
        (GOOD + b"\0", "trailing_bytes"),
        (GOOD.replace(b"users", b"\xff\xfe\xfd\xfc\xfb"), "invalid_utf8"),
        (GOOD.replace(b"users", b"us\0rs"), "nul_in_text"),
        (GOOD.replace(b"\nusers", b"\x90\x4e" + b"x" * 5000), "too_long"),
    ],  # Ids of events are new in each process; names of tests must not be.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_event_is_refused_with_a_reason(message: bytes | None, reason: str) -> None:
    with pytest.raises(BadMessageError) as caught:
        codec.decode(message)
    assert caught.value.reason == reason


@given(st.binary(max_size=200))
def test_no_bytes_after_a_known_header_do_more_than_be_refused(body: bytes) -> None:
    with contextlib.suppress(BadMessageError):
        codec.decode(GOOD[:10] + body)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attempt_number", -1),
        ("attempt_number", 1024),
        ("job_id", -1),
        ("job_id", 2**53),
        ("sequence", 2**63),
        ("stream_name", "n\0"),
        ("stream_name", "é" * 513),
        ("event_id", "0190C7A0-0000-7000-8000-000000000000"),
        ("occurred_at", datetime(1999, 12, 31, tzinfo=UTC)),
        ("occurred_at", datetime(2200, 1, 1, tzinfo=UTC)),
        ("occurred_at", datetime(2026, 1, 1)),  # noqa: DTZ001  # naive on purpose
    ],
)
def test_a_class_refuses_what_a_table_cannot_hold(field: str, value: object) -> None:
    values = {"job_id": 1, "attempt_number": 0, "stream_name": "s", "reporter": "source", "sequence": 1}
    with pytest.raises(ValidationError) as caught:
        e.StreamStats.model_validate({**values, field: value})
    assert caught.value.errors()[0]["loc"] == (field,)


@pytest.mark.parametrize(
    "text", ["[]", "1", "", "{", '{"a": "\\u0000"}', '{"a": 1e999}', '{"a": "\\ud800"}', "[" * 100_000]
)
def test_metadata_is_a_json_object_that_postgres_takes(text: str) -> None:
    with pytest.raises(ValidationError):
        e.Failure(job_id=1, attempt_number=0, metadata=text)


@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ('{"a":[', "]}")])
def test_metadata_nests_no_deeper_than_its_readers_follow(opening: str, closing: str) -> None:
    """64 levels, the object itself being the first; wide is not deep."""
    levels = 64 // len(closing)
    deepest = opening * levels + "1" + closing * levels
    deeper = f'{{"a":{deepest}}}'
    wide = json.dumps({"a": [[{}] for _ in range(1000)]})
    for text in (deepest, wide):
        assert e.Failure(job_id=1, attempt_number=0, metadata=text).metadata == text
    with pytest.raises(ValidationError, match=r"deeper than 64 levels.*bad_json"):
        e.Failure(job_id=1, attempt_number=0, metadata=deeper)


def test_unknown_values_of_an_enum_are_kept() -> None:
    failure = e.Failure(job_id=1, attempt_number=0, failure_origin="moon")
    decoded = codec.decode(codec.encode(failure))
    assert isinstance(decoded, e.Failure)
    assert decoded.failure_origin == "moon"


def test_two_who_decide_the_same_publish_the_same_id() -> None:
    first, again = e.decision_id("timeout", 7, 0, 123), e.decision_id("timeout", 7, 0, 123)
    assert first == again != e.decision_id("timeout", 7, 0, 124)
    assert uuid.UUID(first).version == 8
    assert uuid.UUID(first).variant == uuid.RFC_4122


@given(st.integers(0, 2**53 - 1), st.integers(0, 1023), st.integers(0, 2**53 - 1), st.integers(0, 1023))
def test_attempt_ids_are_unique_over_all_jobs(job: int, number: int, other: int, other_number: int) -> None:
    same = (job, number) == (other, other_number)
    assert (e.attempt_id(job, number) == e.attempt_id(other, other_number)) == same
    assert e.attempt_id(job, number) < 2**63


@given(st.datetimes(datetime(2000, 1, 1), datetime(2199, 12, 31)))  # noqa: DTZ001  # made aware below
def test_instants_keep_their_microseconds(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC) + timedelta(0)
    event = e.JobFailed(job_id=1, occurred_at=aware)
    assert codec.decode(codec.encode(event)).occurred_at == aware
