"""What Avro allows and the read models cannot hold is found here, before the merge.

Whole columns are compared with the same `Kind` definitions that the event classes are checked by. That only
finds suspects: whether a message is bad, and why, is said by its event class, so the two cannot disagree.
"""

from __future__ import annotations

from functools import cache

import polars as pl
from pydantic.fields import FieldInfo

from jobtrail import codec, kinds
from jobtrail.consumers.decode import KEY, ROW, Decoded
from jobtrail.consumers.records import Records
from jobtrail.errors import BadMessageError
from jobtrail.events import Event
from jobtrail.fields import field_kind, record_type
from jobtrail.kinds import Kind
from jobtrail.projections.letters import DeadLetter


def check(decoded: Decoded, records: Records) -> Decoded:
    """Good events, and dead letters for the others beside those there are. `records` is what was decoded."""
    good = Decoded(bad=list(decoded.bad))
    for event_type, frame in decoded.frames.items():
        bad = _refused(event_type, frame, records)
        good.bad += bad.values()
        if bad:
            frame = frame.filter(~pl.col(ROW).is_in(list(bad)))  # noqa: PLW2901  # the good rest of it
        if frame.height:
            good.frames[event_type] = frame.drop(KEY, ROW)
    return good


def _refused(event_type: type[Event], frame: pl.DataFrame, records: Records) -> dict[int, DeadLetter]:
    """The bad ones, by their row in `records`."""
    bad: dict[int, DeadLetter] = {}
    suspects = frame.filter(_suspicious(event_type))
    for event in suspects.iter_rows(named=True):
        try:
            codec.build(event_type, event)
        except BadMessageError as error:
            bad[event[ROW]] = records.dead_letter(event[ROW], error.reason, error.detail)
    for expected, row in frame.filter(_wrong_key(event_type)).select(event_type.key_field, ROW).iter_rows():
        if row not in bad:
            found = f"the key is {records.keys[row]!r}, not {str(expected).encode()!r}"
            detail = f"{event_type.__name__}.{event_type.key_field}: {found}"
            bad[row] = records.dead_letter(row, "wrong_key", detail)
    return bad


@cache
def _wrong_key(event_type: type[Event]) -> pl.Expr:
    return pl.col(KEY).ne_missing(pl.col(event_type.key_field).cast(pl.String).cast(pl.Binary))


@cache
def _suspicious(event_type: type[Event]) -> pl.Expr:
    """True for every row that the event class refuses, and for few others; never null."""
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
    elif kind.json_object:
        doubts.append(value.is_not_null())
    elif kind.avro == "string":
        doubts.append(value.str.contains(kinds.NUL, literal=True))
    return doubts
