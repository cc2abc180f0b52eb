"""Dead letters: messages that cannot become events, and what becomes of them.

A letter is open until it is retried or dropped. Its row stays for ever: it says who did that, and when.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from psycopg import Connection
from psycopg.rows import class_row, dict_row, tuple_row

from jobtrail.errors import ConflictError, NotFoundError, UsageError
from jobtrail.near import near
from jobtrail.projections.dead_letter import DeadLetter, Key, Place
from jobtrail.projections.generation import named_statements

__all__ = [
    "DeadLetter",
    "Group",
    "KeptLetter",
    "Key",
    "Open",
    "Place",
    "Resolution",
    "Which",
    "check_reason",
    "chosen",
    "chosen_understood",
    "drop",
    "every",
    "groups",
    "letter_at",
    "mark_retried",
    "newest",
    "open_letters",
    "resolved",
    "take",
    "to_be",
    "waiting",
]

Resolution = Literal["retried", "dropped"]

_SQL: Final = named_statements("letters.sql")
#: Rows that a cursor fetches at a time: a value may have a megabyte.
_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class KeptLetter(DeadLetter):
    """The same as it stands in the table."""

    #: When it was put aside.
    kept_at: datetime
    #: Bytes of the value, also where the value itself was not asked for.
    value_bytes: int | None
    #: When the dead-letter topic had it.
    published_at: datetime | None
    #: What became of it; None: it is open.
    resolution: Resolution | None
    resolved_at: datetime | None
    resolved_by: str | None
    #: The place at which a retry published it.
    retried_as: str | None


@dataclass(frozen=True, slots=True)
class Open:
    """The open letters of one reason."""

    reason: str
    letters: int
    #: Those that were put aside within the last hour.
    new: int


@dataclass(frozen=True, slots=True)
class Group:
    """Letters of one reason."""

    reason: str
    letters: int
    #: When the broker appended the first and the last of them.
    first_at: datetime
    last_at: datetime
    #: Of the last one.
    place: str


@dataclass(frozen=True, slots=True)
class Which:
    """Which letters are meant: the open ones, or those that were retried or dropped."""

    #: None: any.
    reason: str | None = None
    #: Appended by the broker from then on.
    since: datetime | None = None
    resolved: bool = False

    @property
    def values(self) -> dict[str, Any]:
        """For the statements."""
        return {"reason": self.reason, "since": self.since, "resolved": self.resolved}


# Each takes a connection, and lets psycopg's errors pass.


def open_letters(connection: Connection[Any]) -> list[Open]:
    """The open letters by reason."""
    return connection.cursor(row_factory=class_row(Open)).execute(_SQL["open"]).fetchall()


def check_reason(connection: Connection[Any], reason: str) -> None:
    """Raises UsageError for a reason that no letter has, though there are letters."""
    rows = connection.cursor(row_factory=tuple_row).execute(_SQL["reasons"]).fetchall()
    known = [name for (name,) in rows]
    if known and reason not in known:
        raise UsageError(
            f"no dead letter has the reason {reason!r}{near(reason, known)}; there are {', '.join(known)}"
        )


def groups(connection: Connection[Any], which: Which) -> list[Group]:
    """Letters by reason, most first."""
    return connection.cursor(row_factory=class_row(Group)).execute(_SQL["groups"], which.values).fetchall()


def newest(connection: Connection[Any], which: Which, limit: int) -> tuple[list[KeptLetter], int]:
    """The newest, at most `limit`, without their values; and how many there are."""
    counted = connection.cursor(row_factory=dict_row).execute(_SQL["count"], which.values).fetchone() or {}
    cursor = connection.cursor(row_factory=class_row(KeptLetter))
    found = cursor.execute(_SQL["newest"], {**which.values, "limit": limit}).fetchall()
    return found, counted["letters"]


def resolved(connection: Connection[Any], limit: int) -> list[KeptLetter]:
    """Those that were retried or dropped last, at most `limit`, without their values."""
    return (
        connection.cursor(row_factory=class_row(KeptLetter))
        .execute(_SQL["resolved"], {"limit": limit})
        .fetchall()
    )


def every(connection: Connection[Any], which: Which, after: DeadLetter | None = None) -> Iterator[KeptLetter]:
    """All of them with their values, in the order of topic, topic id, partition and offset, behind `after`.

    A few at a time, within one transaction.
    """
    begin = {
        "topic": after and after.topic,
        "topic_id": after and after.topic_id,
        "partition": after and after.partition,
        "offset": after and after.offset,
    }
    with (
        connection.transaction(),
        connection.cursor("letters", row_factory=class_row(KeptLetter)) as cursor,
    ):
        cursor.itersize = _AT_ONCE
        cursor.execute(_SQL["every"], {**which.values, **begin})
        yield from cursor


def letter_at(connection: Connection[Any], place: Place) -> KeptLetter:
    """The letter at a place, open or not.

    Raises NotFoundError where there is none, UsageError where topics of one name have one there each.
    """
    cursor = connection.cursor(row_factory=class_row(KeptLetter))
    found = cursor.execute(_SQL["at"], place._asdict()).fetchall()
    if not found:
        raise NotFoundError(f"no dead letter is at {place}; `jobtrail dead-letters list --all` shows them")
    if len(found) > 1:
        ways = " or ".join(str(place._replace(topic=letter.topic_id)) for letter in found)
        raise UsageError(f"{place} is in {len(found)} topics, one made anew after the other; say {ways}")
    return found[0]


def waiting(connection: Connection[Any], reason: str) -> tuple[int, datetime]:
    """How many letters with a reason are open, and when that was so, for `chosen`."""
    cursor = connection.cursor(row_factory=tuple_row)
    (found,) = cursor.execute(_SQL["waiting"], {"reason": reason})
    return found


def chosen(
    connection: Connection[Any], reason: str | None = None, kept_until: datetime | None = None
) -> list[Key]:
    """The keys of the open letters, in the order of the log; but for those that were put aside later."""
    values = {"reason": reason, "kept_until": kept_until}
    return connection.cursor(row_factory=tuple_row).execute(_SQL["choose"], values).fetchall()


def to_be(resolution: Resolution, letter: KeptLetter) -> None:
    """Raises ConflictError where a letter cannot become that: a dropped one can still be retried."""
    if letter.resolution is not None and (letter.resolution == "retried" or resolution == "dropped"):
        raise ConflictError(
            f"{letter.place} was {letter.resolution} by {letter.resolved_by}; nothing was done"
        )


def chosen_understood(connection: Connection[Any], headers: Sequence[bytes]) -> list[Key]:
    """The same, of the open ones whose schema was unknown and is one of these by now: its first bytes."""
    values = {"headers": list(headers), "size": len(headers[0])}
    return connection.cursor(row_factory=tuple_row).execute(_SQL["choose_understood"], values).fetchall()


def take(connection: Connection[Any], keys: Sequence[Key]) -> list[DeadLetter]:
    """These letters, but for those that were retried meanwhile. Nobody else gets them in this transaction."""
    cursor = connection.cursor(row_factory=class_row(DeadLetter))
    return cursor.execute(_SQL["take"], _columns(keys)).fetchall()


def mark_retried(connection: Connection[Any], retried: Sequence[tuple[DeadLetter, Place]], by: str) -> None:
    """Says of letters where they were published anew."""
    keys = _columns([letter.row_key for letter, _ in retried])
    connection.execute(_SQL["retried"], {**keys, "retried_as": [str(at) for _, at in retried], "by": by})


def drop(connection: Connection[Any], keys: Sequence[Key], by: str) -> int:
    """Takes letters from the lists, if they are open; how many were. Their rows stay, and say who did it."""
    return connection.execute(_SQL["drop"], {**_columns(keys), "by": by}).rowcount


def _columns(keys: Sequence[Key]) -> dict[str, list[Any]]:
    return {
        "topic_ids": [topic_id for topic_id, _, _ in keys],
        "partitions": [partition for _, partition, _ in keys],
        "offsets": [offset for _, _, offset in keys],
    }
