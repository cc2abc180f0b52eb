"""What is quick is what is slow: checks and bytes of events against pydantic's and fastavro's own."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from samples import SAMPLES, filled
from wire import GOOD_IDS, GOOD_TEXTS, NASTY_LONGS, NASTY_TEXTS

from jobtrail import codec, kinds
from jobtrail import events as e
from jobtrail.encoder import encoder
from jobtrail.errors import UsageError
from jobtrail.fields import field_kind, is_nullable, record_type
from jobtrail.kinds import Kind
from jobtrail.producers.facts import make
from jobtrail.quick_checks import quick_checks
from jobtrail.quick_events import speller
from jobtrail.wire import wire_schema

Facts = dict[str, Any]


def judged(event: e.Event) -> bytes:
    """The message as fastavro writes it, with logical types, after pydantic's own look at the event."""
    wire = codec.released().newest[type(event)]
    out = io.BytesIO(wire.header)
    out.seek(len(wire.header))
    fastavro.schemaless_writer(out, fastavro.parse_schema(wire.schema), event.model_dump())
    return out.getvalue()


def by_the_class(record: type[BaseModel], facts: Facts) -> BaseModel:
    """As pydantic makes it, without anything of ours."""
    made = record.__new__(record)
    BaseModel.__init__(made, **facts)
    return made


class _Number(IntEnum):
    SEVEN = 7


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ZONES = st.sampled_from(
    [UTC, timezone(timedelta(hours=-11, minutes=-30)), timezone(timedelta(hours=14, seconds=1))]
)
#: Fit, or nearly fit.
INSTANTS = st.one_of(
    st.datetimes(datetime(1999, 12, 29), datetime(2200, 1, 3), timezones=ZONES),  # noqa: DTZ001  # made aware
    st.sampled_from([kinds.EPOCH, datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)]),
    st.just(datetime(2026, 1, 1)),  # noqa: DTZ001  # naive on purpose
    st.integers(946_684_799_999_999, 7_258_118_400_000_000),
)
ANYTHING: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 1.0, b"users", _Number.SEVEN, e.Reporter.SOURCE, "7", "\ud800", [], {}, NOON.date()]
)
BY_AVRO: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "long": st.integers(0, 1023) | NASTY_LONGS,
    "string": GOOD_TEXTS | NASTY_TEXTS | st.sampled_from(["x" * 256, "é" * 256, "😀" * 256, "x" * 70_000]),
}


GOOD: dict[str, st.SearchStrategy[Any]] = {
    "event_id": GOOD_IDS,
    **{name: st.just(sample) for name, sample in SAMPLES.items()},
    "instant": st.datetimes(datetime(2000, 1, 2), datetime(2199, 12, 30), timezones=ZONES),  # noqa: DTZ001  # as above
    "count": st.integers(0, kinds.INT64_MAX),
    "change": st.integers(-kinds.INT64_MAX, kinds.INT64_MAX),
    "job_id": st.integers(0, 2**53 - 1),
}


def values_of(kind: Kind) -> st.SearchStrategy[Any]:
    if kind.name == "instant":
        return INSTANTS
    return (GOOD_IDS if kind.name == "event_id" else st.nothing()) | BY_AVRO[kind.avro]


@st.composite
def facts_of(draw: st.DrawFn, record: type[BaseModel], most_wrong: int) -> Facts:
    """What a caller may say: good values, at most so many others, and fields left out."""
    facts: Facts = {}
    wrong = draw(st.sets(st.sampled_from(sorted(record.model_fields)), max_size=most_wrong))
    for name, field in record.model_fields.items():
        if not field.is_required() and draw(st.booleans()):
            continue
        kind = field_kind(field)
        if item := record_type(field):
            facts[name] = [item(**draw(facts_of(item, 0))) for _ in range(draw(st.integers(0, 3)))]
        elif kind is not None and name not in wrong:
            good = GOOD[kind.name]
            facts[name] = draw(st.none() | good if is_nullable(field) else good)
        if name in wrong:
            facts[name] = draw((values_of(kind) if kind else st.nothing()) | ANYTHING)
    if most_wrong and draw(st.integers(0, 9)) == 0:
        facts["unknown"] = 1
    return facts


