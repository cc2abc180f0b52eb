"""What readers ask of the views, for HTTP and the command line alike: the queries of queries.sql, by name.

Values are always bound. Instants leave as timestamptz, sums as numeric or bigint.
"""

from __future__ import annotations

from typing import Final

from jobtrail.projections.generation import named_statements

_TEXTS: Final = named_statements("queries.sql", "api")
#: What several queries have in common stands in queries.sql once; they name it in braces.
_PARTS: Final = ("job_columns", "filters")

#: (field, direction) → the order of a job list; the id decides between equal instants: pages never overlap.
ORDERS: Final = {
    ("createdAt", "ASC"): "created_at, job_id",
    ("createdAt", "DESC"): "created_at DESC, job_id DESC",
    ("updatedAt", "ASC"): "updated_at, job_id",
    ("updatedAt", "DESC"): "updated_at DESC, job_id DESC",
}


def query(name: str, order: tuple[str, str] = ("createdAt", "DESC")) -> bytes:
    """A query with its parts and one of ORDERS put in."""
    text = _TEXTS[name].replace(b"{order}", ORDERS[order].encode())
    for part in _PARTS:
        text = text.replace(b"{%s}" % part.encode(), _TEXTS[part])
    return text
