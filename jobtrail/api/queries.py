"""What readers ask of the views, for HTTP and the command line alike: the queries of queries.sql, by name.

Values are always bound. Instants leave as timestamptz, sums as numeric or bigint.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, NamedTuple

from jobtrail.projections.generation import named_statements

_COMMENT: Final = re.compile(rb"^ *--.*\n", re.MULTILINE)
#: Without comments: psycopg keeps what it made of a query only where that is short.
_TEXTS: Final = {
    name: _COMMENT.sub(b"", text) for name, text in named_statements("queries.sql", "api").items()
}
#: What several queries have in common stands in queries.sql once; they name it in braces.
_PARTS: Final = ("job_columns", "stream_columns", "counted")
#: By what jobs can be filtered; each is a part of queries.sql and the name of its value.
FILTERS: Final = (
    *("config_types", "config_id", "connection_id", "workspace_ids", "statuses", "not_statuses"),
    "failure_origin",
    *("created_from", "created_to", "updated_from", "updated_to", "after"),
)


class Order(NamedTuple):
    """An order of jobs: by an instant, and by the id between equal ones, so that pages never overlap."""

    #: The column of the instant.
    column: str
    by: str
    #: What a job that comes later begins with: the comparison with a place in the order.
    after: str


def _order(column: str, direction: str, compare: str) -> Order:
    return Order(column, f"{column} {direction}, job_id {direction}", f"({column}, job_id) {compare}")


#: (field, direction) → the order of a job list.
ORDERS: Final = {
    (field, direction): _order(column, direction, compare)
    for field, column in (("createdAt", "created_at"), ("updatedAt", "updated_at"))
    for direction, compare in (("ASC", ">"), ("DESC", "<"))
}


def query(name: str, order: tuple[str, str] = ("createdAt", "DESC"), filters: Collection[str] = ()) -> bytes:
    """A query with its parts, one of ORDERS, and those of FILTERS that are given put in."""
    text = _TEXTS[name]
    given = [b"(\n" + _TEXTS[one] + b"\n)" for one in FILTERS if one in filters]
    text = text.replace(b"{filters}", b" AND ".join(given) or b"true")
    for part in _PARTS:
        text = text.replace(b"{%s}" % part.encode(), _TEXTS[part])
    # Postgres plans anew for each array; for one id it keeps its plan.
    which = b"= %(job_id)s::bigint" if name == "job_light" else b"= ANY (%(job_ids)s::bigint[])"
    text = text.replace(b"{which}", which)
    return text.replace(b"{order}", ORDERS[order].by.encode()).replace(
        b"{after}", ORDERS[order].after.encode()
    )
