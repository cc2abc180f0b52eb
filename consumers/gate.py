"""What Avro allows and the read models cannot hold is found here, before the merge.

Columns are compared with the same `Kind` definitions that the event classes are checked by. That only finds
suspects: whether a message is bad, and why, is said by its event class, so the two cannot disagree. First the
extremes of whole columns are looked at; only where they leave a doubt is each row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import cast

import polars as pl
from pydantic.fields import FieldInfo

from jobtrail import codec, kinds
from jobtrail.consumers.decode import KEY, ROW, Decoded, Decoder, Messages
from jobtrail.errors import BadMessageError
from jobtrail.events import Event, Failure
from jobtrail.fields import field_kind, record_type
from jobtrail.kinds import Kind
from jobtrail.producers.safe_text import CONTROLS
from jobtrail.producers.scrub import JSON_SIGNS, LIMITS, SIGNS, shapes
from jobtrail.projections.dead_letter import DeadLetter


def read_many(decoder: Decoder, records: Messages) -> Decoded:
    """The good events of messages as frames, and dead letters for the rest. Raises ServerAwayError."""
    return check(decoder.decode(records), records)


def check(decoded: Decoded, records: Messages) -> Decoded:
    """Good events, and dead letters for the others beside those there are. `records` is what was decoded."""
    frames = {event_type: [frame] for event_type, frame in decoded.good.items()}
    letters = list(decoded.bad)
    for event_type, frame in decoded.frames.items():
        bad = _refused(event_type, frame, records)
        letters += bad.values()
        if bad:
            frame = frame.filter(~pl.col(ROW).is_in(list(bad)))  # noqa: PLW2901  # the good rest of it
        if frame.height:
            frames.setdefault(event_type, []).append(frame.drop(KEY, ROW))
    whole = {event_type: pl.concat(found) for event_type, found in frames.items()}
    if Failure in whole:
        whole[Failure] = scrubbed(whole[Failure])  # as few messages are
    return Decoded(whole, bad=letters)


def scrubbed(frame: pl.DataFrame) -> pl.DataFrame:
    """Failures without what looks like a secret, and within their limits, whoever published them.

    What a body's digest tells of is this too: it is the same however often it is scrubbed, and the digest of
    the whole would help to guess what was taken out.
    """
    doubts = [_has(pl.col("metadata"), JSON_SIGNS)]
    doubts += [_has(pl.col(name), SIGNS) | (pl.col(name).str.len_chars() > LIMITS[name]) for name in LIMITS]
    rows = frame.select(pl.any_horizontal(doubts).fill_null(value=False).arg_true()).to_series()
    if not len(rows):
        return frame
    names = [*LIMITS, "metadata"]
    texts = frame[rows].select(names)
    fit = pl.DataFrame([text | shapes.fields(text) for text in texts.iter_rows(named=True)], texts.schema)
    return frame.with_columns(frame[name].scatter(rows, fit[name]) for name in names)


def _has(text: pl.Expr, signs: Sequence[str]) -> pl.Expr:
    return text.str.contains_any([*signs], ascii_case_insensitive=True) | text.str.contains(CONTROLS)


def _refused(event_type: type[Event], frame: pl.DataFrame, records: Messages) -> dict[int, DeadLetter]:
    """The bad ones, by their row in `records`."""
    bad: dict[int, DeadLetter] = {}
    for event in _suspects(event_type, frame).iter_rows(named=True):
        try:
            codec.build(event_type, event)
        except BadMessageError as error:
            bad[event[ROW]] = records.dead_letter(event[ROW], error.reason, error.detail)
    expected = frame[event_type.key_field].cast(pl.String).cast(pl.Binary)
    wrong = frame[KEY].ne_missing(expected)
    if wrong.any():
        for own, row in frame.filter(wrong).select(event_type.key_field, ROW).iter_rows():
            if row not in bad:
                wrong_key = codec.wrong_key(event_type, own, records.key(row))
                bad[row] = records.dead_letter(row, wrong_key.reason, wrong_key.detail)
    return bad


def _suspects(event_type: type[Event], frame: pl.DataFrame) -> pl.DataFrame:
    """Every row that the event class refuses, and few others."""
    doubts = [] if _is_clean(event_type, frame) else [_suspicious(event_type)]
    for name, kind in _whole(event_type).json:
        problems = [text is not None and kind.problem(text) is not None for text in frame[name]]
        if any(problems):
            doubts.append(pl.lit(pl.Series(problems)))
    return frame.filter(pl.any_horizontal(doubts)) if doubts else frame.clear()


def _is_clean(event_type: type[Event], frame: pl.DataFrame) -> bool:
    """Whether no row can be suspicious, but for what is JSON.

    Whole columns tell, at a third of the cost of looking at each row.
    """
    whole = _whole(event_type)
    shortest, longest, ids, longest_text, texts = frame.select(whole.looks).row(0)
    return (
        shortest == longest == kinds.EVENT_ID_SIZE
        and kinds.are_event_ids(ids)
        and (longest_text or 0) <= whole.most_bytes
        and kinds.NUL not in (texts or "")
        and all(_within(kind, frame[name]) for name, kind in whole.numbers)
    )


def _within(kind: Kind, column: pl.Series) -> bool:
    least, most = cast("tuple[int | None, int | None]", (column.min(), column.max()))
    if least is None or most is None:
        return True
    return (kind.minimum is None or kind.minimum <= least) and (kind.maximum is None or most <= kind.maximum)


@dataclass(frozen=True, slots=True)
class _Whole:
    """What there is to see in an event type's whole columns."""

    #: Size of the shortest and of the longest event id, all ids end to end; size of the longest text that
    #: has a limit, all texts end to end.
    looks: list[pl.Expr]
    #: The least of the limits.
    most_bytes: int
    numbers: list[tuple[str, Kind]]
    json: list[tuple[str, Kind]]


