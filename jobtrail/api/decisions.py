"""What is said over HTTP is said once: who repeats it publishes the same events again.

An event must be the same however often it comes: id, instant and body. So the instant at which something was
first said is kept, for the ends of attempts and jobs always, for other requests where they bear a key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import Header

from jobtrail.api.context import Context
from jobtrail.api.fields import FilterText
from jobtrail.api.models import Model
from jobtrail.api.reads import Database
from jobtrail.errors import ConflictError, ServerAwayError
from jobtrail.events import Event, decision_id, new_event_id, utc_now
from jobtrail.producers.receipt import Receipt
from jobtrail.projections.generation import named_statements

SQL: Final = named_statements("attempts.sql", "api")

IdempotencyKey = Annotated[
    FilterText | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="A text of the caller's own for this request: who repeats both does nothing twice.",
    ),
]


@dataclass(frozen=True, slots=True)
class Said:
    """When something was first said, and under which ids its events go."""

    at: datetime
    #: What tells it from all else; none: it can be said again, as something new.
    decided: tuple[str | int, ...] = ()
    #: Whether it was not said before.
    fresh: bool = False

    def mark(self, event_type: type[Event], index: int = 0) -> dict[str, Any]:
        """`event_id` and `occurred_at` of its event of this type and index."""
        event_id = decision_id(*self.decided, event_type.__name__, index) if self.decided else new_event_id()
        return {"event_id": event_id, "occurred_at": self.at}


def first_said(database: Database, *decided: str | int, digest: str | None = None) -> Said:
    """Now, or when it was said before. Raises ConflictError where that was with another digest."""
    about = ("http", *decided)
    now = utc_now()
    values = {"decision_id": decision_id(*about), "now": now, "digest": digest}
    row = database.execute(SQL["first_said"], values).fetchone()
    assert row is not None  # noqa: S101  # the statement always has one
    if not row["same_request"]:
        raise ConflictError("the Idempotency-Key belongs to another request; take a new one")
    at = row["decided_at"].astimezone(UTC)
    return Said(at, about, fresh=at == now)


def said_by(context: Context, endpoint: str, body: Model, key: str | None) -> Said:
    """What a request says: something new, or with a key what its first one said. Raises ConflictError."""
    if key is None:
        return Said(utc_now())
    digest = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
    with context.writing() as database:
        return first_said(database, endpoint, key, digest=digest)


def publish(context: Context, events: Sequence[Event], *said: Said) -> Receipt:
    """Publishes the events of what was said; the receipt is the last one's. Raises as `Context.publish` does.

    Where Kafka is away, and nothing became of them, what was said first here counts as not said: an end that
    comes later bears its own instant.
    """
    try:
        return context.publish(*events)[-1]
    except ServerAwayError:
        with context.writing() as database:
            for one in said:
                if one.fresh:
                    mine = {"decision_id": decision_id(*one.decided), "at": one.at}
                    database.execute(SQL["unsay"], mine)
        raise
