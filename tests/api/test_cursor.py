"""Cursors of job lists, while jobs arrive."""

from __future__ import annotations

import threading
from datetime import UTC
from typing import Any

import pytest
from api_scenes import at, created, made, project
from hypothesis import given
from hypothesis import strategies as st

from jobtrail import events as e
from jobtrail.api import cursor
from jobtrail.errors import FieldError

pytest_plugins = ["api_client"]
SYNCS: dict[str, Any] = {"configTypes": ["sync"]}
ORDERS = [(field, method) for field in ("createdAt", "updatedAt") for method in ("ASC", "DESC")]


def page(http: Any, size: int, at_cursor: str | None, **fields: Any) -> Any:
    pagination = {"pageSize": size} | ({"cursor": at_cursor} if at_cursor else {})
    return http.asked("list", {**SYNCS, **fields, "pagination": pagination})


def walk(http: Any, size: int, **fields: Any) -> list[int]:
    """Ids of all jobs, page by page."""
    found: list[int] = []
    following = None
    while True:
        answer = page(http, size, following, **fields)
        found += [entry["job"]["id"] for entry in answer["jobs"]]
        following = answer.get("nextCursor")
        if following is None:
            return found


@pytest.mark.parametrize(("field", "method"), ORDERS)
def test_pages_by_cursor_are_the_list_in_its_order(http: Any, database: str, field: str, method: str) -> None:
    """Several jobs at the same instant too: the id decides between them."""
    project(database, [created(n, n // 3, config_id=f"c{n % 2}") for n in range(20)])
    order = {"orderByField": field, "orderByMethod": method}
    for filters in ({}, {"configId": "c1"}):
        whole = http.asked("list", {**SYNCS, **order, **filters})
        ids = [entry["job"]["id"] for entry in whole["jobs"]]
        assert "nextCursor" not in whole
        assert ids == sorted(ids, reverse=method == "DESC")
        for size in (1, 3, 7, len(ids)):
            assert walk(http, size, **order, **filters) == ids


@pytest.mark.parametrize("method", ["ASC", "DESC"])
def test_each_job_comes_once_while_others_arrive(http: Any, database: str, method: str) -> None:
    """By offset, pages would shift under the reader; by cursor each job of the beginning comes once."""
    project(database, [created(n, n) for n in range(1000, 1060)])
    stop = threading.Event()

    def arrive() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            # Newer ones, older ones and ones in between, and old ones that go on.
            news = [
                created(2000 + number, 100 + number),
                created(500 + number, -number),
                created(3000 + number, number % 60 + 0.5),
            ]
            about = {"job_id": 1000 + number % 60, "attempt_number": 0}
            project(database, [*news, made(e.AttemptStarted, 500 + number, **about)])

    writer = threading.Thread(target=arrive)
    writer.start()
    try:
        found = walk(http, 4, orderByMethod=method)
    finally:
        stop.set()
        writer.join()
    there = [job_id for job_id in found if 1000 <= job_id < 1060]
    assert there == sorted(range(1000, 1060), reverse=method == "DESC")
    assert len(found) == len(set(found))


def test_by_updated_at_ascending_a_job_that_changes_comes_again_and_none_is_missed(
    http: Any, database: str
) -> None:
    """So a reader that keeps the newest of each has them all as they are."""
    project(database, [created(n, n) for n in range(6)])
    order = {"orderByField": "updatedAt", "orderByMethod": "ASC"}
    first = page(http, 3, None, **order)
    project(database, [made(e.AttemptStarted, 100, job_id=1, attempt_number=0)])
    rest = page(http, 10, first["nextCursor"], **order)
    assert [entry["job"]["id"] for entry in first["jobs"]] == [0, 1, 2]
    assert [(entry["job"]["id"], entry["job"]["status"]) for entry in rest["jobs"]][-1] == (1, "running")
    assert [entry["job"]["id"] for entry in rest["jobs"]] == [3, 4, 5, 1]


def test_a_cursor_follows_a_page_by_offset_and_counts_all(http: Any, database: str) -> None:
    """Whoever began with pages can go on; totalJobCount stays that of the whole list."""
    project(database, [created(n, n) for n in range(10)])
    answer = http.asked("list", {**SYNCS, "pagination": {"pageSize": 2, "rowOffset": 4}})
    answer = page(http, 3, answer["nextCursor"])
    assert [entry["job"]["id"] for entry in answer["jobs"]] == [3, 2, 1]
    assert answer["totalJobCount"] == 10


def test_a_cursor_that_does_not_fit_is_422_and_named(http: Any, database: str) -> None:
    """Malformed, or of a list with another order or other filters."""
    project(database, [created(n, n) for n in range(4)])
    good = page(http, 2, None)["nextCursor"]
    texts = ["", "x", "é", "!" * 34, good[:-1], good + "A", "A" * 34, "A" * 101]
    others: list[dict[str, Any]] = [
        {"orderByMethod": "ASC"},
        {"orderByField": "updatedAt"},
        {"configTypes": ["sync", "refresh"]},
        {"statuses": ["running"]},
        {"createdAtStart": at(0).isoformat()},
        {"includingJobId": 1},
    ]
    wrong: list[dict[str, Any]] = [{"pagination": {"cursor": text}} for text in texts]
    wrong += [{"pagination": {"cursor": good}, **other} for other in others]
    for fields in wrong:
        answer = http.post("list", {**SYNCS, **fields})
        assert answer.status_code == 422, fields
        assert [one["propertyPath"] for one in answer.json()["validationErrors"]] == ["pagination.cursor"]
    same = {"pagination": {"cursor": good, "pageSize": 1, "rowOffset": 7}}
    assert [entry["job"]["id"] for entry in http.asked("list", {**SYNCS, **same})["jobs"]] == [1]


@given(
    st.datetimes(min_value=at(0).replace(tzinfo=None), timezones=st.just(UTC)),
    st.integers(0, 2**63 - 1),
)
def test_a_cursor_keeps_its_place_to_the_microsecond(when: Any, job_id: int) -> None:
    of = cursor.digest({"config_types": ["sync"]}, ("createdAt", "ASC"))
    place = cursor.Place(when, job_id)
    assert cursor.decode(cursor.encode(of, place), of) == place


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda raw: raw.decode("latin-1")))
def test_no_text_but_a_cursor_is_taken_for_one(text: str) -> None:
    """And none breaks the server."""
    of = cursor.digest({"config_types": ["sync"]}, ("createdAt", "ASC"))
    with pytest.raises(FieldError):
        cursor.decode(text, of)