@cache
def _whole(event_type: type[Event]) -> _Whole:
    fields = event_type.model_fields.items()
    own = [(name, kind) for name, field in fields if (kind := field_kind(field))]
    texts = [text for name, field in fields for text in _texts(pl.col(name), field)]
    limited = [(text, kind.max_bytes) for text, kind in texts if kind.max_bytes is not None]
    ids = pl.col("event_id")
    size = ids.str.len_bytes()
    looks = [
        size.min().alias("shortest"),
        size.max().alias("longest"),
        ids.str.join("").alias("ids"),
        _one_below_the_other([text for text, _ in limited]).str.len_bytes().max().alias("longest_text"),
        _one_below_the_other([text for text, _ in texts]).str.join("").alias("texts"),
    ]
    return _Whole(
        looks,
        min((limit for _, limit in limited), default=0),
        [(name, kind) for name, kind in own if kind.avro == "long"],
        [(name, kind) for name, kind in own if kind.json_object],
    )


def _texts(value: pl.Expr, field: FieldInfo) -> Iterator[tuple[pl.Expr, Kind]]:
    """The columns of text in a field, but for event ids and JSON."""
    if record := record_type(field):
        for name, part in record.model_fields.items():
            yield from _texts(value.explode().struct.field(name), part)
    elif (kind := field_kind(field)) and kind.avro == "string" and not (kind.pattern or kind.json_object):
        yield value, kind


def _one_below_the_other(columns: list[pl.Expr]) -> pl.Expr:
    return reduce(pl.Expr.append, columns) if columns else pl.lit(None, dtype=pl.String)


@cache
def _suspicious(event_type: type[Event]) -> pl.Expr:
    """True for every row that the event class refuses, but for its JSON, and for few others; never null."""
    fields = event_type.model_fields.items()
    return pl.any_horizontal(_doubt(pl.col(name), field) for name, field in fields)


def _doubt(value: pl.Expr, field: FieldInfo) -> pl.Expr:
    if record := record_type(field):
        parts = [_doubt(pl.element().struct.field(name), part) for name, part in record.model_fields.items()]
        return value.list.eval(pl.any_horizontal(parts)).list.any()
    kind = field_kind(field)
    doubts = [] if kind is None else _doubts(value, kind)
    return pl.any_horizontal(doubts).fill_null(value=False) if doubts else pl.lit(value=False)


def _doubts(value: pl.Expr, kind: Kind) -> list[pl.Expr]:
    doubts = []
    if kind.minimum is not None:
        doubts.append(value < kind.minimum)
    if kind.maximum is not None and kind.maximum < kinds.INT64_MAX:
        doubts.append(value > kind.maximum)
    if kind.max_bytes is not None:
        doubts.append(value.str.len_bytes() > kind.max_bytes)
    if kind.pattern is not None:
        # Rust's name for the end of the text.
        doubts.append(~value.str.contains(kind.pattern.pattern.replace(r"\Z", r"\z")))
    elif kind.avro == "string" and not kind.json_object:
        doubts.append(value.str.contains(kinds.NUL, literal=True))
    return doubts