EVENT_TYPE = st.shared(st.sampled_from(e.EVENT_TYPES), key="event type")
FACTS = EVENT_TYPE.flatmap(lambda event_type: facts_of(event_type, 2))
GOOD_FACTS = EVENT_TYPE.flatmap(lambda event_type: facts_of(event_type, 0))


def outcome(build: Callable[[], BaseModel]) -> Any:
    """What came of it, to the type of each value; or the error as a person sees it."""
    try:
        made = build()
    except ValidationError as error:
        return error.errors(include_url=False)
    values = [(name, type(value), value) for name, value in made.__dict__.items()]
    return type(made), values, made.model_fields_set, made.model_extra


@given(event_type=EVENT_TYPE, facts=FACTS)
@settings(deadline=None)  # the first of a type makes its validators
def test_quick_checks_say_what_the_class_says(event_type: type[e.Event], facts: Facts) -> None:
    """The same event, or the same errors at the same places."""
    facts = {"event_id": e.new_event_id(), "occurred_at": NOON, **facts}
    expected = outcome(lambda: by_the_class(event_type, facts))
    assert outcome(lambda: event_type(**facts)) == expected
    if isinstance(expected, list):
        where, what = ".".join(map(str, expected[0]["loc"])), expected[0]["msg"]
        with pytest.raises(UsageError, match=re.escape(f"{event_type.__name__}.{where}: {what}; found ")):
            make(event_type, **facts)
    else:
        assert outcome(lambda: make(event_type, **facts)) == expected


EDGES: list[Any] = [
    *(edge + step for edge in (0, 1023, 2**53 - 1, 2**63 - 1, 2**64) for step in (-1, 0, 1)),
    *("x" * size for size in (0, 63, 64, 255, 256, 257, 1024, 1025)),
    *(letter * size for letter in "é😀" for size in (63, 64, 127, 128, 255, 256, 257, 512, 513)),
    *("\0", "a\0b", "\ud800", "{}", "[]", '{"a":"\\u0000"}', e.new_event_id(), e.new_event_id().upper()),
    *(
        datetime(year, 1, 1, tzinfo=zone) + timedelta(microseconds=step)
        for year in (1999, 2000, 2026, 2200)
        for zone in (UTC, timezone(timedelta(hours=14)), None)
        for step in (-1, 0)
    ),
    *(None, True, False, 1.0, b"users", _Number.SEVEN, e.Reporter.SOURCE, [], {}, NOON.date()),
]


@pytest.mark.parametrize("event_type", e.EVENT_TYPES, ids=lambda t: t.__name__)
def test_quick_checks_have_the_bounds_of_the_class(event_type: type[e.Event]) -> None:
    """Every edge in every field."""
    whole = filled(event_type).__dict__
    for name in event_type.model_fields:
        for value in EDGES:
            facts = {**whole, name: value}
            expected = outcome(lambda facts=facts: by_the_class(event_type, facts))  # type: ignore[misc]
            assert outcome(lambda facts=facts: event_type(**facts)) == expected, (name, value)  # type: ignore[misc]


def test_quick_checks_are_not_the_class_itself() -> None:
    """They know characters, the class knows bytes: so it is seen which of the two has looked."""
    facts: Facts = {"event_id": e.new_event_id(), "occurred_at": NOON, "dataplane_id": "x" * 257}
    by_the_class(e.DataplaneHeartbeat, facts)
    checks, made = quick_checks(e.DataplaneHeartbeat), e.DataplaneHeartbeat.__new__(e.DataplaneHeartbeat)
    with pytest.raises(ValidationError):
        checks.validate_python(facts, self_instance=made)
    checks.validate_python({**facts, "dataplane_id": "x" * 256}, self_instance=made)
    assert made == e.DataplaneHeartbeat(**{**facts, "dataplane_id": "x" * 256})


def test_instants_are_kept_as_they_were_given() -> None:
    zone = timezone(timedelta(hours=2))
    given_at = NOON.astimezone(zone)
    assert e.JobFailed(job_id=1, occurred_at=given_at).occurred_at is given_at
    assert make(e.JobFailed, job_id=1, occurred_at=given_at).occurred_at.tzinfo is zone


