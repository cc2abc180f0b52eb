"""Lists of jobs: pages by offset or cursor, and exact counts."""

from __future__ import annotations

from typing import Any, Final

from jobtrail.api import cursor
from jobtrail.api.answers import Answer
from jobtrail.api.list_models import (
    MAX_PAGE,
    JobListForWorkspacesRequestBody,
    JobListRequestBody,
    JobOptionalRead,
)
from jobtrail.api.models import JobStatus
from jobtrail.api.queries import ORDERS, query
from jobtrail.api.reads import Database, Row, filters, full_jobs, jobs_count, jobs_page, with_attempts
from jobtrail.errors import FieldError
from jobtrail.job_types import JobType, config_types_of

#: Most rows of one list, however many pages lie before the job that it is to include.
MAX_ROWS: Final = 10 * MAX_PAGE


def job_list(database: Database, request: JobListRequestBody) -> Answer:
    """The jobs that match, with their attempts, and how many match in all: JobReadList.

    Raises FieldError for a cursor that is none, or is of another list.
    """
    found = _filters(request)
    order = (request.order_by_field, request.order_by_method)
    limit, offset, after = request.pagination.page_size, request.pagination.row_offset, {}
    this = cursor.digest(found, order)
    if request.pagination.cursor is not None:
        if request.including_job_id is not None:
            raise FieldError(cursor.FIELD, "goes on behind a page; includingJobId begins at the first one")
        place = cursor.decode(request.pagination.cursor, this)
        offset, after = 0, {"after": place.at, "after_id": place.job_id}
    elif request.including_job_id is not None:
        limit, offset = _up_to(database, found, order, request.including_job_id, limit)
    # One more than asked for tells whether any follow.
    rows = jobs_page(database, found | after, order, limit + 1, offset) if limit else []
    page = rows[:limit]
    more = len(rows) > limit
    answer = {"jobs": with_attempts(database, page), "totalJobCount": jobs_count(database, found)}
    return answer | ({"nextCursor": cursor.encode(this, _place(page[-1], order))} if more else {})


def last_replication_job(database: Database, connection_id: str) -> JobOptionalRead:
    """The connection's newest job that moves or clears data; as in Airbyte, no cancelled one."""
    found = filters(
        connection_id=connection_id,
        config_types=config_types_of(JobType.REPLICATION),
        not_statuses=[JobStatus.CANCELLED],
    )
    rows = jobs_page(database, found, ("createdAt", "DESC"), 1, 0)
    return JobOptionalRead(job=full_jobs(database, rows)[0] if rows else None)


def _filters(request: JobListRequestBody) -> dict[str, Any]:
    workspaces = request.workspace_ids if isinstance(request, JobListForWorkspacesRequestBody) else None
    return filters(
        config_types=request.config_types,
        config_id=request.config_id,
        workspace_ids=workspaces,
        statuses=request.statuses or (request.status and [request.status]),
        created_from=request.created_at_start,
        created_to=request.created_at_end,
        updated_from=request.updated_at_start,
        updated_to=request.updated_at_end,
    )


def _up_to(
    database: Database, found: dict[str, Any], order: tuple[str, str], job_id: int, size: int
) -> tuple[int, int]:
    """Limit and offset of all pages up to the job's, the last MAX_ROWS of them; 0 where it is not."""
    values = {**found, "including_job_id": job_id}
    place = database.execute(query("job_place", order, found), values, prepare=False).fetchone()
    end = -(-place["place"] // size) * size if place else 0
    limit = min(end, MAX_ROWS)
    return limit, end - limit


def _place(row: Row, order: tuple[str, str]) -> cursor.Place:
    return cursor.Place(row[ORDERS[order].column], row["job_id"])
