"""A range of the event log as a DataFrame. Needs the extra `analytics`, and is imported without it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Final

from jobtrail.consumers.filters import Filters, TypeName
from jobtrail.consumers.starting import aware
from jobtrail.errors import UsageError
from jobtrail.settings import Settings

if TYPE_CHECKING:
    import polars as pl

#: Of the extra.
_NEEDED: Final = frozenset({"polars", "pyarrow", "pyruhvro"})


def frame(
    types: TypeName | Iterable[TypeName] | None = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    job_id: int | None = None,
    connection_id: str | None = None,
    settings: Settings | None = None,
) -> pl.DataFrame:
    """The events of the log that the broker took from `since` on and before `until`, a row for each.

    `types`, `job_id`, `connection_id` choose as in `jobtrail.follow`; `since` and `until` are aware
    datetimes, by default the beginning and the present end of the log. An event that was sent twice is
    there twice: `.unique("event_id")` leaves one.

    Columns: `event_type`; the fields of the types, each null where a type has no such field (instants are
    Datetime("us", "UTC"), lists of records are lists of structs); `topic`, `partition`, `offset` and
    `received_at`, when the broker took it. They depend on `types` alone, so an empty range has them too. Rows
    are in the order of topic, partition and offset.

    It is decoded in bulk, a hundred thousand messages at a time, and the frame itself has to fit into memory:
    some 200 bytes for an event of one type, 500 where all types share the columns. More than 10 million
    events are refused; name types, or go on day by day. With `connection_id` the creations of all jobs are
    read first, from the beginning of the log.

    Messages that are no events are counted in a warning of the log `jobtrail`.

    Raises UsageError for what names no events, for too many, and without the extra; NotFoundError (no such
    topic); LogError (offsets are missing); ServerAwayError; EmbeddedError (no Kafka is set or runs).
    """
    filters = Filters.of(types, job_id, connection_id)
    if since is not None:
        aware("since", since)
    if until is not None:
        aware("until", until)
    if since is not None and until is not None and until < since:
        raise UsageError(f"until: {until.isoformat()} is before since, {since.isoformat()}")
    try:
        from jobtrail.consumers.log_frame import read_frame
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        raise UsageError(
            f"jobtrail.frame needs {error.name}, which is not installed: pip install 'jobtrail[analytics]'"
        ) from None
    return read_frame(settings or Settings.from_env(), filters, since, until)
