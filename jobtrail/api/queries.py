"""The queries of queries.sql, by name. A query is bytes, so that psycopg knows it holds no values."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final

_NAMED: Final = re.compile(r"^-- name: (\w+)\n(.*?)^;$", re.MULTILINE | re.DOTALL)
_TEXTS: Final = dict(_NAMED.findall((files("jobtrail") / "api" / "queries.sql").read_text("utf-8")))

#: (field, direction) → the order of a job list; the id decides between equal instants: pages never overlap.
ORDERS: Final = {
    ("createdAt", "ASC"): "created_at, job_id",
    ("createdAt", "DESC"): "created_at DESC, job_id DESC",
    ("updatedAt", "ASC"): "updated_at, job_id",
    ("updatedAt", "DESC"): "updated_at DESC, job_id DESC",
}


def query(name: str) -> bytes:
    """A query that takes no parts."""
    return str(_TEXTS[name]).encode()


def job_query(name: str, order: tuple[str, str] = ("createdAt", "DESC")) -> bytes:
    """jobs_page, jobs_count or job_place, with the filters and one of ORDERS put in."""
    return str(_TEXTS[name]).format(filters=_TEXTS["filters"], order=ORDERS[order]).encode()