def test_messages_are_still_read_by_the_class() -> None:
    """The constructor is for callers: reading takes numbers for instants, and mappings for records."""
    created = filled(e.JobCreated)
    row = {**created.model_dump(), "occurred_at": kinds.micros(created.occurred_at)}
    assert codec.build(e.JobCreated, row) == created
    with pytest.raises(ValidationError, match="valid integer"):
        e.JobFailed.model_validate({"job_id": "7"})


@given(event_type=EVENT_TYPE, facts=GOOD_FACTS)
@settings(deadline=None)
def test_an_event_has_the_bytes_that_fastavro_gives_it(event_type: type[e.Event], facts: Facts) -> None:
    event = event_type(**facts)
    message = codec.encode(event)
    assert message == judged(event)
    assert codec.decode(message) == event


def spelled(event_type: type[e.Event], facts: Facts) -> e.Event | None:
    """What is spelled without an event, as one; None where that is left to the class."""
    try:
        value, key, event_id = speller(event_type)(**facts)
    except (TypeError, ValueError, OverflowError):
        return None
    event = codec.decode(value)
    assert (key, event_id.decode()) == (event.key, event.event_id)
    assert abs(event.occurred_at - e.utc_now()) < timedelta(minutes=1)
    return event


def as_the_class_makes_it(event: e.Event, facts: Facts) -> e.Event:
    """With the id and the time that it was given meanwhile."""
    made = by_the_class(type(event), {**facts, "event_id": event.event_id, "occurred_at": event.occurred_at})
    assert isinstance(made, e.Event)
    return made


@given(event_type=EVENT_TYPE, facts=FACTS)
@settings(deadline=None)
def test_what_is_spelled_without_an_event_is_the_event_that_the_class_makes(
    event_type: type[e.Event], facts: Facts
) -> None:
    event = spelled(event_type, facts)
    if event is not None:
        assert event == as_the_class_makes_it(event, facts)


@pytest.mark.parametrize("event_type", e.EVENT_TYPES, ids=lambda t: t.__name__)
def test_what_is_spelled_without_an_event_has_the_bounds_of_the_class(event_type: type[e.Event]) -> None:
    """Every edge in every field, twice: what was seen before is looked up."""
    whole = {name: value for name, value in filled(event_type).__dict__.items() if name not in MADE}
    for name in event_type.model_fields:
        for value in [*EDGES, *EDGES]:
            facts = {**whole, name: value}
            event = spelled(event_type, facts)
            if event is not None:
                assert event == as_the_class_makes_it(event, facts), (name, value)


MADE = ("event_id", "occurred_at")


def test_what_is_plainly_good_is_spelled_without_an_event() -> None:
    about = {"job_id": 7, "attempt_number": 0, "stream_name": "users"}
    assert spelled(e.StreamStats, {**about, "reporter": "source", "sequence": 1, "records_emitted": 2**62})
    assert spelled(e.StreamMetadata, {**about, "was_resumed": True, "stream_namespace": None})
    for wrong in ({"job_id": True}, {"job_id": 7.0}, {"stream_name": "a\0"}, {"was_resumed": 1}, {"x": 1}):
        assert spelled(e.StreamMetadata, {**about, **wrong}) is None
    assert spelled(e.JobCreated, {"job_id": 7, "config_type": "sync", "config_id": "c"}) is None  # has lists


@pytest.mark.parametrize("size", [0, 63, 64, 8191, 8192, 1 << 20, 1 << 21])
def test_texts_of_any_length(size: int) -> None:
    event = e.Failure(job_id=0, attempt_number=0, stacktrace="x" * size)
    assert codec.encode(event) == judged(event)


@pytest.mark.parametrize("bits", range(64))
def test_numbers_of_any_length(bits: int) -> None:
    """Also those that no class allows today, at each length of their spelling."""
    schema = {"type": "record", "name": "JobFailed", "fields": [{"name": "job_id", "type": "long"}]}
    encode = encoder(wire_schema(e.JobFailed, 1, schema))
    parsed = fastavro.parse_schema(schema)
    for number in (2**bits - 1, -(2**bits), 2 ** max(0, bits - 1)):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, {"job_id": number})
        assert encode(e.JobFailed.model_construct(job_id=number))[10:] == out.getvalue()
    for too_large in (2**63, -(2**63) - 1, 2**80):
        with pytest.raises(OverflowError):
            encode(e.JobFailed.model_construct(job_id=too_large))
